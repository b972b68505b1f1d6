"""What follows a convolution, on the processor: line by line through the cache, compiled by Numba.

An image's rows are normalized into a few that stay in the cache, and pooled from there. The backward normalizes them
again, and writes one gradient.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alexnet.kernels.compiled import compiled
from alexnet.kernels.cores import on_all_cores
from alexnet.kernels.lines import Floats, lines, normalize, normalize_back, numbers, pass_back, read, rectify, write

if TYPE_CHECKING:
    from alexnet.kernels.after_convolution import Following

BLOCK = 1536  # activities normalized together: their energies, sums and results stay in the first cache
NOBODY = 255  # in place of a winner where the rectifier behind the pooling let nothing through


def forward(x: Tensor, out: Tensor, winners: Tensor, what: "Following") -> None:
    """Fill `out` and `winners`; all channels last."""
    on_all_cores(_forward, len(x), lines(x), lines(out), winners.numpy(), *_numbers(x, what))


def backward(x: Tensor, g: Tensor, winners: Tensor, gradient: Tensor, what: "Following") -> None:
    """Fill `gradient`; all channels last."""
    on_all_cores(_backward, len(x), lines(x), lines(g), winners.numpy(), lines(gradient), *_numbers(x, what))


def _numbers(x: Tensor, what: "Following") -> tuple[Any, ...]:
    """Both kernels' last arguments."""
    towers, n, k, alpha, beta = what.norm
    return (
        numbers(x.dtype, k, alpha, beta),
        x.dtype == torch.bfloat16,
        what.rectified,
        what.last,
        x.shape[1] // towers,
        n // 2,
        n - 1 - n // 2 if n else 0,
        n > 0,
        *what.pool,
    )


