"""Normalization within a map, on the processor, compiled by Numba.

A few rows of an image stay in the cache, with those of zeros that stand for what is beyond its edge: they are summed
down, the sums along the row. A row's numbers begin behind as many zeros as a patch reaches over its end.
"""

from typing import Any

import numpy as np
from torch import Tensor

from alexnet.kernels.compiled import compiled, compiled_part
from alexnet.kernels.cores import on_all_cores
from alexnet.kernels.lanes_numba import LANES, every
from alexnet.kernels.memory_numba import Floats, behind, lines, put, soon_read, soon_written, take
from alexnet.kernels.norm_numba import Norm, divided_back, norm_of, power, sums


def forward(x: Tensor, y: Tensor, reach: int, k: float, alpha: float, beta: float) -> None:
    """Fill `y`; both channels last."""
    on_all_cores(_forward, len(x), lines(x), lines(y), norm_of(x, k, alpha, beta), reach, _ragged(x))


def backward(x: Tensor, g: Tensor, gradient: Tensor, reach: int, k: float, alpha: float, beta: float) -> None:
    """Fill `gradient`; all channels last."""
    arrays = lines(x), lines(g), lines(gradient)
    on_all_cores(_backward, len(x), *arrays, norm_of(x, k, alpha, beta), reach, _ragged(x))


def _ragged(x: Tensor) -> int | None:
    """How many numbers a row has; None if these are whole sixteens."""
    line = x.shape[1] * x.shape[3]
    return line if line % LANES else None


@compiled_part
def _sums_down(rows: Floats, down: Floats, line: int, gap: int, size: int, ragged: int | None) -> None:
    """down = the sum of all rows, which lie end to end."""
    for i in range(0, line, LANES):
        put(down, gap + i, behind(ragged, i), sums(rows, gap + i, size, _length(line, gap)))


@compiled_part
def _length(line: int, gap: int) -> int:
    """Of a row in the cache, and of what is taken beyond it."""
    return line + 2 * gap + LANES


@compiled_part
def _enter(x: Floats, at: int, v: Floats, energies: Floats, first: int, line: int, ragged: int | None) -> None:
    """A row's activities, widened, and their squares."""
    for i in range(0, line, LANES):
        soon_read(x, at + line + i)
        own = take(x, at + i, behind(ragged, i))
        put(v, first + i, behind(ragged, i), own)
        put(energies, first + i, behind(ragged, i), own * own)


@compiled_part
def _clear(rows: Floats, first: int, line: int, ragged: int | None, zero: Any) -> None:
    for i in range(0, line, LANES):
        put(rows, first + i, behind(ragged, i), every(zero))


@compiled
def _forward(first: int, last: int, x: Floats, y: Floats, norm: Norm, reach: int,
             ragged: int | None) -> None:  # fmt: skip
    """The images `first` to `last`."""
    _, height, width, maps = x.shape
    size, line, gap = 2 * reach + 1, width * maps, reach * maps
    length = _length(line, gap)
    v, down = np.full(size * length, norm.zero), np.full(length, norm.zero)
    e = np.zeros_like(v)
    given, into = x.reshape(x.size), y.reshape(y.size)
    for image in range(first, last):
        for slot in range(size):
            _clear(e, slot * length + gap, line, ragged, norm.zero)
        for ready in range(height + reach):
            row, slot = ready - reach, ready % size * length + gap
            if ready < height:
                _enter(given, (image * height + ready) * line, v, e, slot, line, ragged)
            else:
                _clear(e, slot, line, ragged, norm.zero)
            if row < 0:
                continue
            own, to = row % size * length + gap, (image * height + row) * line
            _sums_down(e, down, line, gap, size, ragged)
            for i in range(0, line, LANES):
                soon_written(into, to + line + i)
                d = norm.k + norm.alpha * sums(down, i, size, maps)
                put(into, to + i, behind(ragged, i), take(v, own + i) * power(d, norm))


@compiled
def _backward(first: int, last: int, x: Floats, g: Floats, gradient: Floats, norm: Norm, reach: int,
              ragged: int | None) -> None:  # fmt: skip
    """The images `first` to `last`: g d^-beta - 2 alpha beta x * patch sums of g x d^(-beta - 1)."""
    _, height, width, maps = x.shape
    zero, factor = norm.zero, (norm.alpha + norm.alpha) * norm.beta
    size, line, gap = 2 * reach + 1, width * maps, reach * maps
    length = _length(line, gap)
    v, down = np.full(size * length, norm.zero), np.full(length, norm.zero)
    e, direct, shared = np.zeros_like(v), np.zeros_like(v), np.zeros_like(v)
    given, into, from_above = x.reshape(x.size), gradient.reshape(gradient.size), g.reshape(g.size)
    for image in range(first, last):
        for slot in range(size):
            _clear(e, slot * length + gap, line, ragged, zero)
            _clear(shared, slot * length + gap, line, ragged, zero)
        for ready in range(height + 2 * reach):
            middle, row, slot = ready - reach, ready - 2 * reach, ready % size * length + gap
            if ready < height:
                _enter(given, (image * height + ready) * line, v, e, slot, line, ragged)
            else:
                _clear(e, slot, line, ragged, zero)
            own, at = middle % size * length + gap, (image * height + middle) * line
            if middle >= height:
                _clear(shared, own, line, ragged, zero)
            elif middle >= 0:
                _sums_down(e, down, line, gap, size, ragged)
                for i in range(0, line, LANES):
                    soon_read(from_above, at + line + i)
                    d = norm.k + norm.alpha * sums(down, i, size, maps)
                    g_here = take(from_above, at + i, behind(ragged, i))
                    ours, theirs = divided_back(take(v, own + i), g_here, d, norm)
                    put(direct, own + i, behind(ragged, i), ours)
                    put(shared, own + i, behind(ragged, i), theirs)
            if row < 0:
                continue
            own, to = row % size * length + gap, (image * height + row) * line
            _sums_down(shared, down, line, gap, size, ragged)
            for i in range(0, line, LANES):
                soon_written(into, to + line + i)
                total = factor * take(v, own + i) * sums(down, i, size, maps)
                put(into, to + i, behind(ragged, i), take(direct, own + i) - total)
