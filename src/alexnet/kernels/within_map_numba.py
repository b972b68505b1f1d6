"""Normalization within a map, on the processor, compiled by Numba.

A few rows of an image stay in the cache, with those of zeros that stand for what is beyond its edge: they are summed
down, the sums along the row. A row's numbers begin behind as many zeros as a patch reaches over its end.
"""

from typing import Any, NamedTuple

from torch import Tensor

from alexnet.kernels.compiled import compiled, compiled_part
from alexnet.kernels.cores import Scratch, on_all_cores
from alexnet.kernels.lanes_numba import LANES, every
from alexnet.kernels.memory_numba import WIDE, Floats, behind, lines, put, soon_read, soon_written, take
from alexnet.kernels.norm_numba import Norm, divided_back, norm_of, power, sums


class Rows(NamedTuple):
    """An image's rows, to compiled code.

    line     how many numbers one has
    ragged   the same if these are not so many whole sixteens, else None
    reach    of a patch, up and down
    gap      numbers that a patch reaches over a row's end
    length   of a row in the cache, and of what is taken beyond it
    """

    height: int
    line: int
    ragged: int | None
    maps: int
    reach: int
    gap: int
    length: int


def forward(x: Tensor, y: Tensor, reach: int, k: float, alpha: float, beta: float) -> None:
    """Fill `y`; both channels last."""
    how, some, one = _rows(x, reach)
    on_all_cores(_forward, len(x), lines(x), lines(y), some, one, some, norm_of(x, k, alpha, beta), how)


def backward(x: Tensor, g: Tensor, gradient: Tensor, reach: int, k: float, alpha: float, beta: float) -> None:
    """Fill `gradient`; all channels last."""
    how, some, one = _rows(x, reach)
    arrays = lines(x), lines(g), lines(gradient), some, one, some, some, some
    on_all_cores(_backward, len(x), *arrays, norm_of(x, k, alpha, beta), how)


def _rows(x: Tensor, reach: int) -> tuple[Rows, Scratch, Scratch]:
    """And room in the cache for as many as a patch has, and for one."""
    _, maps, height, width = x.shape
    line, gap, kind = width * maps, reach * maps, WIDE[x.dtype]
    how = Rows(height, line, line if line % LANES else None, maps, reach, gap, line + 2 * gap + LANES)
    return how, Scratch((2 * reach + 1) * how.length, kind, zeros=True), Scratch(how.length, kind, zeros=True)


@compiled_part
def _sums_down(rows: Floats, down: Floats, size: int, how: Rows) -> None:
    """down = the sum of all rows, which lie end to end."""
    for i in range(0, how.line, LANES):
        put(down, how.gap + i, behind(how.ragged, i), sums(rows, how.gap + i, size, how.length))


@compiled_part
def _enter(x: Floats, at: int, v: Floats, energies: Floats, first: int, how: Rows) -> None:
    """A row's activities, widened, and their squares."""
    for i in range(0, how.line, LANES):
        soon_read(x, at + how.line + i)
        own = take(x, at + i, behind(how.ragged, i))
        put(v, first + i, behind(how.ragged, i), own)
        put(energies, first + i, behind(how.ragged, i), own * own)


@compiled_part
def _clear(rows: Floats, first: int, zero: Any, how: Rows) -> None:
    for i in range(0, how.line, LANES):
        put(rows, first + i, behind(how.ragged, i), every(zero))


@compiled
def _forward(first: int, last: int, x: Floats, y: Floats, v: Floats, down: Floats, e: Floats, norm: Norm,
             how: Rows) -> None:  # fmt: skip
    """The images `first` to `last`."""
    height, reach, size, gap, line = how.height, how.reach, 2 * how.reach + 1, how.gap, how.line
    for image in range(first, last):
        for slot in range(size):
            _clear(e, slot * how.length + gap, norm.zero, how)
        for ready in range(height + reach):
            row, slot = ready - reach, ready % size * how.length + gap
            if ready < height:
                _enter(x, (image * height + ready) * line, v, e, slot, how)
            else:
                _clear(e, slot, norm.zero, how)
            if row < 0:
                continue
            own, to = row % size * how.length + gap, (image * height + row) * line
            _sums_down(e, down, size, how)
            for i in range(0, line, LANES):
                soon_written(y, to + line + i)
                d = norm.k + norm.alpha * sums(down, i, size, how.maps)
                put(y, to + i, behind(how.ragged, i), take(v, own + i) * power(d, norm))


@compiled
def _backward(first: int, last: int, x: Floats, g: Floats, gradient: Floats, v: Floats, down: Floats, e: Floats,
              direct: Floats, shared: Floats, norm: Norm, how: Rows) -> None:  # fmt: skip
    """The images `first` to `last`: g d^-beta - 2 alpha beta x * patch sums of g x d^(-beta - 1)."""
    zero, factor = norm.zero, (norm.alpha + norm.alpha) * norm.beta
    height, reach, size, gap, line = how.height, how.reach, 2 * how.reach + 1, how.gap, how.line
    for image in range(first, last):
        for slot in range(size):
            _clear(e, slot * how.length + gap, zero, how)
            _clear(shared, slot * how.length + gap, zero, how)
        for ready in range(height + 2 * reach):
            middle, row, slot = ready - reach, ready - 2 * reach, ready % size * how.length + gap
            if ready < height:
                _enter(x, (image * height + ready) * line, v, e, slot, how)
            else:
                _clear(e, slot, zero, how)
            own, at = middle % size * how.length + gap, (image * height + middle) * line
            if middle >= height:
                _clear(shared, own, zero, how)
            elif middle >= 0:
                _sums_down(e, down, size, how)
                for i in range(0, line, LANES):
                    soon_read(g, at + line + i)
                    d = norm.k + norm.alpha * sums(down, i, size, how.maps)
                    g_here = take(g, at + i, behind(how.ragged, i))
                    ours, theirs = divided_back(take(v, own + i), g_here, d, norm)
                    put(direct, own + i, behind(how.ragged, i), ours)
                    put(shared, own + i, behind(how.ragged, i), theirs)
            if row < 0:
                continue
            own, to = row % size * how.length + gap, (image * height + row) * line
            _sums_down(shared, down, size, how)
            for i in range(0, line, LANES):
                soon_written(gradient, to + line + i)
                total = factor * take(v, own + i) * sums(down, i, size, how.maps)
                put(gradient, to + i, behind(how.ragged, i), take(direct, own + i) - total)
