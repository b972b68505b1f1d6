"""A convolution of stride 1 by minimal filtering (`points.py`), with bias and rectifier; sums in float32.

Some squares (`squares_numba.py`) are taken to their points; at each point the products' sums over the maps are a
matrix product (`products_numba.py`), and what comes of it is taken back. All that fits in the cache.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from alexnet.kernels.compiled import compiled, compiled_part, processor_has
from alexnet.kernels.cores import Scratch, on_all_cores
from alexnet.kernels.lanes_numba import LANES, every, where
from alexnet.kernels.memory_numba import bare, lines, put, soon_written, take
from alexnet.kernels.points import IN_BF16, IN_FLOAT32, Points, kernel_at_points, pixels_at_points, results_at_points
from alexnet.kernels.products_numba import block_of_sums
from alexnet.kernels.separable_numba import Matrix, separable
from alexnet.kernels.squares_numba import Grid, gather, squares_of, where_it_is

SIZES = 3, 5  # of kernels
MOST = max(points.side for points in (*IN_FLOAT32.values(), *IN_BF16.values())) ** 2
SEVERAL = 8  # images, at least
MANY = 64  # squares, in bf16
ENOUGH = 24  # maps, and kernels for each of them
PRODUCTS = 2 * 10**8  # of a group; fewer are PyTorch's
# How many vectors of sums a processor's registers hold, for so many squares.
ROWS, WIDTHS = (7, (3, 2)) if processor_has("avx512f") else (6, (1, 1))
TOGETHER = 8 * ROWS  # squares that are at the points at a time, at most


def for_each_size(matrix: Callable[[Points], Matrix]) -> Any:
    """`separable` by the matrix for kernels of a size, which is told first: as a number, since each size would be
    compiled by itself."""
    three, five = (separable(matrix(IN_FLOAT32[size]), matrix(IN_BF16[size])) for size in SIZES)

    @compiled_part
    def by_size(size: int, like: Any, x: Any, at: int, between: int, into: Any, to: int, apart: int,
                ahead: int) -> None:  # fmt: skip
        if size == SIZES[0]:
            three(like, x, at, between, into, to, apart, ahead)
        else:
            five(like, x, at, between, into, to, apart, ahead)

    return by_size


def of_each_width(rows: int) -> Any:
    """`block_of_sums` of so many rows, and of as many vectors as `several` kernels are, which is told first."""
    wide, narrow = (block_of_sums(rows, vectors) for vectors in WIDTHS)

    @compiled_part
    def by_width(several: int, x: Any, at: int, between: int, step: int, y: Any, first: int, width: int, count: int,
                 sums: Any, to: int, apart: int, added: bool | None) -> None:  # fmt: skip
        if several == WIDTHS[0] * LANES:
            wide(x, at, between, step, y, first, width, count, sums, to, apart, added)
        else:
            narrow(x, at, between, step, y, first, width, count, sums, to, apart, added)

    return by_width


pixels = for_each_size(pixels_at_points)
results = for_each_size(lambda points: results_at_points(points).T)
kernel_there = for_each_size(kernel_at_points)
sums_of = of_each_width(ROWS)


class Filtering(NamedTuple):
    """What is filtered, to compiled code.

    together         squares that are at the points at a time, at most
    blocks           of kernels, to a group
    several          kernels to a block
    plane, further   numbers from one point to the next, of what is there and of its products' sums
    masked           whether x counts where `above` is above 0 alone: told as a number, as the kernels' size is, since
                     each case would be compiled by itself
    """

    groups: int
    together: int
    blocks: int
    points: int
    maps: int
    several: int
    plane: int
    further: int
    masked: bool
    rectified: bool


def vectors_of(kernels: int) -> int:
    """How many vectors of them are multiplied together; 0: they are not so many that it fits."""
    return next((vectors for vectors in WIDTHS if kernels % (LANES * vectors) == 0), 0)


def fits(x: Tensor, weight: Tensor, bias: Tensor, pad: int, groups: int) -> bool:
    """Whether minimal filtering can convolve float[N, C, H, W] with float[K, C / groups, size, size] and float[K]:
    kernels of 3 or 5 in whole vectors, over maps in 16s, that have places."""
    (kernels, maps, size, other), sides = weight.shape, x.shape[2:]
    ours = x.dim() == 4 and size == other and size in SIZES and x.shape[1] == maps * groups
    ours = ours and bias.shape == (kernels,) and kernels > 0 <= pad < size
    places = ours and min(sides) > 0 and min(sides) + 2 * pad >= size
    return places and maps > 0 == maps % LANES == kernels % groups and vectors_of(kernels // groups) > 0


def worth_it(x: Tensor, weight: Tensor, pad: int) -> bool:
    """Whether it gains more than going to the points and back takes: enough products, images and maps, and squares
    that are full enough to make half of the products do. In bf16, of which a processor may multiply twice as many,
    28 percent, of twice as much, and squares to share the kernels' way to the points."""
    kernels, maps, size, _ = weight.shape
    half, of_a_group = x.dtype == torch.bfloat16, kernels * maps // x.shape[1]
    times, part = (2, 0.28) if half else (1, 0.5)
    if len(x) < SEVERAL or min(of_a_group, maps) < ENOUGH * times:
        return False
    cut = squares_of(x, kernels, size, pad)
    places, squares = cut.places.height * cut.places.width, cut.rows * cut.columns
    fewer = squares * cut.side**2 <= part * places * size * size and len(x) * squares >= MANY * half
    return fewer and len(x) * places * of_a_group * maps * size * size >= PRODUCTS * times


