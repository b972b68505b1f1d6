"""What follows a convolution, on the processor: row by row through the cache, compiled by Numba.

An image's rows are normalized into a few that stay in the cache, and pooled from there. The backward normalizes them
again, and writes one gradient.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from alexnet.kernels.across_maps_numba import normalize, normalize_back, room, spread
from alexnet.kernels.compiled import compiled, compiled_part
from alexnet.kernels.cores import on_all_cores
from alexnet.kernels.lanes_numba import LANES, behind, every, put, take, where
from alexnet.kernels.lines import Floats, how, known, lines, numbers

if TYPE_CHECKING:
    from alexnet.kernels.after_convolution import Following

NOBODY = np.int32(255)  # in place of a winner where the rectifier behind the pooling let nothing through
ZERO = np.int32(0)


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
    """Both kernels' last arguments. Code is compiled for those that are None, and for those that are not."""
    towers, n, k, alpha, beta = what.norm
    share = x.shape[1] // towers if n else x.shape[1]
    return (
        numbers(x.dtype, k, alpha, beta),
        what.rectified,
        share,
        n,
        *what.pool,
        share if share % LANES else None,
        *how(x, beta),
        n != 5 or None,
        n > 0 or None,
        what.pool != (1, 1) or what.last or None,
        what.last or None,
    )


