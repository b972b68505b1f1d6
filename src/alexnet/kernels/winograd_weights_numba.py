"""The gradients of a convolution's weights and biases by minimal filtering (`points.py`); sums in float32.

Squares of pixels and of the results' gradients are taken to the points, some images at a time; at each point, the sums
of their products over all squares are a matrix product, and grow from images to images.
"""

from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from alexnet.kernels.compiled import compiled, compiled_part
from alexnet.kernels.cores import Scratch, on_all_cores
from alexnet.kernels.lanes_numba import LANES
from alexnet.kernels.memory_numba import bare, lines, put, soon_written, take
from alexnet.kernels.points import kernel_at_points, results_at_points
from alexnet.kernels.squares_numba import Grid, gather, squares_of, where_it_is
from alexnet.kernels.winograd_numba import MOST, WIDTHS, enter, for_each_size, of_each_width, vectors_of

MAPS = 8 if WIDTHS[0] > 1 else 4  # of a block of sums
ENTERING = 25  # products take as long as one number's way to the points
SQUARES = 1.25  # for each map, that are multiplied before the next ones enter: then the sums' own way is short enough

gradients = for_each_size(results_at_points)
weights_there = for_each_size(lambda points: kernel_at_points(points).T)
products_of = of_each_width(MAPS)


class Sums(NamedTuple):
    """The sums at each of the `points`, [groups, points, maps, kernels], and how they are shared out; to compiled code.

    of_maps, of_kernels   into so many parts a group's are
    several               kernels that are multiplied together
    together, rows        rows of squares that are, and of all images
    masked                whether gradients count where `above` is above 0 alone
    """

    points: int
    maps: int
    kernels: int
    of_maps: int
    of_kernels: int
    several: int
    together: int
    rows: int
    masked: bool


