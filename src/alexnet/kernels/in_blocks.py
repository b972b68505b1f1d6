"""A convolution of stride 4 as one of stride 1 over blocks of 4 x 4 pixels.

Matrix units take many maps at a time, and an image has three; a block's 48 numbers are as many maps. Zeros fill the
kernels up to whole blocks, a fifth more products for 11 x 11, and with AMX the gradient takes a third of the time. On a
GPU zeros fill the maps up to 64: cuDNN has faster kernels for these, whose results are the same each time.
(What is not finite makes those products NaN: it reaches three pixels further than the kernels do.)
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from alexnet.kernels.compiled import compiled
from alexnet.kernels.cores import on_all_cores
from alexnet.kernels.lanes_numba import LANES
from alexnet.kernels.memory_numba import Floats, lines, put, soon_read, take

SIDE = 4  # of a block, in pixels
ON_GPU = 64  # maps that a block's are filled up to


class InBlocks(torch.autograd.Function):
    """float[N, C, H, W] -> float[N, room, rows, columns], channels last: the blocks that kernels reach."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kind: torch.dtype, pad: tuple[int, int], size: int) -> Tensor:  # type: ignore[override]
        x = x.contiguous(memory_format=torch.channels_last)
        shape = shape_of_blocks(x, pad, size)
        blocks = torch.empty(shape, dtype=kind, device=x.device, memory_format=torch.channels_last)
        if x.is_cuda:
            from alexnet.kernels import in_blocks_triton

            in_blocks_triton.fill(x, blocks, pad[0])
        else:
            on_all_cores(_fill, len(x), lines(x), lines(blocks), tuple(x.shape[1:]), tuple(blocks.shape[2:]), pad[0])
        ctx.shape, ctx.before = x.shape, pad[0]
        return blocks

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        (images, maps, height, width), (rows, columns) = ctx.shape, g.shape[2:]
        filled = g.permute(0, 2, 3, 1)[..., : SIDE * SIDE * maps]
        pixels = filled.reshape(images, rows, columns, SIDE, SIDE, maps).transpose(2, 3)
        pixels = pixels.reshape(images, SIDE * rows, SIDE * columns, maps).permute(0, 3, 1, 2)
        before = ctx.before
        beyond = (max(0, before + side - SIDE * n) for side, n in ((width, columns), (height, rows)))
        right, below = beyond  # pixels that no block reaches
        whole = F.pad(pixels, (0, right, 0, below))
        return whole[:, :, before : before + height, before : before + width], None, None, None


def shape_of_blocks(x: Tensor, pad: tuple[int, int], size: int) -> tuple[int, ...]:
    """[N, room, rows, columns] of the blocks that kernels of `size` reach."""
    rows, columns = ((side + sum(pad) - size) // SIDE + -(-size // SIDE) for side in x.shape[2:])
    return len(x), maps_of_a_block(x), rows, columns


def maps_of_a_block(x: Tensor) -> int:
    """How many maps a block of these images has."""
    numbers = SIDE * SIDE * x.shape[1]
    return -(-numbers // ON_GPU) * ON_GPU if x.is_cuda else numbers


def kernels_in_blocks(weight: Tensor, room: int) -> Tensor:
    """float[K, C, size, size] -> float[K, room, size', size'], a block's numbers in the order of `_fill`."""
    kernels, maps, size, _ = weight.shape
    blocks = -(-size // SIDE)
    short = blocks * SIDE - size
    whole = F.pad(weight, (0, short, 0, short)).reshape(kernels, maps, blocks, SIDE, blocks, SIDE)
    filled = whole.permute(0, 3, 5, 1, 2, 4).reshape(kernels, SIDE * SIDE * maps, blocks, blocks)
    return F.pad(filled, (0, 0, 0, 0, 0, room - filled.shape[1]))


@compiled
def _fill(first: int, last: int, x: Floats, blocks: Floats, shape: tuple[int, int, int], counts: tuple[int, int],
          before: int) -> None:  # fmt: skip
    """Those of the images `first` to `last`: a block's four rows of four pixels, one after the other.

    Most are put as whole sixteens, whose rest is written over by what follows.
    """
    (maps, height, width), (rows, columns) = shape, counts
    pixels, line = SIDE * maps, width * maps
    nothing, reach, to = take(x, 0, 0), -(-pixels // LANES) * LANES, first * rows * columns * SIDE * pixels
    for image in range(first, last):
        for r in range(rows):
            for c in range(columns):
                left = (SIDE * c - before) * maps
                for row in range(SIDE * r - before, SIDE * (r + 1) - before):
                    there, at = 0 <= row < height, (image * height + row) * line + left
                    if there and left >= 0 and left + reach <= line and c + 1 < columns:
                        soon_read(x, at + SIDE * line)
                        for j in range(0, pixels, LANES):
                            put(blocks, to + j, None, take(x, at + j))
                    else:
                        for j in range(0, pixels, LANES):
                            put(blocks, to + j, pixels - j, nothing)
                        end = min(pixels, line - left) if there else 0
                        for j in range(max(0, -left), end, LANES):
                            put(blocks, to + j, end - j, take(x, at + j, end - j))
                    to += pixels
