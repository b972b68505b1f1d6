"""What follows a convolution, on the processor: row by row through the cache, compiled by Numba.

An image's rows are normalized into a few that stay in the cache, and pooled from there. The backward normalizes them
again, and writes one gradient.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from alexnet.kernels.across_maps_numba import Across, normalize, normalize_back, room, spread
from alexnet.kernels.compiled import compiled, compiled_part
from alexnet.kernels.cores import Scratch, on_all_cores
from alexnet.kernels.lanes_numba import LANES, every, where
from alexnet.kernels.memory_numba import WIDE, Floats, bare, behind, lines, put, put_past, settled, take
from alexnet.kernels.norm_numba import Norm, norm_of

if TYPE_CHECKING:
    from alexnet.kernels.after_convolution import Following

NOBODY = np.int32(255)  # in place of a winner where the rectifier behind the pooling let nothing through
ZERO = np.int32(0)


class Pool(NamedTuple):
    """A pooling, to compiled code.

    maps           how many there are
    ragged         the same if they are not so many whole sixteens, else None
    least, floor   of the rectifier behind it, as `Across` has them of the one before
    """

    size: int
    stride: int
    maps: int
    ragged: int | None
    least: Any
    floor: Any
    zero: Any


class Sides(NamedTuple):
    """How high and wide the maps are, and how many rows and columns of windows there are."""

    height: int
    width: int
    rows: int
    columns: int


def forward(parts: Sequence[Tensor], _: None, outs: Sequence[Tensor], winners: Tensor, what: "Following") -> None:
    """Fill the one output and `winners` of the one part; all channels last."""
    (x,), (out,) = parts, outs
    (images, maps, height, width), across = x.shape, _across(x, what)
    line, any_window, flat = width * maps, _any_window(what), (lines(x), lines(out))
    v = Scratch(room(across) if any_window else 0, WIDE[x.dtype], zeros=True)
    if what.unpooled:
        on_all_cores(_normalize, images * height, *flat, v, line, across, any_window)
        return
    pool, sides = _pool_of(maps, what, across.norm), Sides(height, width, *out.shape[2:])
    ring = Scratch(pool.size * (line + LANES), v.kind)
    arrays = *flat, bare(winners.view(-1)), ring, v
    on_all_cores(_forward, images, *arrays, sides, pool, across, any_window, what.norm[1] > 0 or None)


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
    (images, maps, height, width), across = x.shape, _across(x, what)
    line, any_window, flat = width * maps, _any_window(what), (lines(x), lines(g), lines(gradient))
    apart = Scratch(room(across) if any_window else 0, WIDE[x.dtype], zeros=True)
    down = Scratch(line + LANES, apart.kind)
    if what.unpooled:
        on_all_cores(_normalize_back, images * height, *flat, down, apart, apart, line, across, any_window)
        return
    pool, sides = _pool_of(maps, what, across.norm), Sides(height, width, *g.shape[2:])
    arrays = *flat, bare(winners.view(-1)), down, apart, apart
    on_all_cores(_backward, images, *arrays, sides, pool, across, any_window, what.norm[1] > 0 or None)


def _pool_of(maps: int, what: "Following", norm: Norm) -> Pool:
    return Pool(*what.pool, maps, maps if maps % LANES else None, *_rectifier(norm, what.last), norm.zero)


def _across(x: Tensor, what: "Following") -> Across:
    towers, n, k, alpha, beta = what.norm
    share, norm = x.shape[1] // towers if n else x.shape[1], norm_of(x, k, alpha, beta)
    return Across(norm, n, share, share if share % LANES else None, *_rectifier(norm, what.rectified))


def _any_window(what: "Following") -> bool | None:
    """Code is compiled for this being None or not: whether the window is another than the paper's."""
    return what.norm[1] not in (0, 5) or None


def _rectifier(norm: Norm, there: bool) -> tuple[Any, Any]:
    """`least` and `floor` of one that is there, or not: nothing is at or below what is not a number."""
    return (norm.zero, norm.zero) if there else (-norm.infinity, norm.infinity * np.nan)


