"""What follows a convolution, on the processor: line by line through the cache, compiled by Numba.

An image's rows are normalized into a few that stay in the cache, and pooled from there. The backward normalizes them
again, and writes one gradient. A pixel's maps lie apart by towers there (`lines.py`): its numbers begin at the row's
`gap` + its column * `apart`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from alexnet.kernels.compiled import compiled, compiled_part
from alexnet.kernels.cores import on_all_cores
from alexnet.kernels.lines import (
    BLOCK,
    Floats,
    gather,
    known,
    lines,
    normalize,
    normalize_back,
    numbers,
    pass_back,
    room,
    spread,
)

if TYPE_CHECKING:
    from alexnet.kernels.after_convolution import Following

NOBODY = 255  # in place of a winner where the rectifier behind the pooling let nothing through


def forward(parts: Sequence[Tensor], _: None, outs: Sequence[Tensor], winners: Tensor, what: "Following") -> None:
    """Fill the one output and `winners` of the one part; all channels last."""
    (x,), (out,) = parts, outs
    on_all_cores(_forward, len(x), lines(x), lines(out), winners.numpy(), *_numbers(x, what))


def backward(
    parts: Sequence[Tensor],
    _: None,
    gs: Sequence[Tensor],
    winners: Tensor,
    gradients: Sequence[Tensor],
    what: "Following",
) -> None:
    """Fill the part's gradient; all channels last."""
    (x,), (g,), (gradient,) = parts, gs, gradients
    on_all_cores(_backward, len(x), lines(x), lines(g), winners.numpy(), lines(gradient), *_numbers(x, what))


def _numbers(x: Tensor, what: "Following") -> tuple[Any, ...]:
    """Both kernels' last arguments."""
    towers, n, k, alpha, beta = what.norm
    return (
        numbers(x.dtype, k, alpha, beta),
        what.rectified,
        what.last,
        x.shape[1] // towers if n else x.shape[1],
        n // 2,
        n - 1 - n // 2 if n else 0,
        n > 0,
        *what.pool,
    )


