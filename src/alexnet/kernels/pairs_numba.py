"""Images in pairs, side by side: for a weights' gradient AMX multiplies 32 pixels of a row at a time.

Rows of 13 leave most of that empty; two images with zeros between them fill it.
"""

import numpy as np
import torch
from torch import Tensor

from alexnet.kernels.compiled import compiled
from alexnet.kernels.cores import on_all_cores
from alexnet.kernels.lanes_numba import LANES, every
from alexnet.kernels.memory_numba import Floats, let_through, lines, put, soon_written
from alexnet.kernels.tiles_numba import DEPTH


def pairs_fit(x: Tensor, size: int, pad: int) -> bool:
    """Whether two images, float[N, C, H, W], fit into a row of tiles, and kernels of `size` leave them as wide."""
    return size == 2 * pad + 1 and len(x) % 2 == 0 and 2 * x.shape[3] + pad <= DEPTH


def in_pairs(x: Tensor, above: Tensor | None, gap: int) -> Tensor:
    """float[2 N, C, H, W] -> float[N, C, H, W + gap + W], channels last, `gap` columns of zeros between; and 0
    where `above`, of x's shape and kind, if there is one, is at or below 0."""
    images, maps, height, width = x.shape
    pairs = x.new_empty(images // 2, height, 2 * width + gap, maps).permute(0, 3, 1, 2)
    x = x.contiguous(memory_format=torch.channels_last)
    masks = None if above is None else lines(above.contiguous(memory_format=torch.channels_last))
    on_all_cores(_pair, images // 2, lines(x), masks, lines(pairs), height, width * maps, gap * maps)
    return pairs


@compiled
def _pair(first: int, last: int, x: Floats, above: Floats | None, pairs: Floats, height: int, line: int,
          between: int) -> None:  # fmt: skip
    """The pairs `first` to `last`, of lines of so many numbers."""
    zero = every(np.float32(0))
    for pair in range(first, last):
        for row in range(height):
            to = (pair * height + row) * (2 * line + between)
            for i in range(0, between, LANES):
                put(pairs, to + line + i, between - i, zero)
            for image in range(2):
                at, there = ((2 * pair + image) * height + row) * line, to + image * (line + between)
                for i in range(0, line, LANES):
                    soon_written(pairs, there + 2 * line + between + i)
                    put(pairs, there + i, line - i, let_through(x, above, at + i, line, line - i))
