"""Images cut into squares that overlap: what minimal filtering (`winograd_numba.py`) works on.

A square holds what 4 x 4 results see. No square holds two images' pixels, which would fill it better: what is large, or
not a number, in one of them would be seen in the other's results.
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
    """Where the squares' rows and columns are: int64[count], which of the image's own each is; -1: none."""

    rows: Any
    columns: Any


class Squares(NamedTuple):
    """How images are cut; to compiled code.

    side            of a square, in pixels
    rows, columns   of squares
    pixels, places  where the squares' pixels are, and their results
    """

    side: int
    rows: int
    columns: int
    pixels: Lines
    places: Lines


@lru_cache(64)
def squares_of(height: int, width: int, size: int, pad: int) -> Squares:
    """Of images of that height and width, with `pad` zeros around, under kernels of `size`."""
    sides, results = (height, width), [side + 2 * pad - size + 1 for side in (height, width)]
    rows, columns = (-(-count // RESULTS) for count in results)
    pixels = (_lines(count * RESULTS + size - 1, pad, side) for count, side in zip((rows, columns), sides, strict=True))
    places = (_lines(count * RESULTS, 0, own) for count, own in zip((rows, columns), results, strict=True))
    return Squares(side_of_square(size), rows, columns, Lines(*pixels), Lines(*places))


def _lines(count: int, before: int, own: int) -> NDArray[np.int64]:
    """`own` lines behind some `before` them, of `count`."""
    return np.array([line - before if 0 <= line - before < own else -1 for line in range(count)])


@compiled_part
def where_it_is(offsets: Any, side: int, lines: Lines, image: int, row: int, column: int, shape: Any) -> None:
    """Of an image's square at `row` and `column`: where in [N, H, W, C] its side * side pixels or results begin; -1:
    nowhere."""
    _, height, width, maps = shape
    for i in range(side):
        line = lines.rows[row * RESULTS + i]
        for j in range(side):
            pixel = lines.columns[column * RESULTS + j]
            there = line >= 0 and pixel >= 0
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