@compiled
def _forward(first: int, last: int, x: Floats, out: Floats, winners: NDArray[np.uint8], numbers: Floats,
             rectified: bool, rectified_last: bool, share: int, below: int, above: int, normalized: bool,
             size: int, stride: int) -> None:  # fmt: skip
    """The images `first` to `last`."""
    _, height, width, maps = x.shape
    rows, columns = out.shape[1], out.shape[2]
    wide, gap = known(numbers), below  # which is never less than `above`
    zero, infinity, half = wide[3], wide[10], x.itemsize == 2
    least = zero if rectified else -infinity
    apart = maps // share * (share + gap)
    ring = np.zeros((size, room(gap + width * apart, gap)), numbers.dtype)
    v, d = np.zeros_like(ring[0]), np.empty(BLOCK, numbers.dtype)
    best, place = np.zeros(gap + columns * apart, numbers.dtype), np.zeros(gap + columns * apart, np.int32)
    passes = size == 1 and not rectified_last
    for image in range(first, last):
        ready = 0
        for row in range(rows):
            top = row * stride
            bottom = min(top + size, height)
            while ready < bottom:
                own = ring[ready % size]
                given = v if normalized else own
                spread(x[image, ready].reshape(width * maps), given, share, gap, least)
                ready += 1
                if normalized:
                    coming = x[min(image + ready // height, last - 1), ready % height].reshape(width * maps)
                    normalize(given, own, below, above, wide, half, d, coming, out[image, row].reshape(columns * maps))
            if passes:
                gather(ring[top % size], out[image, row].reshape(width * maps), share, gap)
                continue
            for column in range(columns):
                left, right = column * stride, min(column * stride + size, width)
                here = slice(gap + column * apart, gap + (column + 1) * apart)
                if size == 3:
                    _largest_of_nine(ring, top, bottom, gap + left * apart, gap + (right - 1) * apart,
                                     best[here], place[here])  # fmt: skip
                else:
                    _largest(ring, top, bottom, left, right, gap, best[here], place[here])
            if rectified_last:
                for i in range(best.shape[0]):
                    place[i] = np.int32(NOBODY) if best[i] <= zero else place[i]
                for i in range(best.shape[0]):
                    best[i] = zero if best[i] < zero else best[i]
            gather(best, out[image, row].reshape(columns * maps), share, gap)
            gather(place, winners[image, row].reshape(columns * maps), share, gap)


@compiled_part
def _largest(ring: Floats, top: int, bottom: int, left: int, right: int, gap: int, best: Floats,
             place: NDArray[np.int32]) -> None:  # fmt: skip
    """The largest activity of each map in a window, and its place counted row by row; the first one of equals."""
    size, apart = ring.shape[0], best.shape[0]
    for r in range(top, bottom):
        for c in range(left, right):
            code, at = np.int32((r - top) * size + c - left), ring[r % size][gap + c * apart : gap + (c + 1) * apart]
            if code == 0:
                for i in range(apart):
                    best[i] = at[i]
                    place[i] = code
            else:
                for i in range(apart):  # what is not a number wins and stays, as in PyTorch
                    wins = (at[i] > best[i]) | np.isnan(at[i])
                    best[i] = at[i] if wins else best[i]
                    place[i] = code if wins else place[i]


@compiled_part
def _largest_of_nine(ring: Floats, top: int, bottom: int, first: int, last: int, best: Floats,
                     place: NDArray[np.int32]) -> None:  # fmt: skip
    """The same for the paper's window of 3, all nine at once, from the column that begins at `first` to that at `last`.
    Past the map's edge stands its last line again: no later equal wins."""
    apart, last_row = best.shape[0], bottom - 1
    second, third = min(first + apart, last), min(first + 2 * apart, last)
    a, b, c = ring[top % 3], ring[min(top + 1, last_row) % 3], ring[min(top + 2, last_row) % 3]
    a0, a1, a2 = a[first : first + apart], a[second : second + apart], a[third : third + apart]
    b0, b1, b2 = b[first : first + apart], b[second : second + apart], b[third : third + apart]
    c0, c1, c2 = c[first : first + apart], c[second : second + apart], c[third : third + apart]
    for i in range(apart):
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


@compiled_part
def _larger(one: Any, its: int, largest: Any, where: np.int32) -> tuple[Any, np.int32]:
    wins = (one > largest) | np.isnan(one)
    return one if wins else largest, np.int32(its) if wins else where


@compiled
def _backward(first: int, last: int, x: Floats, g: Floats, winners: NDArray[np.uint8], gradient: Floats,
              numbers: Floats, rectified: bool, rectified_last: bool, share: int, below: int, above: int,
              normalized: bool, size: int, stride: int) -> None:  # fmt: skip
    """The images `first` to `last`."""
    _, height, width, maps = x.shape
    rows, columns = g.shape[1], g.shape[2]
    wide, gap = known(numbers), below  # which is never less than `above`
    zero, infinity, half = wide[3], wide[10], x.itemsize == 2
    least = zero if rectified else -infinity
    apart = maps // share * (share + gap)
    down = np.zeros(room(gap + width * apart, gap), numbers.dtype)
    v, e, d = np.zeros_like(down), np.zeros_like(down), np.empty(BLOCK, numbers.dtype)
    floor = zero if rectified else infinity - infinity  # nothing is below what is not a number
    overlap = (size + stride - 1) // stride  # rows of windows that a row may lie in, with their gradients and winners
    above_it = np.zeros((overlap, gap + columns * apart), numbers.dtype)
    winning = np.zeros((overlap, gap + columns * apart), np.uint8)
    passes = size == 1 and not rectified_last
    for image in range(first, last):
        ready = 0
        for row in range(height):
            for i in range(down.shape[0]):  # what lies between, too: what is not a number may have come there
                down[i] = zero
            if passes:
                spread(g[image, row].reshape(width * maps), down, share, gap, -infinity)
            else:
                over = min(row // stride, rows - 1)  # the lowest window that this row may lie in
                while ready <= over:
                    at = ready % overlap
                    spread(g[image, ready].reshape(columns * maps), above_it[at], share, gap, -infinity)
                    spread(winners[image, ready].reshape(columns * maps), winning[at], share, gap, np.uint8(0))
                    ready += 1
                for window in range(max(0, (row - size) // stride + 1), over + 1):
                    if row - window * stride < size:
                        _scatter(above_it[window % overlap], winning[window % overlap], down,
                                 (row - window * stride) * size, size, stride, width, columns, gap, zero)  # fmt: skip
            if normalized or rectified:
                spread(x[image, row].reshape(width * maps), v, share, gap, least)
            into = gradient[image, row].reshape(width * maps)
            if normalized:
                coming = x[min(image + (row + 1) // height, last - 1), (row + 1) % height].reshape(width * maps)
                normalize_back(v, down, e, below, above, wide, half, floor, d, coming, into)
            elif rectified:
                pass_back(down, v, zero)
            gather(down, into, share, gap)


@compiled_part
def _scatter(g: Floats, winners: NDArray[np.uint8], down: Floats, code: int, size: int, stride: int, width: int,
             columns: int, gap: int, zero: Any) -> None:  # fmt: skip
    """Add each window's gradient to the activity of this row that won it; `code` is that of the row's first column."""
    apart = (g.shape[0] - gap) // columns
    for column in range(columns):
        left, window = column * stride, slice(gap + column * apart, gap + (column + 1) * apart)
        their, won = g[window], winners[window]
        for c in range(left, min(left + size, width)):
            at = down[gap + c * apart : gap + (c + 1) * apart]
            here = np.uint8(code + c - left)
            for i in range(apart):
                at[i] += their[i] if won[i] == here else zero