@compiled
def _forward(first: int, last: int, x: Floats, out: Floats, winners: NDArray[np.uint8], numbers: Floats,
             rectified: bool, share: int, n: int, size: int, stride: int, ragged: int | None, paper: bool | None,
             exact: bool | None, other: bool | None, normalized: bool | None, pooled: bool | None,
             last_too: bool | None) -> None:  # fmt: skip
    """The images `first` to `last`."""
    _, height, width, maps = x.shape
    rows, columns, line = out.shape[1], out.shape[2], width * maps
    wide, shares = known(numbers), line // share
    least = wide[3] if rectified else -wide[10]
    length = line + LANES
    ring, v = np.zeros(size * length, numbers.dtype), np.zeros(room(share, n // 2), numbers.dtype)
    given, into, places = x.reshape(x.size), out.reshape(out.size), winners.reshape(winners.size)
    for image in range(first, last):
        ready = 0
        for row in range(rows):
            top = row * stride
            bottom, to = min(top + size, height), (image * rows + row) * columns * maps
            while ready < bottom:
                at, own = (image * height + ready) * line, ready % size * length
                ready += 1
                if normalized is None:
                    if pooled is None:
                        spread(given, at, into, to, shares, share, 0, ragged, least)
                    else:
                        spread(given, at, ring, own, shares, share, 0, ragged, least)
                elif pooled is None:
                    normalize(given, at, v, into, to, shares, share, n, line, into, to + line, least, wide, ragged,
                               paper, exact, other)  # fmt: skip
                else:
                    normalize(given, at, v, ring, own, shares, share, n, line, into, to, least, wide, ragged, paper,
                               exact, other)  # fmt: skip
            if pooled is not None:
                for column in range(columns):
                    left, right, ours = column * stride, min(column * stride + size, width), to + column * maps
                    if size == 3:
                        _largest_of_nine(ring, length, top, bottom, left, right, maps, into, places, ours, ragged,
                                         last_too, wide[3])  # fmt: skip
                    else:
                        _largest(ring, length, size, top, bottom, left, right, maps, into, places, ours, ragged,
                                 last_too, wide[3])  # fmt: skip


@compiled_part
def _largest(ring: Floats, row: int, size: int, top: int, bottom: int, left: int, right: int, maps: int, out: Floats,
             winners: NDArray[np.uint8], to: int, ragged: int | None, last_too: bool | None,
             zero: Any) -> None:  # fmt: skip
    """The largest activity of each map in a window, and its place counted row by row; the first one of equals."""
    for i in range(0, maps, LANES):
        best, place = take(ring, top % size * row + left * maps + i), every(ZERO)
        for r in range(top, bottom):
            for c in range(left, right):
                one, its = take(ring, r % size * row + c * maps + i), np.int32((r - top) * size + c - left)
                best, place = _larger(one, its, best, place)
        _put_winners(best, place, out, winners, to + i, maps - i, ragged, last_too, zero)


@compiled_part
def _largest_of_nine(ring: Floats, row: int, top: int, bottom: int, left: int, right: int, maps: int, out: Floats,
                     winners: NDArray[np.uint8], to: int, ragged: int | None, last_too: bool | None,
                     zero: Any) -> None:  # fmt: skip
    """The same for the paper's window of 3, all nine at once. Past the map's edge stands its last line again: no later
    equal wins."""
    a, b, c = top % 3 * row, min(top + 1, bottom - 1) % 3 * row, min(top + 2, bottom - 1) % 3 * row
    one, two, three = left * maps, min(left + 1, right - 1) * maps, min(left + 2, right - 1) * maps
    for i in range(0, maps, LANES):
        best, place = take(ring, a + one + i), every(ZERO)
        best, place = _larger(take(ring, a + two + i), np.int32(1), best, place)
        best, place = _larger(take(ring, a + three + i), np.int32(2), best, place)
        best, place = _larger(take(ring, b + one + i), np.int32(3), best, place)
        best, place = _larger(take(ring, b + two + i), np.int32(4), best, place)
        best, place = _larger(take(ring, b + three + i), np.int32(5), best, place)
        best, place = _larger(take(ring, c + one + i), np.int32(6), best, place)
        best, place = _larger(take(ring, c + two + i), np.int32(7), best, place)
        best, place = _larger(take(ring, c + three + i), np.int32(8), best, place)
        _put_winners(best, place, out, winners, to + i, maps - i, ragged, last_too, zero)


@compiled_part
def _larger(one: Any, its: Any, best: Any, place: Any) -> tuple[Any, Any]:
    wins = (one > best) | (one != one)  # noqa: PLR0124 - what is not a number wins and stays, as in PyTorch
    return where(wins, one, best), where(wins, its, place)


@compiled_part
def _put_winners(best: Any, place: Any, out: Floats, winners: NDArray[np.uint8], to: int, left: int,
                 ragged: int | None, last_too: bool | None, zero: Any) -> None:  # fmt: skip
    some = None if ragged is None else left
    if last_too is None:
        put(out, to, some, best)
        put(winners, to, some, place)
    else:
        put(out, to, some, where(best < zero, zero, best))
        put(winners, to, some, where(best <= zero, NOBODY, place))


@compiled
def _backward(first: int, last: int, x: Floats, g: Floats, winners: NDArray[np.uint8], gradient: Floats,
              numbers: Floats, rectified: bool, share: int, n: int, size: int, stride: int, ragged: int | None,
              paper: bool | None, exact: bool | None, other: bool | None, normalized: bool | None, pooled: bool | None,
              last_too: bool | None) -> None:  # fmt: skip
    """The images `first` to `last`."""
    _, height, width, maps = x.shape
    rows, columns, line = g.shape[1], g.shape[2], width * maps
    wide, shares = known(numbers), line // share
    least = wide[3] if rectified else -wide[10]
    floor = wide[3] if rectified else wide[10] - wide[10]  # nothing is below what is not a number
    down, v = np.zeros(line + LANES, numbers.dtype), np.zeros(room(share, n // 2), numbers.dtype)
    e = np.zeros_like(v)
    given, into, places = x.reshape(x.size), gradient.reshape(gradient.size), winners.reshape(winners.size)
    behind_it = g.reshape(g.size)
    for image in range(first, last):
        for row in range(height):
            at = (image * height + row) * line
            if pooled is None:
                spread(behind_it, at, down, 0, shares, share, 0, ragged, -wide[10])
            else:
                _gather(behind_it, places, image * rows, row, down, size, stride, rows, columns, width, maps, ragged,
                        wide[3])  # fmt: skip
            if normalized is None:
                _pass_back(given, at, down, into, shares, share, ragged, floor, wide[3])
            else:
                normalize_back(given, at, v, down, e, into, shares, share, n, line, least, floor, wide, ragged, paper,
                                exact, other)  # fmt: skip


@compiled_part
def _gather(g: Floats, winners: NDArray[np.uint8], above: int, row: int, down: Floats, size: int, stride: int,
            rows: int, columns: int, width: int, maps: int, ragged: int | None, zero: Any) -> None:  # fmt: skip
    """down = for each activity of a row, the gradients of the windows that it won; `above` rows of windows before."""
    top, bottom = max(0, (row - size) // stride + 1), min(row // stride, rows - 1)
    line, lower = columns * maps, stride * size  # from one window to that below it, and by how much its codes are less
    for column in range(width):
        left, right = max(0, (column - size) // stride + 1), min(column // stride, columns - 1)
        first, code = (above + top) * line + left * maps, row * size - top * lower + column - left * stride
        for i in range(0, maps, LANES):
            at, some = first + i, None if ragged is None else maps - i
            total = _won(g, winners, at, code, some, zero)
            if size > 2 * stride:
                for r in range(bottom - top + 1):
                    for c in range(r == 0, right - left + 1):
                        total = total + _won(
                            g, winners, at + r * line + c * maps, code - r * lower - c * stride, some, zero
                        )
            else:  # the paper's: one or two of each
                if right > left:
                    total = total + _won(g, winners, at + maps, code - stride, some, zero)
                if bottom > top:
                    total = total + _won(g, winners, at + line, code - lower, some, zero)
                    if right > left:
                        total = total + _won(g, winners, at + line + maps, code - lower - stride, some, zero)
            put(down, column * maps + i, None, total)


@compiled_part
def _won(g: Floats, winners: NDArray[np.uint8], at: int, code: int, left: int | None, zero: Any) -> Any:
    """The gradient of sixteen windows where the place of that code won."""
    return where(take(winners, at, left) == np.int32(code), take(g, at, left), zero)


@compiled_part
def _pass_back(x: Floats, at: int, g: Floats, into: Floats, shares: int, share: int, ragged: int | None, floor: Any,
               zero: Any) -> None:  # fmt: skip
    """into = g, and 0 where x <= floor."""
    for each in range(shares):
        for i in range(0, share, LANES):
            here = each * share + i
            own = where(take(x, at + here, behind(ragged, i)) <= floor, zero, take(g, here))
            put(into, at + here, behind(ragged, i), own)