@compiled
def _forward(first: int, last: int, x: Floats, out: Floats, winners: NDArray[np.uint8], wide: Floats, half: bool,
             rectified: bool, rectified_last: bool, share: int, below: int, above: int, normalized: bool,
             size: int, stride: int) -> None:  # fmt: skip
    """The images `first` to `last`."""
    _, height, width, maps = x.shape
    rows, columns = out.shape[1], out.shape[2]
    zero = wide[3]
    line = width * maps
    block = max(1, BLOCK // maps) * maps
    ring = np.empty((size, line), wide.dtype)
    e, s = np.empty(block, wide.dtype), np.empty(block, wide.dtype)
    best, place, whole = np.empty(maps, wide.dtype), np.empty(maps, np.int32), np.empty(line, wide.dtype)
    passes = size == 1 and not rectified_last
    for image in range(first, last):
        ready = 0
        for row in range(rows):
            top = row * stride
            bottom = min(top + size, height)
            while ready < bottom:
                given, y = x[image, ready].reshape(line), ring[ready % size]
                read(given, y, half)
                if rectified:
                    rectify(y, zero)
                if normalized:
                    for start in range(0, line, block):
                        v = y[start : start + block]
                        normalize(v, e[: v.shape[0]], s[: v.shape[0]], share, below, above, wide)
                ready += 1
            if passes:
                write(ring[top % size], out[image, row].reshape(line), half)
                continue
            for column in range(columns):
                left, right = column * stride, min(column * stride + size, width)
                if size == 3:
                    _largest_of_nine(ring, top, bottom, left, right, maps, best, place)
                else:
                    _largest(ring, top, bottom, left, right, maps, best, place)
                if rectified_last:
                    for i in range(maps):
                        place[i] = np.int32(NOBODY) if best[i] <= zero else place[i]
                        best[i] = zero if best[i] < zero else best[i]
                whole[column * maps : (column + 1) * maps] = best
                kept = winners[image, row, column]
                for i in range(maps):
                    kept[i] = place[i]
            write(whole, out[image, row].reshape(columns * maps), half)


@compiled
def _largest(ring: Floats, top: int, bottom: int, left: int, right: int, maps: int, best: Floats,
             place: NDArray[np.int32]) -> None:  # fmt: skip
    """The largest activity of each map in a window, and its place counted row by row; the first one of equals."""
    size = ring.shape[0]
    for r in range(top, bottom):
        for c in range(left, right):
            code, at = np.int32((r - top) * size + c - left), ring[r % size][c * maps : (c + 1) * maps]
            if code == 0:
                best[:] = at
                place[:] = code
            else:
                for i in range(maps):  # what is not a number wins and stays, as in PyTorch
                    wins = (at[i] > best[i]) | np.isnan(at[i])
                    best[i] = at[i] if wins else best[i]
                    place[i] = code if wins else place[i]


@compiled
def _largest_of_nine(ring: Floats, top: int, bottom: int, left: int, right: int, maps: int, best: Floats,
                     place: NDArray[np.int32]) -> None:  # fmt: skip
    """The same for the paper's window of 3, all nine at once. Past the map's edge stands its last line again: no later
    equal wins."""
    last_row, last_column = bottom - 1, (right - 1) * maps
    first = left * maps
    second, third = min(first + maps, last_column), min(first + 2 * maps, last_column)
    a, b, c = ring[top % 3], ring[min(top + 1, last_row) % 3], ring[min(top + 2, last_row) % 3]
    a0, a1, a2 = a[first : first + maps], a[second : second + maps], a[third : third + maps]
    b0, b1, b2 = b[first : first + maps], b[second : second + maps], b[third : third + maps]
    c0, c1, c2 = c[first : first + maps], c[second : second + maps], c[third : third + maps]
    for i in range(maps):
        largest, where = a0[i], np.int32(0)
        largest, where = _larger(a1[i], 1, largest, where)
        largest, where = _larger(a2[i], 2, largest, where)
        largest, where = _larger(b0[i], 3, largest, where)
        largest, where = _larger(b1[i], 4, largest, where)
        largest, where = _larger(b2[i], 5, largest, where)
        largest, where = _larger(c0[i], 6, largest, where)
        largest, where = _larger(c1[i], 7, largest, where)
        largest, where = _larger(c2[i], 8, largest, where)
        best[i], place[i] = largest, where


@compiled
def _larger(one: Any, its: int, largest: Any, where: np.int32) -> tuple[Any, np.int32]:
    wins = (one > largest) | np.isnan(one)
    return one if wins else largest, np.int32(its) if wins else where


@compiled
def _backward(first: int, last: int, x: Floats, g: Floats, winners: NDArray[np.uint8], gradient: Floats, wide: Floats,
              half: bool, rectified: bool, rectified_last: bool, share: int, below: int, above: int, normalized: bool,
              size: int, stride: int) -> None:  # fmt: skip
    """The images `first` to `last`."""
    _, height, width, maps = x.shape
    rows, columns = g.shape[1], g.shape[2]
    zero = wide[3]
    line = width * maps
    block = max(1, BLOCK // maps) * maps
    e, s = np.empty(block, wide.dtype), np.empty(block, wide.dtype)
    v, down = np.empty(line, wide.dtype), np.empty(line, wide.dtype)
    ring = np.empty(((size + stride - 1) // stride, columns * maps), wide.dtype)  # gradients of the rows that overlap
    passes = size == 1 and not rectified_last
    for image in range(first, last):
        ready = 0
        for row in range(height):
            if passes:
                read(g[image, row].reshape(line), down, half)
            else:
                for i in range(line):
                    down[i] = zero
                over = min(row // stride, rows - 1)  # the lowest window that this row may lie in
                while ready <= over:
                    read(g[image, ready].reshape(columns * maps), ring[ready % ring.shape[0]], half)
                    ready += 1
                for window in range(max(0, (row - size) // stride + 1), over + 1):
                    if row - window * stride >= size:
                        continue
                    _scatter(ring[window % ring.shape[0]], winners[image, window], down,
                             (row - window * stride) * size, size, stride, width, maps, zero)  # fmt: skip
            if normalized or rectified:
                read(x[image, row].reshape(line), v, half)
            if rectified:
                rectify(v, zero)
            if normalized:
                for start in range(0, line, block):
                    some, their = v[start : start + block], down[start : start + block]
                    length = some.shape[0]
                    normalize_back(some, their, e[:length], s[:length], share, below, above, wide)
            if rectified:
                pass_back(down, v, zero)
            write(down, gradient[image, row].reshape(line), half)


@compiled
def _scatter(g: Floats, winners: NDArray[np.uint8], down: Floats, code: int, size: int, stride: int, width: int,
             maps: int, zero: Any) -> None:  # fmt: skip
    """Add each window's gradient to the activity of this row that won it; `code` is that of the row's first column."""
    for column in range(winners.shape[0]):
        left = column * stride
        their, won = g[column * maps : (column + 1) * maps], winners[column]
        for c in range(left, min(left + size, width)):
            at = down[c * maps : (c + 1) * maps]
            here = np.uint8(code + c - left)
            for i in range(maps):
                at[i] += their[i] if won[i] == here else zero
