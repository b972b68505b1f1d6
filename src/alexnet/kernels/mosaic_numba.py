"""Images, side by side, cut into squares that overlap: what minimal filtering (`winograd_numba.py`) works on.

A square holds what 4 x 4 results see, and 13 results in a row fill three of them and a part of a fourth. Two by two
images with zeros between them fill as many squares as 3.5 x 3.5 each.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from alexnet.kernels.compiled import compiled_part
from alexnet.kernels.lanes_numba import LANES, every, where
from alexnet.kernels.memory_numba import put, take
from alexnet.kernels.points import RESULTS, side_of_square


class Lines(NamedTuple):
    """Where a mosaic's rows and columns are: int64[count, 2], in which image, and which of its own; -1: in none."""

    rows: Any
    columns: Any


class Mosaic(NamedTuple):
    """`across` x `across` images and how they are cut; to compiled code.

    side            of a square, in pixels
    rows, columns   of squares
    pixels, places  where the squares' pixels are, and their results
    """

    across: int
    side: int
    rows: int
    columns: int
    pixels: Lines
    places: Lines


@lru_cache(64)
def mosaic(height: int, width: int, size: int, pad: int, several: bool) -> Mosaic:
    """For images of that height and width, with `pad` zeros around, under kernels of `size`; `several` to a mosaic
    where that takes fewer squares."""
    one, four = ([_squares(side, size, pad, across) for side in (height, width)] for across in (1, 2))
    across = 2 if several and four[0] * four[1] < 4 * one[0] * one[1] else 1
    rows, columns = four if across == 2 else one
    both = ((rows, height), (columns, width))
    pixels = Lines(*(_lines(count * RESULTS + size - 1, side + pad, pad, side, across) for count, side in both))
    places = (_lines(count * RESULTS, side + pad, 0, side + 2 * pad - size + 1, across) for count, side in both)
    return Mosaic(across, side_of_square(size), rows, columns, pixels, Lines(*places))


def _squares(side: int, size: int, pad: int, across: int) -> int:
    """How many squares in a row hold the results of `across` images, `pad` zeros between them."""
    results = side + 2 * pad - size + 1 + (across - 1) * (side + pad)
    return -(-results // RESULTS)


def _lines(count: int, period: int, before: int, own: int, across: int) -> NDArray[np.int64]:
    """`own` lines in each `period`, behind some `before` them."""
    found = [(line // period, line % period - before) for line in range(count)]
    return np.array([(image, line if image < across and 0 <= line < own else -1) for image, line in found])


@compiled_part
def where_it_is(
    offsets: Any, side: int, lines: Lines, cut: Mosaic, which: int, row: int, column: int, shape: Any
) -> None:
    """Of the `which`th mosaic's square at `row` and `column`: where in [N, H, W, C] its side * side pixels or results
    begin; -1: nowhere."""
    images, height, width, maps = shape
    for i in range(side):
        down, line = lines.rows[row * RESULTS + i]
        for j in range(side):
            right, pixel = lines.columns[column * RESULTS + j]
            image = (which * cut.across + down) * cut.across + right
            there = line >= 0 and pixel >= 0 and image < images
            offsets[i * side + j] = ((image * height + line) * width + pixel) * maps if there else -1


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
