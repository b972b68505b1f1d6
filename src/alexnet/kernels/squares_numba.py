"""Images cut into squares that overlap: what minimal filtering (`winograd_numba.py`) works on.

A square holds what some results of a kernel see, by `points.py`. No square holds two images' pixels, which would fill
it better: what is large, or not a number, in one of them would be seen in the other's results.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from alexnet.kernels.compiled import compiled_part
from alexnet.kernels.lanes_numba import LANES, every, where
from alexnet.kernels.memory_numba import put, take
from alexnet.kernels.points import IN_BF16, IN_FLOAT32


class Maps(NamedTuple):
    """What squares are cut from: so many maps, and `before` the first line and pixel as many of zeros."""

    height: int
    width: int
    number: int
    before: int


class Grid(NamedTuple):
    """How images are cut; to compiled code.

    size            of the kernels
    side, results   of a square, in pixels, and on a side
    rows, columns   of squares
    pixels, places  what went in, and the results
    """

    size: int
    side: int
    results: int
    rows: int
    columns: int
    pixels: Maps
    places: Maps


def squares_of(x: Tensor, kernels: int, size: int, pad: int) -> Grid:
    """Of images, float[N, C, H, W], with `pad` zeros around, under so many kernels of `size`."""
    _, maps, height, width = x.shape
    places = Maps(height + 2 * pad - size + 1, width + 2 * pad - size + 1, kernels, 0)
    _, results, _ = points = (IN_BF16 if x.dtype == torch.bfloat16 else IN_FLOAT32)[size]
    rows, columns = -(-places.height // results), -(-places.width // results)
    return Grid(size, points.side, results, rows, columns, Maps(height, width, maps, pad), places)


@compiled_part
def where_it_is(offsets: Any, side: int, by: int, maps: Maps, image: int, row: int, column: int) -> None:
    """Of an image's square at `row` and `column`, each `by` from the next: where in [N, H, W, C] its side * side pixels
    or results begin; -1: nowhere."""
    for i in range(side):
        line = row * by + i - maps.before
        for j in range(side):
            pixel = column * by + j - maps.before
            there = 0 <= line < maps.height and 0 <= pixel < maps.width
            offsets[i * side + j] = ((image * maps.height + line) * maps.width + pixel) * maps.number if there else -1


@compiled_part
def gather(x: Any, above: Any, masked: bool, offsets: Any, count: int, first: int, square: Any) -> Any:
    """Sixteen maps of `count` pixels, zeros where there are none, and those of the `masked` where `above` is at or
    below 0; and their sum."""
    zero = every(np.float32(0))
    total = zero
    for i in range(count):
        own = zero
        if offsets[i] >= 0:
            own = take(x, offsets[i] + first)
            if masked:
                own = where(take(above, offsets[i] + first) <= zero, zero, own)
        total = total + own
        put(square, i * LANES, None, own)
    return total
