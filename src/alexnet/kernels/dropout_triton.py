"""Dropout by counting, on an NVIDIA GPU: Triton has Philox 4x32-10 too."""

import triton
import triton.language as tl
from torch import Tensor

from alexnet.kernels.launching_triton import launching

TILE = 1024  # activities a program handles


def drop(rows: Tensor, y: Tensor, scale: float, seed: Tensor, bound: int, top: int, left: int) -> None:
    """Fill `y`, of the rows' shape [N, D]. The seed is read on the GPU: int64[]."""
    count, columns = rows.numel(), rows.shape[1]
    programs = (triton.cdiv(count, TILE),)
    with launching(rows):
        _drop[programs](rows, y, count, columns, scale, seed, bound, top, left, tile=TILE, enable_fp_fusion=True)


@triton.jit(do_not_specialize=["bound", "top", "left"], do_not_specialize_on_alignment=["seed"])
def _drop(x, y, count, columns, scale, seed, bound, top, left, tile: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * tile + tl.arange(0, tile)
    here = place < count
    column, row = (left + place % columns).to(tl.uint32), (top + place // columns).to(tl.uint32)
    word, _, _, _ = tl.philox(tl.load(seed), column, row, column * 0, column * 0)
    v = tl.load(x + place, here, 0.0).to(tl.float32)
    tl.store(y + place, tl.where(word.to(tl.int64) < bound, v * scale, 0.0), here)