@compiled
def _normalize(first: int, last: int, x: Floats, out: Floats, v: Floats, line: int, how: Across,
               any_window: bool | None) -> None:  # fmt: skip
    """The rows `first` to `last`, where no pooling follows."""
    for row in range(first, last):
        at, below = row * line, (row + 1) * line
        normalize(x, at, v, out, at, out, below, line // how.share, how, any_window, True)
    settled()


@compiled
def _forward(first: int, last: int, x: Floats, out: Floats, winners: NDArray[np.uint8], ring: Floats, v: Floats,
             sides: Sides, pool: Pool, how: Across, any_window: bool | None,
             normalized: bool | None) -> None:  # fmt: skip
    """The images `first` to `last`."""
    height, width, rows, columns = sides
    line, shares = width * pool.maps, width * pool.maps // how.share
    length = line + LANES
    for image in range(first, last):
        ready = 0
        for row in range(rows):
            top, to = row * pool.stride, (image * rows + row) * columns * pool.maps
            bottom = min(top + pool.size, height)
            while ready < bottom:
                at, own = (image * height + ready) * line, ready % pool.size * length
                ready += 1
                if normalized is None:
                    spread(x, at, ring, own, shares, 0, how, how.least)
                else:
                    normalize(x, at, v, ring, own, out, to, shares, how, any_window, None)
            _pool(ring, length, top, bottom, width, out, winners, to, columns, pool)


@compiled_part
def _pool(ring: Floats, line: int, top: int, bottom: int, width: int, out: Floats, winners: NDArray[np.uint8], to: int,
          columns: int, pool: Pool) -> None:  # fmt: skip
    """A row of windows over those lines of the ring."""
    for column in range(columns):
        left, here = column * pool.stride, to + column * pool.maps
        right = min(left + pool.size, width)
        if pool.size == 3:
            _largest_of_nine(ring, line, top, bottom, left, right, out, winners, here, pool)
        else:
            _largest(ring, line, top, bottom, left, right, out, winners, here, pool)


@compiled_part
def _largest(ring: Floats, line: int, top: int, bottom: int, left: int, right: int, out: Floats,
             winners: NDArray[np.uint8], to: int, pool: Pool) -> None:  # fmt: skip
    """The largest activity of each map in a window, and its place counted row by row; the first one of equals."""
    size, maps = pool.size, pool.maps
    for i in range(0, maps, LANES):
        best, place = take(ring, top % size * line + left * maps + i), every(ZERO)
        for r in range(top, bottom):
            for c in range(left, right):
                one, its = take(ring, r % size * line + c * maps + i), np.int32((r - top) * size + c - left)
                best, place = _larger(one, its, best, place)
        _put_winners(best, place, out, winners, to, i, pool)


@compiled_part
def _largest_of_nine(ring: Floats, line: int, top: int, bottom: int, left: int, right: int, out: Floats,
                     winners: NDArray[np.uint8], to: int, pool: Pool) -> None:  # fmt: skip
    """The same for the paper's window of 3, all nine at once. Past the map's edge stands its last line again."""
    r, c = min(1, bottom - top - 1), min(1, right - left - 1)  # how far the second ones are
    rr, cc = min(2, bottom - top - 1), min(2, right - left - 1)
    first, maps = left * pool.maps, pool.maps
    a, b, d = top % 3 * line + first, (top + r) % 3 * line + first, (top + rr) % 3 * line + first
    for i in range(0, maps, LANES):
        best, place = take(ring, a + i), every(ZERO)
        best, place = _larger(take(ring, a + c * maps + i), np.int32(c), best, place)
        best, place = _larger(take(ring, a + cc * maps + i), np.int32(cc), best, place)
        best, place = _larger(take(ring, b + i), np.int32(3 * r), best, place)
        best, place = _larger(take(ring, b + c * maps + i), np.int32(3 * r + c), best, place)
        best, place = _larger(take(ring, b + cc * maps + i), np.int32(3 * r + cc), best, place)
        best, place = _larger(take(ring, d + i), np.int32(3 * rr), best, place)
        best, place = _larger(take(ring, d + c * maps + i), np.int32(3 * rr + c), best, place)
        best, place = _larger(take(ring, d + cc * maps + i), np.int32(3 * rr + cc), best, place)
        _put_winners(best, place, out, winners, to, i, pool)


@compiled_part
def _larger(one: Any, its: Any, best: Any, place: Any) -> tuple[Any, Any]:
    wins = (one > best) | (one != one)  # noqa: PLR0124 - what is not a number wins and stays, as in PyTorch
    return where(wins, one, best), where(wins, its, place)


@compiled_part
def _put_winners(best: Any, place: Any, out: Floats, winners: NDArray[np.uint8], to: int, i: int, pool: Pool) -> None:
    left = behind(pool.ragged, i)
    put(out, to + i, left, where(best < pool.least, pool.least, best))
    put(winners, to + i, left, where(best <= pool.floor, NOBODY, place))


@compiled
def _normalize_back(first: int, last: int, x: Floats, g: Floats, gradient: Floats, down: Floats, v: Floats, e: Floats,
                    line: int, how: Across, any_window: bool | None) -> None:  # fmt: skip
    """The rows `first` to `last`, where no pooling follows."""
    shares = line // how.share
    for row in range(first, last):
        at = row * line
        if any_window is None:
            normalize_back(x, at, v, g, at, e, gradient, shares, how, any_window, True)
        else:
            spread(g, at, down, 0, shares, 0, how, -how.norm.infinity)
            normalize_back(x, at, v, down, 0, e, gradient, shares, how, any_window, None)
    settled()


@compiled
def _backward(first: int, last: int, x: Floats, g: Floats, gradient: Floats, winners: NDArray[np.uint8], down: Floats,
              v: Floats, e: Floats, sides: Sides, pool: Pool, how: Across, any_window: bool | None,
              normalized: bool | None) -> None:  # fmt: skip
    """The images `first` to `last`."""
    height, width, rows, columns = sides
    line, shares = width * pool.maps, width * pool.maps // how.share
    for image in range(first, last):
        for row in range(height):
            at = (image * height + row) * line
            _gather(g, winners, image * rows, row, down, rows, columns, width, pool)
            if normalized is None:
                _pass_back(x, at, down, gradient, shares, how)
            else:
                normalize_back(x, at, v, down, 0, e, gradient, shares, how, any_window, None)
    settled()


@compiled_part
def _gather(g: Floats, winners: NDArray[np.uint8], above: int, row: int, down: Floats, rows: int, columns: int,
            width: int, pool: Pool) -> None:  # fmt: skip
    """down = for each activity of a row, the gradients of the windows that it won; `above` rows of windows before."""
    size, stride, maps = pool.size, pool.stride, pool.maps
    top, bottom = max(0, (row - size) // stride + 1), min(row // stride, rows - 1)
    line, lower = columns * maps, stride * size  # from one window to that below it, and by how much its codes are less
    for column in range(width):
        left, right = max(0, (column - size) // stride + 1), min(column // stride, columns - 1)
        first, code = (above + top) * line + left * maps, (row - top * stride) * size + column - left * stride
        for i in range(0, maps, LANES):
            at, some = first + i, behind(pool.ragged, i)
            total = _won(g, winners, at, code, some, pool.zero)
            if size > 2 * stride:
                for r in range(bottom - top + 1):
                    for c in range(r == 0, right - left + 1):
                        its = code - r * lower - c * stride
                        total = total + _won(g, winners, at + r * line + c * maps, its, some, pool.zero)
            else:  # the paper's: one or two of each
                if right > left:
                    total = total + _won(g, winners, at + maps, code - stride, some, pool.zero)
                if bottom > top:
                    total = total + _won(g, winners, at + line, code - lower, some, pool.zero)
                    if right > left:
                        total = total + _won(g, winners, at + line + maps, code - lower - stride, some, pool.zero)
            put(down, column * maps + i, None, total)


@compiled_part
def _won(g: Floats, winners: NDArray[np.uint8], at: int, code: int, left: int | None, zero: Any) -> Any:
    """The gradients of sixteen windows, where the place of that code won."""
    return where(take(winners, at, left) == np.int32(code), take(g, at, left), zero)


@compiled_part
def _pass_back(x: Floats, at: int, g: Floats, into: Floats, shares: int, how: Across) -> None:
    """into = g, and 0 where x <= floor."""
    for start in range(0, shares * how.share, how.share):
        for i in range(0, how.share, LANES):
            left = behind(how.ragged, i)
            own = where(take(x, at + start + i, left) <= how.floor, how.norm.zero, take(g, start + i))
            put_past(into, at + start + i, left, own)
