"""Section 5: the update rule as one sweep over weights, velocity and gradient, and the bf16 copy that products read."""

from typing import Any

import torch
from torch import Tensor

from alexnet.kernels.choice import way
from alexnet.kernels.compiled import compiled, compiled_part
from alexnet.kernels.cores import on_all_cores
from alexnet.kernels.lanes_numba import LANES
from alexnet.kernels.memory_numba import Floats, bare, put, soon_read, soon_written, take

CHUNK = 2**14  # numbers: what is shared out between threads are these
AHEAD = 256  # numbers: so far before it is its turn is a line of them called into the cache
PIECE = 2**17  # where nothing is compiled: numbers that stay in the cache through four operations


@torch.no_grad()
def move(weight: Tensor, velocity: Tensor, gradient: Tensor, copy: Tensor | None, numbers: Tensor) -> None:
    """v <- momentum v - pull w - rate g, w <- w + v, copy <- w, in place; section 5's pull is decay times rate.

    weight, velocity   float, of one shape and layout; float32 in training
    gradient           of the same shape, in the weight's kind or bf16
    copy               bf16, or none: what the next step's products read
    numbers            float32[3] (float64 where the weight is), momentum, pull and rate; on the weight's device, so
                       that a recorded step moves at another rate when it is replayed
    """
    if gradient.stride() != weight.stride():
        gradient = torch.empty_like(weight, dtype=gradient.dtype).copy_(gradient)
    flat = [each if each is None else _flat(each) for each in (weight, velocity, gradient, copy)]
    kinds = {each.dtype for each in flat if each is not None}
    masters = weight.dtype == torch.float32 and kinds <= {torch.float32, torch.bfloat16}
    if way(weight) == "numba" and (masters or kinds == {torch.float64}):
        arrays = [each if each is None else bare(each) for each in flat]
        chunks = -(-weight.numel() // CHUNK)
        on_all_cores(_sweep, chunks, *arrays, bare(numbers.to(weight.dtype)))
        return
    if way(weight) == "triton" and masters:
        from alexnet.kernels import update_rule_triton

        update_rule_triton.move(flat, numbers)
        return
    momentum, pull, rate = numbers
    pieces = [each.split(PIECE if each.device.type == "cpu" else len(each)) for each in flat if each is not None]
    for w_, v_, g_, *copies in zip(*pieces, strict=True):
        v_.mul_(momentum).addcmul_(w_, pull, value=-1).addcmul_(g_, rate, value=-1)
        w_.add_(v_)
        for each in copies:
            each.copy_(w_)


def _flat(x: Tensor) -> Tensor:
    """Its numbers in the order of its memory, which has no gaps."""
    return x.detach().as_strided((x.numel(),), (1,))


@compiled
def _sweep(first: int, last: int, w: Floats, v: Floats, g: Floats, copy: Floats | None, numbers: Floats) -> None:
    """The chunks `first` to `last`."""
    momentum, pull, rate = numbers[0], numbers[1], numbers[2]
    begin, end = first * CHUNK, min(last * CHUNK, w.shape[0])
    whole = end - (end - begin) % LANES
    for i in range(begin, whole, LANES):
        soon_read(g, i + AHEAD)
        moved(w, v, copy, i, AHEAD, None, take(g, i, None), momentum, pull, rate)
    if whole < end:
        moved(w, v, copy, whole, 0, end - whole, take(g, whole, end - whole), momentum, pull, rate)


@compiled_part
def moved(w: Floats, v: Floats, copy: Floats | None, i: int, ahead: int, left: int | None, gradient: Any,
          momentum: Any, pull: Any, rate: Any) -> None:  # fmt: skip
    """16 weights from the i-th on, of which so many are `left`; what is so far `ahead` is called into the cache."""
    soon_written(w, i + ahead)
    soon_written(v, i + ahead)
    if copy is not None:
        soon_written(copy, i + ahead)
    weight = take(w, i, left)
    velocity = momentum * take(v, i, left) - pull * weight - rate * gradient
    weight = weight + velocity
    put(v, i, left, velocity)
    put(w, i, left, weight)
    if copy is not None:
        put(copy, i, left, weight)
