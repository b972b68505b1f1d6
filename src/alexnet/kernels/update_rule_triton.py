"""Section 5's update rule as one sweep, on an NVIDIA GPU."""

from collections.abc import Sequence

import triton
import triton.language as tl
from torch import Tensor

from alexnet.kernels.launching_triton import launching

TILE = 1024  # numbers a program moves


def move(flat: Sequence[Tensor | None], numbers: Tensor) -> None:
    """In place: weights, velocities, gradients and the copy, or None, all flat and of one length."""
    w, v, g, copy = flat
    assert w is not None
    with launching(w):
        _move[(triton.cdiv(len(w), TILE),)](
            w, v, g, w if copy is None else copy, len(w), numbers,
            copied=copy is not None, tile=TILE, enable_fp_fusion=True,
        )  # fmt: skip


@triton.jit(do_not_specialize_on_alignment=["numbers"])  # one of several rows
def _move(w, v, g, copy, count, numbers, copied: tl.constexpr, tile: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * tile + tl.arange(0, tile)
    here = place < count
    momentum, pull, rate = tl.load(numbers), tl.load(numbers + 1), tl.load(numbers + 2)
    weight = tl.load(w + place, here, 0.0)
    velocity = momentum * tl.load(v + place, here, 0.0) - pull * weight
    velocity -= rate * tl.load(g + place, here, 0.0).to(tl.float32)
    weight += velocity
    tl.store(v + place, velocity, here)
    tl.store(w + place, weight, here)
    if copied:
        tl.store(copy + place, weight, here)
