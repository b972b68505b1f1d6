"""Blocks of 4 x 4 pixels, on an NVIDIA GPU: a row of them by a program, of each four runs of four pixels."""

import triton
import triton.language as tl
from torch import Tensor

from alexnet.kernels.launching_triton import launching

WIDE = 64  # blocks of a row that a program fills


def fill(x: Tensor, blocks: Tensor, before: int) -> None:
    """As `in_blocks` says; what is left of a block's maps is 0. Both channels last."""
    (images, maps, height, width), (room, rows, columns) = x.shape, blocks.shape[1:]
    run, rest = triton.next_power_of_2(4 * maps), triton.next_power_of_2(max(1, room - 16 * maps))
    grid = images * rows, triton.cdiv(columns, WIDE)
    with launching(x):
        _fill[grid](x, blocks, rows, columns, height, width, before, room=room, maps=maps, run=run, rest=rest,
                    wide=WIDE, enable_fp_fusion=True)  # fmt: skip


@triton.jit
def _fill(x, blocks, rows, columns, height, width, before, room: tl.constexpr, maps: tl.constexpr, run: tl.constexpr,
          rest: tl.constexpr, wide: tl.constexpr):  # fmt: skip
    line, block = tl.program_id(0), tl.program_id(1) * wide + tl.arange(0, wide)[:, None]
    along, behind, here = tl.arange(0, run)[None, :], tl.arange(0, rest)[None, :], block < columns
    into = blocks + (line.to(tl.int64) * columns + block) * room
    for i in tl.static_range(4):
        # (+ block * 0: Triton's interpreter takes a scalar condition for a number)
        row, at = line % rows * 4 + i - before + block * 0, (block * 4 - before) * maps + along
        own = here & (along < 4 * maps)
        there = own & (row >= 0) & (row < height) & (at >= 0) & (at < width * maps)
        source = (line // rows).to(tl.int64) * height + row
        tl.store(into + i * 4 * maps + along, tl.load(x + source * (width * maps) + at, there, 0.0), own)
    if room > 16 * maps:
        left = 16 * maps + behind
        tl.store(into + left, tl.zeros((wide, rest), tl.float32), here & (left < room))
