"""Blocks of 4 x 4 pixels, on an NVIDIA GPU."""

import triton
import triton.language as tl
from torch import Tensor

TILE = 1024  # numbers a program writes


def fill(x: Tensor, blocks: Tensor, before: int) -> None:
    """As `in_blocks` says; what is left of a block's maps is 0. Both channels last."""
    count = blocks.numel()
    _fill[triton.cdiv(count, TILE),](x, blocks, count, *blocks.shape[2:], *x.shape[2:], before, room=blocks.shape[1],
                                     maps=x.shape[1], tile=TILE)  # fmt: skip


@triton.jit
def _fill(x, blocks, count, rows, columns, height, width, before, room: tl.constexpr, maps: tl.constexpr,
          tile: tl.constexpr):  # fmt: skip
    at = tl.program_id(0).to(tl.int64) * tile + tl.arange(0, tile)
    number, block = (at % room).to(tl.int32), at // room  # a block's numbers: row, column, map
    image, block_row, block_column = block // (rows * columns), (block // columns % rows).to(tl.int32), block % columns
    row = block_row * 4 + number // (4 * maps) - before
    column = block_column.to(tl.int32) * 4 + number // maps % 4 - before
    there = (at < count) & (number < 16 * maps) & (row >= 0) & (row < height) & (column >= 0) & (column < width)
    v = tl.load(x + ((image * height + row) * width + column) * maps + number % maps, there, 0.0)
    tl.store(blocks + at, v, at < count)
