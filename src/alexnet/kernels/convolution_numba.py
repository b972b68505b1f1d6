"""A convolution of stride 1 in bf16, with bias and rectifier, and its gradient for what went in, on tiles.

Tiles are fast out of the caches only: some images are laid out at a time (`laid_numba.py`) and multiplied by 32 kernels
after 32. The sums are written while the next ones are computed.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from alexnet.kernels.compiled import compiled, compiled_part
from alexnet.kernels.cores import Scratch, on_all_cores
from alexnet.kernels.laid_numba import Laid, enter_image, kernels_in_tiles, laid_out, turned_in_tiles
from alexnet.kernels.lanes_numba import every, where
from alexnet.kernels.memory_numba import Floats, bare, lines, put, soon_written, take
from alexnet.kernels.tiles_numba import (
    AREA,
    BLOCK,
    DEPTH,
    TILE,
    there_are_tiles,
    tile_add,
    tile_clear,
    tile_put,
    tile_shapes,
    tile_take,
    tiles_begin,
    tiles_end,
)

TOGETHER = 6  # images at a time, at most
PLACES, PRODUCTS = 2**11, 10**9  # fewer are PyTorch's: laying out takes longer than it gains
SUMS = BLOCK * BLOCK  # numbers in the four tiles of sums


class Cut(NamedTuple):
    """How much there is, and how it is taken; to compiled code.

    together    images that are laid out at a time
    apart       images to a share of the work
    of_a_tile   pixels; the second tile holds the next ones of the row, or the same row of the pair's other image
    """

    images: int
    maps: int
    height: int
    width: int
    rows: int
    columns: int
    kernels: int
    groups: int
    together: int
    apart: int
    of_a_tile: int


class Pending(NamedTuple):
    """Sums that are to be written: where they are, of how many pixels of both tiles, to where, of which kernels."""

    sums: int
    near: int
    far: int
    to: int
    further: int
    block: int


class Result(NamedTuple):
    """What compiled code writes to: the maps, and what it needs for it."""

    y: Any
    bias: Any
    sums: Any
    kernels: int


def fits(x: Tensor, weight: Tensor, bias: Tensor, pad: int, groups: int) -> bool:
    """Whether tiles can convolve float[N, C, H, W] with float[K, C / groups, size, size] and float[K]: square kernels
    in 32s, over maps in 16s, that have places; images for all cores."""
    (kernels, maps, size, other), sides = weight.shape, x.shape[2:]
    ours = x.dim() == 4 and size == other and x.shape[1] == maps * groups and bias.shape == (kernels,) and kernels > 0
    places = min(sides) > 0 and min(sides) + 2 * pad >= size and len(x) >= 2 * torch.get_num_threads()
    return ours and places and maps % TILE == 0 and kernels % (BLOCK * groups) == 0 and there_are_tiles()


def worth_it(x: Tensor, weight: Tensor, pad: int) -> bool:
    """Whether it is as much work as laying out is worth: enough places for the kernels, and enough products."""
    size = weight.shape[-1]
    places = len(x) * (x.shape[2] + 2 * pad - size + 1) * (x.shape[3] + 2 * pad - size + 1)
    return size > 1 and places >= PLACES and places * weight.numel() >= PRODUCTS


def fits_back(weight: Tensor, pad: int) -> bool:
    """Whether tiles can compute its gradient for what went in: maps in 32s."""
    return weight.shape[1] % BLOCK == 0 and pad < weight.shape[2]


def forward(x: Tensor, weight: Tensor, bias: Tensor, pad: int, groups: int, rectified: bool) -> Tensor:
    """bf16[N, C, H, W], bf16[K, C / groups, size, size], bf16[K] -> bf16[N, K, H', W'], channels last.

    pad   lines of zeros on every side. Section 3.5, with the rectifier of 3.1 if it is `rectified`; for what `fits`.
    """
    return _product(x, None, kernels_in_tiles(weight), bias.contiguous(), weight.shape[1], weight.shape[2], pad, groups,
                    rectified)  # fmt: skip


def backward(g: Tensor, y: Tensor | None, weight: Tensor, pad: int, groups: int) -> Tensor:
    """bf16[N, K, H', W'], and the output if a rectifier is behind it -> bf16[N, C, H, W], channels last: the gradient
    of what went in, for what `fits_back`. It is a convolution of `g` with the kernels turned around, maps and kernels
    exchanged."""
    kernels, maps, size, _ = weight.shape
    tiles, nothing = turned_in_tiles(weight, groups), weight.new_zeros(groups * maps)
    return _product(g, y, tiles, nothing, kernels // groups, size, size - 1 - pad, groups, False)


def _product(x: Tensor, y: Tensor | None, factors: Tensor, bias: Tensor, maps: int, size: int, pad: int, groups: int,
             rectified: bool) -> Tensor:  # fmt: skip
    """The convolution of x, where y is above 0 if it is there, with kernels that have been laid out."""
    x, above = (each.contiguous(memory_format=torch.channels_last) for each in (x, x if y is None else y))
    images, channels, height, width = x.shape
    rows, columns = (side + 2 * pad - size + 1 for side in (height, width))
    shape = images, len(bias), rows, columns
    result = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    laid, offsets = laid_out(maps, size, height, width, pad)
    in_pairs, of_a_tile = columns <= TILE, pixels_of_a_tile(columns)
    share = -(-images // 2) if in_pairs else images
    together, room = TOGETHER if in_pairs else 1, groups * laid.planes * laid.size
    numbers, sums = Scratch(together * room + DEPTH, np.uint16, zeros=True), Scratch(2 * SUMS + TILE, np.float32)
    arrays = lines(x), None if y is None else lines(above), bare(factors), bare(bias), lines(result), numbers, sums
    cut = Cut(images, channels, height, width, rows, columns, len(bias), groups, together, 1 + in_pairs, of_a_tile)
    on_all_cores(_forward, share, *arrays, offsets, tile_shapes(of_a_tile), laid, cut, rectified or None)
    return result


def pixels_of_a_tile(columns: int) -> int:
    """How many of a row's pixels a tile holds: all, or as few as fill the rows' tiles, two at a time, most evenly."""
    return columns if columns <= TILE else -(-columns // (2 * -(-columns // BLOCK)))


@compiled
def _forward(first: int, last: int, x: Any, above: Any, factors: Any, bias: Any, y: Any, numbers: Any, sums: Any,
             offsets: Any, shape: Any, laid: Laid, cut: Cut, rectified: bool | None) -> None:  # fmt: skip
    """The images from `first` to `last`, or pairs of them."""
    images, maps, height, width, rows, columns, kernels, groups, together, apart, of_a_tile = cut
    plane, room, blocks = laid.planes * laid.size, groups * laid.planes * laid.size, kernels // BLOCK
    result = Result(y, bias, sums, kernels)
    wide = columns if apart == 2 else 2 * of_a_tile
    pending = Pending(0, 0, 0, 0, 0, 0)
    tiles_begin(shape)
    begun, until = first * apart, min(last * apart, images)
    for image in range(begun, until, together):
        here = min(together, until - image)
        for each in range(here):
            start = (image + each) * height * width * maps
            enter_image(x, above, start, height, width, maps, numbers, each * room, laid, groups)
        for block in range(blocks):
            group, factor = block // (blocks // groups), block * offsets.shape[0] * 2 * AREA
            for each in range(0, here, apart):
                two = min(here - each, 2) - 1  # whether there is a pair
                for row in range(rows):
                    for column in range(0, columns, wide):
                        at = each * room + group * plane + (row * laid.width + column) * DEPTH
                        to = (((image + each) * rows + row) * columns + column) * kernels + block * BLOCK
                        near = min(of_a_tile, columns - column)
                        if apart == 2:
                            below, further, far = two * room, to + rows * columns * kernels, two * columns
                        else:
                            below, further = of_a_tile * DEPTH, to + of_a_tile * kernels
                            far = max(0, min(of_a_tile, columns - column - of_a_tile))
                        _multiply(numbers, at, below, factors, factor, offsets, result, rectified, pending)
                        pending = Pending(SUMS - pending.sums, near, far, to, further, block * BLOCK)
                        _leave(sums, pending.sums)
    for pixel in range(pending.near + pending.far):
        _write(result, pixel, rectified, pending)
    tiles_end()


@compiled_part
def _multiply(rows: Any, at: int, below: int, factors: Any, first: int, offsets: Any, result: Any,
              rectified: bool | None, pending: Any) -> None:  # fmt: skip
    """Two tiles of pixels, the second `below` the first, by two of kernels. Meanwhile the last sums are written."""
    tile_clear(0)
    tile_clear(1)
    tile_clear(2)
    tile_clear(3)
    steps, count = offsets.shape[0], pending.near + pending.far
    several = -(-BLOCK // steps)
    for step in range(steps):
        here, factor = at + offsets[step], first + step * 2 * AREA
        tile_take(4, rows, here, DEPTH)
        tile_take(6, factors, factor, DEPTH)
        tile_add(0, 4, 6)
        tile_take(7, factors, factor + AREA, DEPTH)
        tile_add(1, 4, 7)
        tile_take(5, rows, here + below, DEPTH)
        tile_add(2, 5, 6)
        tile_add(3, 5, 7)
        for pixel in range(step * several, min((step + 1) * several, count)):
            _write(result, pixel, rectified, pending)


@compiled_part
def _leave(sums: Floats, at: int) -> None:
    """The four tiles of sums, as 32 pixels of 32 kernels."""
    tile_put(0, sums, at, BLOCK)
    tile_put(1, sums, at + TILE, BLOCK)
    tile_put(2, sums, at + TILE * BLOCK, BLOCK)
    tile_put(3, sums, at + TILE * BLOCK + TILE, BLOCK)


@compiled_part
def _write(result: Any, pixel: int, rectified: bool | None, pending: Any) -> None:
    """One pixel of 32 maps."""
    zero, far = every(np.float32(0)), pixel - pending.near
    if far < 0:
        at, to = pending.sums + pixel * BLOCK, pending.to + pixel * result.kernels
    else:
        at, to = pending.sums + (TILE + far) * BLOCK, pending.further + far * result.kernels
    soon_written(result.y, to + 2 * BLOCK * result.kernels)
    for side in range(0, BLOCK, TILE):
        own = take(result.sums, at + side) + take(result.bias, pending.block + side)
        if rectified is not None:
            own = where(own < zero, zero, own)
        put(result.y, to + side, None, own)
