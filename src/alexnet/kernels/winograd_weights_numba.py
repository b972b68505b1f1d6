"""The gradients of a convolution's weights and biases by minimal filtering (`points.py`); sums in float32.

Squares of pixels and of the results' gradients are taken to the points, some images at a time; at each point, the sums
of their products over all squares are a matrix product, and grow from images to images.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from alexnet.kernels.compiled import compiled, compiled_part
from alexnet.kernels.cores import on_all_cores
from alexnet.kernels.lanes_numba import LANES
from alexnet.kernels.memory_numba import bare, lines, on_a_line, put, take
from alexnet.kernels.points import RESULTS, kernel_at_points, results_at_points
from alexnet.kernels.products_numba import block_of_sums
from alexnet.kernels.separable_numba import separable
from alexnet.kernels.squares_numba import Squares, gather, squares_of, where_it_is
from alexnet.kernels.winograd_numba import MOST, SIZES, WIDTHS, enter, vectors_of

MAPS = 8 if WIDTHS[0] > 1 else 4  # of a block of sums
SQUARES = 1.25  # for each map, that are multiplied before the next ones enter: then the sums' own way is short enough

gradients3, gradients5 = (separable(results_at_points(size)) for size in SIZES)
weights3, weights5 = (separable(kernel_at_points(size).T) for size in SIZES)
wide_products, narrow_products = (block_of_sums(MAPS, vectors) for vectors in WIDTHS)


class Share(NamedTuple):
    """How sums are shared out: by group, by its maps and by its kernels, into so many parts, and how many kernels are
    multiplied together; to compiled code."""

    groups: int
    of_maps: int
    of_kernels: int
    several: int


def weights(x: Tensor, g: Tensor, y: Tensor | None, size: int, pad: int, groups: int) -> tuple[Tensor, Tensor]:
    """float[N, C, H, W], float[N, K, H', W'], and the output if a rectifier is behind it ->
    float[K, C / groups, size, size], channels last, and float[K]: the gradients of weights and biases (sections 3.5
    and 5), the same for any number of threads. For what `fits`."""
    x, g = (each.contiguous(memory_format=torch.channels_last) for each in (x, g))
    images, channels, *sides = x.shape
    maps, kernels = channels // groups, g.shape[1] // groups
    cut = squares_of(*sides, size, pad)
    rows = images * cut.rows
    together = max(1, round(SQUARES * maps / cut.columns))
    learnt, tallies = torch.zeros(groups, cut.side**2, maps, kernels), torch.zeros(rows, groups * kernels)
    above, share = lines(g if y is None else y).reshape(-1), shared_out(groups, maps, kernels)
    arrays = lines(x), lines(g), above, bare(learnt), bare(tallies)
    on_all_cores(_grow, share.groups * share.of_maps * share.of_kernels, *arrays, y is not None, cut, share,
                 min(together, rows))  # fmt: skip
    found = torch.empty(size, size, maps, groups * kernels)
    on_all_cores(_from_points, groups * maps, bare(learnt), bare(found))
    of_biases = torch.from_numpy(bare(tallies).sum(0))
    of_weights = found.permute(3, 2, 0, 1).to(x.dtype, memory_format=torch.channels_last)
    return of_weights, of_biases.to(x.dtype)


def shared_out(groups: int, maps: int, kernels: int) -> Share:
    """A part for each thread at least, if there are so many: what has most blocks left is halved."""
    of_maps, of_kernels, several = 1, 1, LANES * vectors_of(kernels)
    while groups * of_maps * of_kernels < torch.get_num_threads():
        left = maps // LANES // of_maps, kernels // several // of_kernels
        if max(left) < 2:
            break
        of_maps, of_kernels = (2 * of_maps, of_kernels) if left[0] > left[1] else (of_maps, 2 * of_kernels)
    return Share(groups, of_maps, of_kernels, several)


@compiled
def _grow(first: int, last: int, x: Any, g: Any, above: Any, learnt: Any, tallies: Any, masked: bool, cut: Squares,
          share: Share, together: int) -> None:  # fmt: skip
    """The parts from `first` to `last` of the sums over all squares, so many rows of squares `together`."""
    if first == last:
        return
    (_, count, maps, kernels), rows, several = learnt.shape, tallies.shape[0], share.several
    square, offsets = on_a_line(np.empty((MOST + 1) * LANES, np.float32)), np.empty(MOST, np.int64)
    room = together * cut.columns
    points = on_a_line(np.empty(count * (room * maps + LANES) + LANES, np.float32))
    spread = on_a_line(np.empty(count * (room * kernels + LANES) + LANES, np.float32))
    for part in range(first, last):
        group, within = divmod(part, share.of_maps * share.of_kernels)
        map_, own = _part(maps // LANES, within // share.of_kernels, share.of_maps, LANES)
        kernel, wide = _part(kernels // several, within % share.of_kernels, share.of_kernels, several)
        plane, further = room * own + LANES, room * wide + LANES
        for begin in range(0, rows, together):
            here = min(together, rows - begin)
            _enter_x(x, group * maps + map_, own, begin, here, cut, square, offsets, points, plane)
            _enter_g(g, above, masked, group * kernels + kernel, wide, begin, here, cut, square, offsets, spread,
                     further, tallies, map_ == 0)  # fmt: skip
            _sum(points, plane, own, spread, further, wide, several, here * cut.columns, learnt, group, map_,
                 kernel)  # fmt: skip


@compiled_part
def _part(blocks: int, which: int, parts: int, of_a_block: int) -> Any:
    """Where a part of the blocks begins, and how many maps or kernels it has."""
    begin, end = blocks * which // parts, blocks * (which + 1) // parts
    return begin * of_a_block, (end - begin) * of_a_block


@compiled_part
def _enter_x(x: Any, map_: int, own: int, begin: int, here: int, cut: Squares, square: Any, offsets: Any,
             points: Any, plane: int) -> None:  # fmt: skip
    """Some rows of squares, of their maps from `map_` on `own`, to the points."""
    given, count = x.reshape(x.size), cut.side * cut.side
    for each in range(here * cut.columns):
        row, column = divmod(each, cut.columns)
        image, row = divmod(begin + row, cut.rows)
        where_it_is(offsets, cut.side, cut.pixels, image, row, column, x.shape)
        enter(given, given, False, offsets, count, map_, own, square, points, each * own, plane)


@compiled_part
def _enter_g(g: Any, above: Any, masked: bool, kernel: int, wide: int, begin: int, here: int, cut: Squares,
             square: Any, offsets: Any, spread: Any, further: int, tallies: Any, tallied: bool) -> None:  # fmt: skip
    """Their gradients of the kernels from `kernel` on, `wide`, to the points; and each row's sums, if they are
    `tallied`."""
    given, tally, count = g.reshape(g.size), tallies.reshape(tallies.size), RESULTS * RESULTS
    for each in range(here * cut.columns):
        row, column = divmod(each, cut.columns)
        line = begin + row
        image, row = divmod(line, cut.rows)
        where_it_is(offsets, RESULTS, cut.places, image, row, column, g.shape)
        for i in range(0, wide, LANES):
            total = gather(given, above, masked, offsets, count, kernel + i, square)
            if tallied:
                at = line * tallies.shape[1] + kernel + i
                put(tally, at, None, take(tally, at) + total)
            if cut.side * cut.side < MOST:
                gradients3(square, 0, LANES, spread, each * wide + i, further)
            else:
                gradients5(square, 0, LANES, spread, each * wide + i, further)


@compiled_part
def _sum(points: Any, plane: int, own: int, spread: Any, further: int, wide: int, several: int, squares: int,
         learnt: Any, group: int, map_: int, kernel: int) -> None:  # fmt: skip
    """At each point, the sums of some maps and kernels grow by what these squares add."""
    _, count, maps, kernels = learnt.shape
    sums = learnt.reshape(learnt.size)
    for point in range(count):
        for i in range(0, wide, several):
            for j in range(0, own, MAPS):
                to = ((group * count + point) * maps + map_ + j) * kernels + kernel + i
                at, first = point * plane + j, point * further + i
                if several == WIDTHS[0] * LANES:
                    wide_products(points, at, 1, own, spread, first, wide, squares, sums, to, kernels, True)
                else:
                    narrow_products(points, at, 1, own, spread, first, wide, squares, sums, to, kernels, True)


@compiled
def _from_points(first: int, last: int, learnt: Any, found: Any) -> None:
    """The groups' maps from `first` to `last`, from the points."""
    groups, count, maps, kernels = learnt.shape
    sums, into = learnt.reshape(learnt.size), found.reshape(found.size)
    for each in range(first, last):
        group, map_ = divmod(each, maps)
        for kernel in range(0, kernels, LANES):
            at, to = (group * count * maps + map_) * kernels + kernel, (map_ * groups + group) * kernels + kernel
            if count < MOST:
                weights3(sums, at, maps * kernels, into, to, maps * groups * kernels)
            else:
                weights5(sums, at, maps * kernels, into, to, maps * groups * kernels)
