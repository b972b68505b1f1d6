"""A convolution of stride 1 by minimal filtering (`points.py`), with bias and rectifier; sums in float32.

Some squares (`squares_numba.py`) are taken to their points; at each point the products' sums over the maps are a
matrix product (`products_numba.py`), and what comes of it is taken back. All that fits in the cache.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from alexnet.kernels.compiled import compiled, compiled_part, processor_has
from alexnet.kernels.cores import on_all_cores
from alexnet.kernels.lanes_numba import LANES, every, where
from alexnet.kernels.memory_numba import bare, lines, on_a_line, put, take
from alexnet.kernels.points import RESULTS, kernel_at_points, pixels_at_points, results_at_points, side_of_square
from alexnet.kernels.products_numba import block_of_sums
from alexnet.kernels.separable_numba import separable
from alexnet.kernels.squares_numba import Squares, gather, squares_of, where_it_is

SIZES = 3, 5  # of kernels
MOST = side_of_square(SIZES[-1]) ** 2  # points
SEVERAL = 8  # images, at least
ENOUGH = 24  # maps, and kernels for each of them
PRODUCTS = 2 * 10**8  # of a group; fewer are PyTorch's
# How many vectors of sums a processor's registers hold, for so many squares.
ROWS, WIDTHS = (7, (3, 2)) if processor_has("avx512f") else (6, (1, 1))
TOGETHER = 8 * ROWS  # squares that are at the points at a time

pixels3, pixels5 = (separable(pixels_at_points(size)) for size in SIZES)
results3, results5 = (separable(results_at_points(size).T) for size in SIZES)
kernel3, kernel5 = (separable(kernel_at_points(size)) for size in SIZES)
wide_sums, narrow_sums = (block_of_sums(ROWS, vectors) for vectors in WIDTHS)


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
    that are full enough to make half of the products do; all of it twice in bf16, of which a processor may multiply
    twice as many."""
    kernels, maps, size, _ = weight.shape
    times, of_a_group = 2 if x.dtype == torch.bfloat16 else 1, kernels * maps // x.shape[1]
    if len(x) < SEVERAL or min(of_a_group, maps) < ENOUGH * times:
        return False
    cut = squares_of(*x.shape[2:], size, pad)
    height, width = (side + 2 * pad - size + 1 for side in x.shape[2:])
    fewer = 2 * times * cut.rows * cut.columns * cut.side**2 <= height * width * size * size
    return fewer and len(x) * height * width * of_a_group * maps * size * size >= PRODUCTS * times


def fits_back(weight: Tensor, pad: int) -> bool:
    """Whether it can compute its gradient for what went in: maps in whole vectors."""
    return vectors_of(weight.shape[1]) > 0