def fits_back(weight: Tensor, pad: int) -> bool:
    """Whether it can compute its gradient for what went in: maps in whole vectors."""
    return vectors_of(weight.shape[1]) > 0


def forward(x: Tensor, weight: Tensor, bias: Tensor, pad: int, groups: int, rectified: bool) -> Tensor:
    """float[N, C, H, W], float[K, C / groups, size, size], float[K] -> float[N, K, H', W'], channels last.

    pad   lines of zeros on every side. Section 3.5, with the rectifier of 3.1 if it is `rectified`; for what `fits`.
    """
    cut = squares_of(x, len(weight), weight.shape[2], pad)
    factors = _at_points(weight.permute(2, 3, 1, 0), len(weight) // groups, cut)
    return _product(x, None, factors, bias.contiguous(), cut, groups, rectified)


def backward(g: Tensor, y: Tensor | None, weight: Tensor, pad: int, groups: int) -> Tensor:
    """float[N, K, H', W'], and the output if a rectifier is behind it -> float[N, C, H, W], channels last: the
    gradient of what went in, for what `fits_back`. It is a convolution of `g` with the kernels turned around, maps and
    kernels exchanged."""
    maps, size = weight.shape[1:3]
    turned = weight.unflatten(0, (groups, -1)).flip(3, 4).permute(3, 4, 1, 0, 2).flatten(3)
    cut = squares_of(g, groups * maps, size, size - 1 - pad)
    return _product(g, y, _at_points(turned, maps, cut), weight.new_zeros(groups * maps), cut, groups, False)


def _at_points(weight: Tensor, of_a_group: int, cut: Grid) -> Tensor:
    """float[size, size, C / groups, K] -> float32[K / several, points, C / groups, several], `several` together."""
    size, _, maps, kernels = weight.shape
    several = LANES * vectors_of(of_a_group)
    result = weight.new_empty(kernels // several, cut.side**2, maps, several, dtype=torch.float32)
    given = bare(weight.contiguous().view(-1))
    on_all_cores(_kernels, maps, given, bare(result.view(-1)), size, kernels, *result.shape[1:])
    return result


@compiled
def _kernels(first: int, last: int, weight: Any, result: Any, size: int, kernels: int, points: int, maps: int,
             several: int) -> None:  # fmt: skip
    """Those of the maps from `first` to `last`."""
    for map_ in range(first, last):
        for kernel in range(0, kernels, LANES):
            block, own = divmod(kernel, several)
            at, to = map_ * kernels + kernel, (block * points * maps + map_) * several + own
            kernel_there(size, weight, weight, at, maps * kernels, result, to, maps * several, LANES)


def _product(x: Tensor, y: Tensor | None, factors: Tensor, bias: Tensor, cut: Grid, groups: int,
             rectified: bool) -> Tensor:  # fmt: skip
    """The convolution of x, where y is above 0 if it is there, with kernels at their points."""
    x, above = (each.contiguous(memory_format=torch.channels_last) for each in (x, x if y is None else y))
    shape = len(x), len(bias), cut.places.height, cut.places.width
    result = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    squares, (blocks, points, maps, several) = len(x) * cut.rows * cut.columns, factors.shape
    rows = -(-squares // ROWS)
    # A line more from point to point: those of a square would share the same places in the cache.
    together = min(TOGETHER, rows * ROWS)
    plane, further = together * maps + LANES, together * several + LANES
    arrays = lines(x), lines(above), bare(factors.view(-1)), bare(bias), lines(result)
    at_points, sums = Scratch(points * plane, np.float32), Scratch(points * further, np.float32)
    own = at_points, sums, Scratch(MOST * LANES, np.float32), Scratch(MOST, np.int64)
    how = Filtering(groups, together, blocks // groups, points, maps, several, plane, further, y is not None, rectified)
    on_all_cores(_forward, rows, *arrays, *own, squares, cut, how)
    return result


@compiled
def _forward(first: int, last: int, x: Any, above: Any, factors: Any, bias: Any, y: Any, points: Any, sums: Any,
             square: Any, offsets: Any, all_squares: int, cut: Grid, how: Filtering) -> None:  # fmt: skip
    """All images' squares by `ROWS`, as they are multiplied, from the `first` of these to the `last`."""
    groups, maps, several = how.groups, how.maps, how.several
    end = min(last * ROWS, all_squares)
    for begin in range(first * ROWS, end, how.together):
        squares = min(how.together, end - begin)
        for group in range(groups):
            for each in range(squares):
                ahead = where_it_is(offsets, cut.side, cut.pixels, cut, begin + each)
                enter(x, above, how.masked, offsets, cut, group * maps, maps, ahead, square, points, each * maps, LANES,
                      how.plane)  # fmt: skip
            for block in range(group * how.blocks, (group + 1) * how.blocks):
                _multiply(points, factors, block, sums, squares, how)
                for each in range(squares):
                    ahead = where_it_is(offsets, cut.results, cut.places, cut, begin + each)
                    for kernel in range(0, several, LANES):
                        results(cut.size, y, sums, each * several + kernel, how.further, square, 0, LANES, LANES)
                        _leave(square, offsets, cut.results**2, ahead, bias, block * several + kernel, y,
                               how.rectified)  # fmt: skip


@compiled_part
def enter(x: Any, above: Any, masked: bool, offsets: Any, cut: Grid, map_: int, maps: int, ahead: int, square: Any,
          points: Any, to: int, apart: int, plane: int) -> None:  # fmt: skip
    """A square's maps from `map_` on, as many as `maps`, to its points, each sixteen of them `apart` from the last:
    `gather` says which pixels."""
    for i in range(maps // LANES):
        gather(x, above, masked, offsets, cut.side**2, map_ + i * LANES, ahead, square)
        pixels(cut.size, x, square, 0, LANES, points, to + i * apart, plane, apart)


@compiled_part
def _multiply(points: Any, factors: Any, block: int, sums: Any, squares: int, how: Filtering) -> None:
    """At each point, some squares' maps by a block of kernels."""
    maps, several = how.maps, how.several
    for point in range(how.points):
        factor = (block * how.points + point) * maps * several
        for each in range(0, squares, ROWS):
            at, to = point * how.plane + each * maps, point * how.further + each * several
            sums_of(several, points, at, maps, 1, factors, factor, several, maps, sums, to, several, None)


@compiled_part
def _leave(square: Any, offsets: Any, count: int, ahead: int, bias: Any, kernel: int, y: Any,
           rectified: bool) -> None:  # fmt: skip
    """A square's results, `count`, for sixteen kernels, where they have a place. What is so far ahead will be next."""
    zero, own = every(np.float32(0)), take(bias, kernel)
    for i in range(count):
        if offsets[i] >= 0:
            soon_written(y, offsets[i] + kernel + ahead)
            found = take(square, i * LANES) + own
            if rectified:
                found = where(found < zero, zero, found)
            put(y, offsets[i] + kernel, None, found)