def weights(x: Tensor, g: Tensor, y: Tensor | None, size: int, pad: int, groups: int) -> tuple[Tensor, Tensor]:
    """float[N, C, H, W], float[N, K, H', W'], and the output if a rectifier is behind it ->
    float[K, C / groups, size, size], channels last, and float[K]: the gradients of weights and biases (sections 3.5
    and 5), the same for any number of threads. For what `fits`."""
    x, g, above = (each.contiguous(memory_format=torch.channels_last) for each in (x, g, g if y is None else y))
    channels, all_kernels = x.shape[1], g.shape[1]
    maps, kernels = channels // groups, all_kernels // groups
    cut = squares_of(x, all_kernels, size, pad)
    rows = len(x) * cut.rows
    together = min(max(1, round(SQUARES * maps / cut.columns)), rows)
    learnt = x.new_zeros(groups, cut.side**2, maps, kernels, dtype=torch.float32)
    tallies = x.new_zeros(rows, all_kernels, dtype=torch.float32)
    of_maps, of_kernels = shared_out(groups, maps, kernels)
    several, masked = LANES * vectors_of(kernels), y is not None
    how = Sums(cut.side**2, maps, kernels, of_maps, of_kernels, several, together, rows, masked)
    arrays = lines(x), lines(g), lines(above), bare(learnt.view(-1)), bare(tallies.view(-1))
    # Of the largest part.
    own, wide = -(-(maps // LANES) // of_maps) * LANES, -(-(kernels // several) // of_kernels) * several
    square, offsets = Scratch(MOST * LANES, np.float32), Scratch(MOST, np.int64)
    points, spread = (Scratch(how.points * (together * cut.columns * each + LANES), np.float32) for each in (own, wide))
    on_all_cores(_grow, groups * of_maps * of_kernels, *arrays, square, offsets, points, spread, cut, how)
    found = x.new_empty(size, size, maps, all_kernels)
    on_all_cores(_from_points, channels, bare(learnt.view(-1)), bare(found.view(-1)), size, *learnt.shape)
    of_biases = torch.from_numpy(bare(tallies).sum(0))  # NumPy adds row after row, whatever the threads
    of_weights = found.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
    return of_weights, of_biases.to(x.dtype)


def shared_out(groups: int, maps: int, kernels: int) -> tuple[int, int]:
    """Into how many parts the maps of a group go, and its kernels, so that the threads are done soonest."""
    several, threads = LANES * vectors_of(kernels), torch.get_num_threads()

    def work(parts: tuple[int, int]) -> tuple[int, int]:
        of_maps, of_kernels = parts
        own, wide = -(-(maps // LANES) // of_maps) * LANES, -(-(kernels // several) // of_kernels) * several
        number = groups * of_maps * of_kernels
        return -(-number // threads) * (own * wide + ENTERING * (own + wide)), number

    return min(product(range(1, maps // LANES + 1), range(1, kernels // several + 1)), key=work)


@compiled
def _grow(first: int, last: int, x: Any, g: Any, above: Any, learnt: Any, tallies: Any, square: Any, offsets: Any,
          points: Any, spread: Any, cut: Grid, how: Sums) -> None:  # fmt: skip
    """The parts from `first` to `last` of the sums over all squares."""
    room = how.together * cut.columns
    for part in range(first, last):
        group, within = divmod(part, how.of_maps * how.of_kernels)
        map_, own = _part(how.maps // LANES, within // how.of_kernels, how.of_maps, LANES)
        kernel, wide = _part(how.kernels // how.several, within % how.of_kernels, how.of_kernels, how.several)
        plane, further = room * own + LANES, room * wide + LANES
        for begin in range(0, how.rows, how.together):
            here = min(how.together, how.rows - begin)
            _enter_x(x, group * how.maps + map_, own, begin, here, square, offsets, points, plane, cut, how)
            _enter_g(g, above, group * how.kernels + kernel, wide, begin, here, square, offsets, spread, further,
                     tallies, map_ == 0, cut, how)  # fmt: skip
            _sum(points, plane, own, spread, further, wide, here * cut.columns, learnt, group, map_, kernel, how)


@compiled_part
def _part(blocks: int, which: int, parts: int, of_a_block: int) -> Any:
    """Where a part of the blocks begins, and how many maps or kernels it has."""
    begin, end = blocks * which // parts, blocks * (which + 1) // parts
    return begin * of_a_block, (end - begin) * of_a_block


@compiled_part
def _enter_x(x: Any, map_: int, own: int, begin: int, here: int, square: Any, offsets: Any, points: Any, plane: int,
             cut: Grid, how: Sums) -> None:  # fmt: skip
    """Some rows of squares, of their maps from `map_` on `own`, to the points: [points, maps / 16, squares, 16]."""
    squares = here * cut.columns
    for each in range(squares):
        ahead = where_it_is(offsets, cut.side, cut.pixels, cut, begin * cut.columns + each)
        enter(x, x, False, offsets, cut, map_, own, ahead, square, points, each * LANES, squares * LANES, plane)


@compiled_part
def _enter_g(g: Any, above: Any, kernel: int, wide: int, begin: int, here: int, square: Any, offsets: Any, spread: Any,
             further: int, tallies: Any, tallied: bool, cut: Grid, how: Sums) -> None:  # fmt: skip
    """Their gradients of the kernels from `kernel` on, `wide`, to the points: [points, wide / several, squares,
    several]; and each row's sums, if they are `tallied`."""
    squares = here * cut.columns
    for each in range(squares):
        ahead = where_it_is(offsets, cut.results, cut.places, cut, begin * cut.columns + each)
        for i in range(0, wide, LANES):
            total = gather(g, above, how.masked, offsets, cut.results**2, kernel + i, ahead, square)
            if tallied:
                at = (begin + each // cut.columns) * cut.places.number + kernel + i
                put(tallies, at, None, take(tallies, at) + total)
            block, within = divmod(i, how.several)
            to = (block * squares + each) * how.several + within
            gradients(cut.size, g, square, 0, LANES, spread, to, further, LANES)


@compiled_part
def _sum(points: Any, plane: int, own: int, spread: Any, further: int, wide: int, squares: int, sums: Any, group: int,
         map_: int, kernel: int, how: Sums) -> None:  # fmt: skip
    """At each point, the sums of some maps and kernels grow by what these squares add. What is multiplied together lies
    together: a processor fetches ahead what comes in a row."""
    for point in range(how.points):
        for i in range(0, wide, how.several):
            for j in range(0, own, MAPS):
                to = ((group * how.points + point) * how.maps + map_ + j) * how.kernels + kernel + i
                block, within = divmod(j, LANES)
                at, begin = point * plane + block * squares * LANES + within, point * further + i * squares
                for line in range(to, to + MAPS * how.kernels, how.kernels):
                    for vector in range(line, line + how.several, LANES):
                        soon_written(sums, vector)
                products_of(how.several, points, at, 1, LANES, spread, begin, how.several, squares, sums, to,
                            how.kernels, True)  # fmt: skip


@compiled
def _from_points(first: int, last: int, sums: Any, found: Any, size: int, groups: int, points: int, maps: int,
                 kernels: int) -> None:  # fmt: skip
    """The groups' maps from `first` to `last`, from the points."""
    for each in range(first, last):
        group, map_ = divmod(each, maps)
        for kernel in range(0, kernels, LANES):
            at, to = (group * points * maps + map_) * kernels + kernel, (map_ * groups + group) * kernels + kernel
            weights_there(size, found, sums, at, maps * kernels, found, to, maps * groups * kernels, LANES)