def forward(x: Tensor, weight: Tensor, bias: Tensor, pad: int, groups: int, rectified: bool) -> Tensor:
    """float[N, C, H, W], float[K, C / groups, size, size], float[K] -> float[N, K, H', W'], channels last.

    pad   lines of zeros on every side. Section 3.5, with the rectifier of 3.1 if it is `rectified`; for what `fits`.
    """
    factors = _at_points(weight.permute(2, 3, 1, 0), len(weight) // groups)
    return _product(x, None, factors, bias.contiguous(), weight.shape[2], pad, groups, rectified)


def backward(g: Tensor, y: Tensor | None, weight: Tensor, pad: int, groups: int) -> Tensor:
    """float[N, K, H', W'], and the output if a rectifier is behind it -> float[N, C, H, W], channels last: the
    gradient of what went in, for what `fits_back`. It is a convolution of `g` with the kernels turned around, maps and
    kernels exchanged."""
    maps, size = weight.shape[1:3]
    turned = weight.unflatten(0, (groups, -1)).flip(3, 4).permute(3, 4, 1, 0, 2).flatten(3)
    factors, nothing = _at_points(turned, maps), weight.new_zeros(groups * maps)
    return _product(g, y, factors, nothing, size, size - 1 - pad, groups, False)


def _at_points(weight: Tensor, of_a_group: int) -> Tensor:
    """float[size, size, C / groups, K] -> float32[K / several, points, C / groups, several], 32 or 48 together."""
    size, _, maps, kernels = weight.shape
    several = LANES * vectors_of(of_a_group)
    result = torch.empty(kernels // several, side_of_square(size) ** 2, maps, several)
    on_all_cores(_kernels, maps, bare(weight.float().contiguous()), bare(result))
    return result


@compiled
def _kernels(first: int, last: int, weight: Any, result: Any) -> None:
    """Those of the maps from `first` to `last`."""
    (_, _, maps, kernels), (_, points, _, several) = weight.shape, result.shape
    given, into = weight.reshape(weight.size), result.reshape(result.size)
    for map_ in range(first, last):
        for kernel in range(0, kernels, LANES):
            block, own = divmod(kernel, several)
            at, to = map_ * kernels + kernel, (block * points * maps + map_) * several + own
            if points < MOST:
                kernel3(given, at, maps * kernels, into, to, maps * several)
            else:
                kernel5(given, at, maps * kernels, into, to, maps * several)


def _product(x: Tensor, y: Tensor | None, factors: Tensor, bias: Tensor, size: int, pad: int, groups: int,
             rectified: bool) -> Tensor:  # fmt: skip
    """The convolution of x, where y is above 0 if it is there, with kernels at their points."""
    x = x.contiguous(memory_format=torch.channels_last)
    images, _, *sides = x.shape
    height, width = (side + 2 * pad - size + 1 for side in sides)
    result = torch.empty((images, len(bias), height, width), dtype=x.dtype, memory_format=torch.channels_last)
    cut = squares_of(*sides, size, pad)
    share = -(-images * cut.rows * cut.columns // TOGETHER)
    above = lines(x if y is None else y).reshape(-1)
    arrays = lines(x), above, bare(factors), bare(bias), lines(result)
    on_all_cores(_forward, share, *arrays, cut, groups, y is not None, rectified)
    return result


@compiled
def _forward(first: int, last: int, x: Any, above: Any, factors: Any, bias: Any, y: Any, cut: Squares, groups: int,
             masked: bool, rectified: bool) -> None:  # fmt: skip
    """The shares from `first` to `last` of all images' squares.

    masked   whether x counts where `above` is above 0 alone: told as a number, as the kernels' size is, since compiled
             for each case by itself it would take ten seconds more
    """
    if first == last:
        return
    blocks, count, maps, several = factors.shape
    of_an_image = cut.rows * cut.columns
    # A line more from point to point: those of a square would share the same places in the cache.
    plane, further = TOGETHER * maps + LANES, TOGETHER * several + LANES
    points = on_a_line(np.zeros(count * plane + LANES, np.float32))
    sums = on_a_line(np.empty(count * further + LANES, np.float32))
    square, offsets = on_a_line(np.empty((MOST + 1) * LANES, np.float32)), np.empty(MOST, np.int64)
    given, numbers, result = x.reshape(x.size), factors.reshape(factors.size), y.reshape(y.size)
    for unit in range(first, last):
        begin = unit * TOGETHER
        squares = min(TOGETHER, x.shape[0] * of_an_image - begin)
        for group in range(groups):
            for each in range(squares):
                image, square_of_it = divmod(begin + each, of_an_image)
                row, column = divmod(square_of_it, cut.columns)
                where_it_is(offsets, cut.side, cut.pixels, image, row, column, x.shape)
                enter(given, above, masked, offsets, count, group * maps, maps, square, points, each * maps, plane)
            for block in range(group * blocks // groups, (group + 1) * blocks // groups):
                _multiply(points, plane, count, numbers, block, maps, several, sums, further, squares)
                for each in range(squares):
                    image, square_of_it = divmod(begin + each, of_an_image)
                    row, column = divmod(square_of_it, cut.columns)
                    where_it_is(offsets, RESULTS, cut.places, image, row, column, y.shape)
                    for kernel in range(0, several, LANES):
                        if count < MOST:
                            results3(sums, each * several + kernel, further, square, 0, LANES)
                        else:
                            results5(sums, each * several + kernel, further, square, 0, LANES)
                        _leave(square, offsets, bias, block * several + kernel, result, rectified)


@compiled_part
def enter(x: Any, above: Any, masked: bool, offsets: Any, count: int, map_: int, maps: int, square: Any, points: Any,
          to: int, plane: int) -> None:  # fmt: skip
    """A square's maps from `map_` on, as many as `maps`, to its points, `count` of them: `gather` says which pixels."""
    for i in range(0, maps, LANES):
        gather(x, above, masked, offsets, count, map_ + i, square)
        if count < MOST:
            pixels3(square, 0, LANES, points, to + i, plane)
        else:
            pixels5(square, 0, LANES, points, to + i, plane)


@compiled_part
def _multiply(points: Any, plane: int, count: int, factors: Any, block: int, maps: int, several: int, sums: Any,
              further: int, squares: int) -> None:  # fmt: skip
    """At each point, some squares' maps by a block of kernels."""
    for point in range(count):
        factor = (block * count + point) * maps * several
        for each in range(0, squares, ROWS):
            at, to = point * plane + each * maps, point * further + each * several
            if several == WIDTHS[0] * LANES:
                wide_sums(points, at, maps, 1, factors, factor, several, maps, sums, to, several, None)
            else:
                narrow_sums(points, at, maps, 1, factors, factor, several, maps, sums, to, several, None)


@compiled_part
def _leave(square: Any, offsets: Any, bias: Any, kernel: int, y: Any, rectified: bool) -> None:
    """A square's results for sixteen kernels, where they have a place."""
    zero, own = every(np.float32(0)), take(bias, kernel)
    for i in range(RESULTS * RESULTS):
        if offsets[i] >= 0:
            found = take(square, i * LANES) + own
            if rectified:
                found = where(found < zero, zero, found)
            put(y, offsets[i] + kernel, None, found)
