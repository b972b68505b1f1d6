"""Normalization within a map, on an NVIDIA GPU: tiles of pixels by maps; neighbours are read again, from the cache."""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from alexnet.kernels.launching_triton import launching

TILE = 1024  # activities a program holds


def forward(x: Tensor, y: Tensor, reach: int, k: float, alpha: float, beta: float) -> None:
    """Fill `y`; both channels last."""
    _run(_forward, x, (x, y), reach, (k, alpha, beta))


def backward(x: Tensor, g: Tensor, gradient: Tensor, reach: int, k: float, alpha: float, beta: float) -> None:
    """Fill `gradient`; all channels last."""
    shared = torch.empty_like(x, dtype=torch.float32)
    _run(_share, x, (x, g, shared), reach, (k, alpha, beta))
    _run(_backward, x, (x, g, shared, gradient), reach, (k, alpha, beta))


def _run(kernel: Any, x: Tensor, tensors: tuple[Tensor, ...], reach: int, numbers: tuple[float, ...]) -> None:
    count, maps = x.shape[0] * x.shape[2] * x.shape[3], x.shape[1]
    padded = min(triton.next_power_of_2(maps), TILE)
    pixels = TILE // padded
    grid = triton.cdiv(count, pixels), triton.cdiv(maps, padded)
    with launching(x):
        kernel[grid](*tensors, count, *x.shape[2:], *numbers, maps=maps, reach=reach, padded=padded, pixels=pixels,
                     enable_fp_fusion=True)  # fmt: skip


@triton.jit
def _place(count, height, width, maps: tl.constexpr, padded: tl.constexpr, pixels: tl.constexpr):
    """Row, column, offset and presence of the activities that this program holds: [pixels, padded]."""
    pixel = (tl.program_id(0) * pixels + tl.arange(0, pixels)[:, None]).to(tl.int64)
    map_ = tl.program_id(1) * padded + tl.arange(0, padded)[None, :]
    here = (pixel < count) & (map_ < maps)
    return pixel // width % height, pixel % width, pixel * maps + map_, here


@triton.jit
def _patch_sums(of, squared: tl.constexpr, row, column, own, here, height, width, maps: tl.constexpr,
                reach: tl.constexpr):  # fmt: skip
    """Over the patch around each activity, of what lies at `of` or of its squares."""
    sums = tl.zeros(own.shape, tl.float32)
    for number in range((2 * reach + 1) * (2 * reach + 1)):
        down, right = number // (2 * reach + 1) - reach, number % (2 * reach + 1) - reach
        there = here & (row + down >= 0) & (row + down < height) & (column + right >= 0) & (column + right < width)
        v = tl.load(of + own + (down * width + right) * maps, there, 0.0).to(tl.float32)
        sums += v * v if squared else v
    return sums


@triton.jit
def _forward(x, y, count, height, width, k, alpha, beta, maps: tl.constexpr, reach: tl.constexpr,
             padded: tl.constexpr, pixels: tl.constexpr):  # fmt: skip
    row, column, own, here = _place(count, height, width, maps, padded, pixels)
    d = k + alpha * _patch_sums(x, True, row, column, own, here, height, width, maps, reach)
    v = tl.load(x + own, here, 0.0).to(tl.float32)
    tl.store(y + own, v * tl.exp2(-beta * tl.log2(d)), here)


@triton.jit
def _share(x, g, shared, count, height, width, k, alpha, beta, maps: tl.constexpr, reach: tl.constexpr,
           padded: tl.constexpr, pixels: tl.constexpr):  # fmt: skip
    """g x d^(-beta - 1): what an activity's gradient takes from all of its patch."""
    row, column, own, here = _place(count, height, width, maps, padded, pixels)
    d = k + alpha * _patch_sums(x, True, row, column, own, here, height, width, maps, reach)
    v, down = tl.load(x + own, here, 0.0).to(tl.float32), tl.load(g + own, here, 0.0).to(tl.float32)
    tl.store(shared + own, down * v * tl.exp2((-beta - 1) * tl.log2(d)), here)


@triton.jit
def _backward(x, g, shared, gradient, count, height, width, k, alpha, beta, maps: tl.constexpr, reach: tl.constexpr,
              padded: tl.constexpr, pixels: tl.constexpr):  # fmt: skip
    row, column, own, here = _place(count, height, width, maps, padded, pixels)
    d = k + alpha * _patch_sums(x, True, row, column, own, here, height, width, maps, reach)
    taken = _patch_sums(shared, False, row, column, own, here, height, width, maps, reach)
    v, down = tl.load(x + own, here, 0.0).to(tl.float32), tl.load(g + own, here, 0.0).to(tl.float32)
    tl.store(gradient + own, down * tl.exp2(-beta * tl.log2(d)) - 2 * alpha * beta * v * taken, here)
