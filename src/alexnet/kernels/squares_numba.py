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
from alexnet.kernels.memory_numba import put, soon_read, take
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
def where_it_is(offsets: Any, side: int, maps: Maps, cut: Grid, which: int) -> Any:
    """Of one of all images' squares: where in [N, H, W, C] its side * side pixels or results begin; -1: nowhere. And
    how far behind these the next square's begin."""
    image, line_of_it, pixel_of_it = _corner(cut, which)
    for i in range(side):
        line = line_of_it + i - maps.before
        for j in range(side):
            pixel = pixel_of_it + j - maps.before
            there = 0 <= line < maps.height and 0 <= pixel < maps.width
            offsets[i * side + j] = ((image * maps.height + line) * maps.width + pixel) * maps.number if there else -1
    following, line, pixel = _corner(cut, which + 1)
    lines = (following - image) * maps.height + line - line_of_it
    return (lines * maps.width + pixel - pixel_of_it) * maps.number


@compiled_part
def _corner(cut: Grid, which: int) -> Any:
    """A square's image, and the line and the pixel where it begins."""
    image, square = divmod(which, cut.rows * cut.columns)
    row, column = divmod(square, cut.columns)
    return image, row * cut.results, column * cut.results


@compiled_part
def gather(x: Any, above: Any, masked: bool, offsets: Any, count: int, first: int, ahead: int, square: Any) -> Any:
    """Sixteen maps of `count` pixels, zeros where there are none, and those of the `masked` where `above` is at or
    below 0; and their sum. What is so far ahead is called into the cache."""
    zero = every(np.float32(0))
    total = zero
    for i in range(count):
        own = zero
        if offsets[i] >= 0:
            at = offsets[i] + first
            soon_read(x, at + ahead)
            own = take(x, at)
            if masked:
                soon_read(above, at + ahead)
                own = where(take(above, at) <= zero, zero, own)
        total = total + own
        put(square, i * LANES, None, own)
    return total
