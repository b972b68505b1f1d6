"""Section 4.2: dropout whose masks are a function of (seed, row, column), counted and not drawn.

Philox 4x32-10 (Salmon, Moraes, Dror and Shaw, 2011) makes a number of (column, row, 0, 0) under the key that is the
seed: any part of a mask can be computed anywhere, on any device, and a kernel's backward computes it again instead of
keeping it.
"""

from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from alexnet.kernels.choice import way
from alexnet.kernels.compiled import compiled
from alexnet.kernels.cores import Scratch, on_all_cores
from alexnet.kernels.lanes_numba import LANES, where
from alexnet.kernels.memory_numba import WIDE, Floats, bare, put, take

LOW = 0xFFFFFFFF
MULTIPLIERS, WEYL, ROUNDS = (0xD2511F53, 0xCD9E8D57), (0x9E3779B9, 0xBB67AE85), 10


def dropped(x: Tensor, *, keep: float, scale: float, seed: Tensor, row: int = 0, column: int = 0) -> Tensor:
    """Each activity times `scale` with probability `keep`, otherwise 0.

    x             float[N, ...]; a row is an image, a column an activity in the order of its indices
    seed          int64[], from 0; where x is, so that a recorded step draws other masks each time it is replayed
    row, column   where x begins, if it is a part of something larger
    returns       the same shape and kind
    """
    if way(x) == "plain":
        columns = torch.arange(column, column + prod(x.shape[1:]), device=x.device)
        rows = torch.arange(row, row + len(x), device=x.device)[:, None]
        zero = torch.zeros((), dtype=torch.int64, device=x.device)
        words = philox(columns[None], rows, zero, zero, seed & LOW, seed >> 32)
        return torch.where(words.reshape(x.shape) < _bound(keep), x * scale, 0)
    y: Tensor = _Dropped.apply(x, keep, scale, seed, row, column)
    return y


def _bound(keep: float) -> int:
    """What 32 bits are below with that probability."""
    return round(keep * 2**32)


class _Dropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, keep: float, scale: float, seed: Tensor, row: int, column: int) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(seed)
        ctx.rest = keep, scale, row, column
        rows = x.reshape(len(x), prod(x.shape[1:])).contiguous()
        y, bound = torch.empty_like(rows), _bound(keep)
        if way(x) == "triton":
            from alexnet.kernels import dropout_triton

            dropout_triton.drop(rows, y, scale, seed, bound, row, column)
        else:
            numbers = np.array([scale, 0], WIDE[x.dtype])
            counts = np.array([int(seed), bound, row, column], np.uint64)
            flat, length = (bare(rows.view(-1)), bare(y.view(-1))), rows.shape[1]
            on_all_cores(_drop, len(rows), *flat, Scratch(length, numbers.dtype), length, numbers, counts)
        return y.reshape(x.shape)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (seed,), (keep, scale, row, column) = ctx.saved_tensors, ctx.rest
        part = dropped(g, keep=keep, scale=scale, seed=seed, row=row, column=column)
        return part, None, None, None, None, None


def philox(c0: Tensor, c1: Tensor, c2: Tensor, c3: Tensor, key0: Tensor, key1: Tensor) -> Tensor:
    """The first 32 bits of Philox 4x32-10: int64 of the counters' common shape; they and the keys are below 2^32."""
    for _ in range(ROUNDS):
        first, second = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]  # of 64 bits, the sign is one of them
        c0, c2 = (second >> 32 & LOW) ^ c1 ^ key0, (first >> 32 & LOW) ^ c3 ^ key1
        c1, c3 = second & LOW, first & LOW
        key0, key1 = (key0 + WEYL[0]) & LOW, (key1 + WEYL[1]) & LOW
    return c0


@compiled
def _drop(first: int, last: int, x: Floats, y: Floats, kept: Floats, length: int, numbers: Floats,
          counts: Any) -> None:  # fmt: skip
    """The rows `first` to `last`."""
    scale, zero = numbers[0], numbers[1]
    seed, bound, top, left = counts[0], counts[1], counts[2], counts[3]
    low, high = np.uint64(LOW), np.uint64(32)
    for row in range(first, last):
        for i in range(length):
            c0, c1, c2, c3 = left + np.uint64(i), top + np.uint64(row), np.uint64(0), np.uint64(0)
            key0, key1 = seed & low, seed >> high
            for _ in range(ROUNDS):
                one, other = c0 * np.uint64(MULTIPLIERS[0]), c2 * np.uint64(MULTIPLIERS[1])
                c0, c2 = (other >> high) ^ c1 ^ key0, (one >> high) ^ c3 ^ key1
                c1, c3 = other & low, one & low
                key0, key1 = (key0 + np.uint64(WEYL[0])) & low, (key1 + np.uint64(WEYL[1])) & low
            kept[i] = scale if c0 < bound else zero
        for i in range(0, length, LANES):
            at, by = row * length + i, take(kept, i, length - i)
            put(y, at, length - i, where(by > zero, by * take(x, at, length - i), zero))
