"""How a convolution's images and kernels are laid out in tiles: `convolution_numba.py` multiplies them.

An image's maps come in planes of 32, pixel behind pixel, zeros around them: sixteen neighbours in a row are a tile,
wherever they begin. Sixteen maps that are left over share a plane with those of the pixel to their right, and two of a
kernel's columns are multiplied at once. (What is not finite there makes products NaN that it is no part of: those of
the pixel to its left, which for the first of a line is the last of the one before.)
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alexnet.kernels.compiled import compiled, compiled_part
from alexnet.kernels.cores import Scratch, on_all_cores
from alexnet.kernels.lanes_numba import LANES, bits
from alexnet.kernels.memory_numba import bare, let_through, put, take
from alexnet.kernels.tiles_numba import AREA, BLOCK, DEPTH, PAIRS, TILE, interleaved, turn


class Laid(NamedTuple):
    """How an image is laid out, to compiled code.

    planes, whole   of a group, and how many of them hold 32 maps of one pixel
    width           pixels in a line, zeros included
    size            numbers in a plane
    before          zeros before the first line and pixel
    """

    planes: int
    whole: int
    width: int
    size: int
    before: int


def kernels_in_tiles(weight: Tensor) -> Tensor:
    """bf16[K, C / groups, size, size] -> bf16[K / 32 * steps * 2 * 512]: each 32 kernels' steps, two tiles of columns
    to a step (section 3.5). K is a multiple of 32, C / groups of 16."""
    kernels, maps, size, _ = weight.shape
    steps = _steps(maps, size)
    tiles = weight.new_empty(kernels // BLOCK * len(steps) * 2 * AREA)
    numbers = weight.permute(0, 2, 3, 1).reshape(kernels, -1).contiguous()
    numbers = numbers.clone() if numbers.storage_offset() % 2 else numbers  # pairs of them are read as one
    words, square = numbers.view(torch.int32).view(-1).numpy(), Scratch(TILE * PAIRS, np.int32)
    length = len(words) // kernels
    on_all_cores(_enter_kernels, kernels // BLOCK, words, length, tiles.view(torch.int32).numpy(), steps, square)
    return tiles


def turned_in_tiles(weight: Tensor, groups: int) -> Tensor:
    """The same of kernels turned by half a turn, maps and kernels exchanged; K / groups, too, is a multiple of 32,
    and so is C / groups."""
    kernels, maps, size, _ = weight.shape
    steps = _steps(kernels // groups, size)
    tiles = weight.new_empty(groups * maps // BLOCK * len(steps) * 2 * AREA)
    arrays = bare(weight.permute(0, 2, 3, 1).reshape(-1).contiguous()), tiles.view(torch.int32).numpy(), steps
    on_all_cores(_enter_turned, groups * maps // BLOCK, *arrays, kernels // groups, size * size, maps)
    return tiles


@lru_cache(64)
def _steps(maps: int, size: int) -> NDArray[np.int64]:
    """int64[steps, 2]: where in a kernel the eight pairs of weights begin that are multiplied first in each step of a
    sum, and the eight that are multiplied then; -1: none."""
    whole, found = maps // DEPTH, []
    for plane in range(-(-maps // DEPTH)):
        for place in _places(plane, whole, size):
            near = (place * maps + plane * DEPTH) // 2
            beside = near + maps // 2 if place % size + 1 < size else -1
            found.append((near, near + PAIRS // 2 if plane < whole else beside))
    return np.array(found)


def _places(plane: int, whole: int, size: int) -> list[int]:
    """At which of a kernel's places steps of that plane begin: each, or each second of a line."""
    return [row * size + column for row in range(size) for column in range(0, size, 1 if plane < whole else 2)]


@lru_cache(64)
def laid_out(maps: int, size: int, height: int, width: int, pad: int) -> tuple[Laid, NDArray[np.int64]]:
    """How images of so many maps to a group, height and width are laid out, with `pad` zeros around, for square kernels
    of `size`; and int64[steps]: where, from a pixel's own place, a step's numbers lie."""
    whole, left = divmod(maps, DEPTH)
    line = width + pad  # a line's zeros behind it are the next one's before
    beyond = 2 * BLOCK + pad  # pixels that are read behind the last
    laid = Laid(whole + (left > 0), whole, line, (line * (height + 2 * pad) + beyond) * DEPTH, pad)
    planes = range(laid.planes)
    places = [(plane, *divmod(place, size)) for plane in planes for place in _places(plane, whole, size)]
    return laid, np.array([plane * laid.size + (row * line + column) * DEPTH for plane, row, column in places])


@compiled
def _enter_kernels(first: int, last: int, words: Any, length: int, tiles: Any, which: Any, square: Any) -> None:
    """The kernels' 32s from `first` to `last`, as columns: two tiles to a step."""
    steps = which.shape[0]
    for block in range(first, last):
        for step in range(steps):
            near, far = which[step, 0], which[step, 1]
            for side in range(2):
                for kernel in range(TILE):
                    at, to = (block * BLOCK + side * TILE + kernel) * length, kernel * PAIRS
                    if far == near + PAIRS // 2:
                        put(square, to, None, take(words, at + near))
                    else:
                        for pair in range(PAIRS // 2):
                            square[to + pair] = words[at + near + pair]
                            square[to + PAIRS // 2 + pair] = words[at + far + pair] if far >= 0 else np.int32(0)
                turn(square, tiles, ((block * steps + step) * 2 + side) * (AREA // 2))


@compiled
def _enter_turned(first: int, last: int, weight: Any, tiles: Any, which: Any, share: int, places: int,
                  maps: int) -> None:  # fmt: skip
    """The maps' 32s from `first` to `last`, as columns: two tiles to a step, pairs of kernels side by side.

    weight   bf16[groups, share, places, maps]
    """
    steps, apart = which.shape[0], places * maps
    for block in range(first, last):
        group, map_ = divmod(block * BLOCK, maps)
        for step in range(steps):
            for pair in range(PAIRS):
                to = (block * steps + step) * AREA + pair * TILE
                place, kernel = divmod(2 * (which[step, 0] + pair), share)
                at = ((group * share + kernel) * places + places - 1 - place) * maps + map_
                for side in range(2):
                    here = at + side * TILE
                    pairs = interleaved(bits(take(weight, here)), bits(take(weight, here + apart)))
                    put(tiles, to + side * (AREA // 2), None, pairs)


@compiled_part
def enter_image(x: Any, above: Any, at: int, height: int, width: int, maps: int, into: Any, to: int, laid: Laid,
                 groups: int) -> None:  # fmt: skip
    """An image's maps, and 0 where `above`, if there is one, is not above 0."""
    share = maps // groups
    for row in range(height):
        for group in range(groups):
            for plane in range(laid.planes):
                source = at + row * width * maps + group * share + plane * DEPTH
                target = to + (group * laid.planes + plane) * laid.size
                target += ((row + laid.before) * laid.width + laid.before) * DEPTH
                for column in range(width):
                    here, there = source + column * maps, target + column * DEPTH
                    left = let_through(x, above, here, width * maps, None)
                    put(into, there, None, left)
                    if plane < laid.whole:
                        put(into, there + LANES, None, let_through(x, above, here + LANES, width * maps, None))
                    elif column + laid.before > 0:
                        put(into, there - LANES, None, left)
