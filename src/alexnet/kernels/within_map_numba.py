"""Normalization within a map, on the processor, compiled by Numba.

A few rows of an image stay in the cache, with those of zeros that stand for what is beyond its edge: they are summed
down, the sums along the row. A row's numbers begin behind as many zeros as a patch reaches over its end.
"""

from typing import Any

import numpy as np
from torch import Tensor

from alexnet.kernels.compiled import compiled, compiled_part
from alexnet.kernels.cores import on_all_cores
from alexnet.kernels.lines import (
    BLOCK,
    Floats,
    divide,
    divide_back,
    fetch,
    known,
    lines,
    numbers,
    read,
    room,
    sums,
    write,
)


def forward(x: Tensor, y: Tensor, reach: int, k: float, alpha: float, beta: float) -> None:
    """Fill `y`; both channels last."""
    on_all_cores(_forward, len(x), lines(x), lines(y), numbers(x.dtype, k, alpha, beta), reach)


def backward(x: Tensor, g: Tensor, gradient: Tensor, reach: int, k: float, alpha: float, beta: float) -> None:
    """Fill `gradient`; all channels last."""
    on_all_cores(_backward, len(x), lines(x), lines(g), lines(gradient), numbers(x.dtype, k, alpha, beta), reach)


@compiled_part
def _sums_down(rows: Floats, down: Floats) -> None:
    """down = the sum of all rows."""
    for block in range(0, down.shape[0] - BLOCK + 1, BLOCK):
        first = np.uint64(block)
        for i in range(first, first + np.uint64(BLOCK)):
            down[i] = rows[np.uint64(0), i] + rows[np.uint64(1), i]
        for row in range(np.uint64(2), np.uint64(rows.shape[0])):
            for i in range(first, first + np.uint64(BLOCK)):
                down[i] += rows[row, i]


@compiled_part
def _divisors(down: Floats, block: int, size: int, maps: int, wide: Any, d: Floats) -> None:
    """d = k + alpha * those sums, of energies, along a patch."""
    sums(down, np.uint64(block), size, maps, d)
    for i in range(np.uint64(BLOCK)):
        d[i] = wide[0] + wide[1] * d[i]


@compiled_part
def _clear(row: Floats, first: int, zero: Any) -> None:
    for i in range(np.uint64(first), np.uint64(row.shape[0])):
        row[i] = zero


@compiled_part
def _sizes(x: Floats, reach: int) -> tuple[int, int, int, int]:
    """How many rows a patch has, the numbers in a row, those before it, and how long a row in the cache is: with a
    block to spare, as rows are summed by whole blocks."""
    line, gap = x.shape[2] * x.shape[3], reach * x.shape[3]
    return 2 * reach + 1, line, gap, room(line, gap) + BLOCK


@compiled_part
def _enter(x: Floats, image: int, row: int, v: Floats, energies: Floats, gap: int, zero: Any) -> None:
    """A row's activities, widened, and their squares; a row of zeros where the image has none."""
    if row >= x.shape[1]:
        _clear(energies, 0, zero)
        return
    line = x.shape[2] * x.shape[3]
    read(x[image, row].reshape(line), v[gap : gap + line])
    for i in range(energies.shape[0]):
        energies[i] = v[i] * v[i]


@compiled
def _forward(first: int, last: int, x: Floats, y: Floats, numbers: Floats, reach: int) -> None:
    """The images `first` to `last`."""
    height, maps, wide, half = x.shape[1], x.shape[3], known(numbers), x.itemsize == 2
    size, line, gap, length = _sizes(x, reach)
    v, e = np.zeros((size, length), numbers.dtype), np.zeros((max(size, 2), length), numbers.dtype)
    p, d, down = np.zeros(length, numbers.dtype), np.empty(BLOCK, numbers.dtype), np.zeros(length, numbers.dtype)
    for image in range(first, last):
        for slot in range(size):
            _clear(e[slot], 0, wide[3])
        for ready in range(height + reach):
            row = ready - reach
            _enter(x, image, ready, v[ready % size], e[ready % size], gap, wide[3])
            if row < 0:
                continue
            own, into = v[row % size], y[image, row].reshape(line)
            coming = x[image, min(ready + 1, height - 1)].reshape(line)
            _sums_down(e, down)
            for block in range(0, line, BLOCK):
                fetch(coming, block, False)
                fetch(into, block, True)
                _divisors(down, block, size, maps, wide, d)
                divide(own, np.uint64(gap + block), d, p, wide, half)
            write(p[gap : gap + line], into)


@compiled
def _backward(first: int, last: int, x: Floats, g: Floats, gradient: Floats, numbers: Floats,
              reach: int) -> None:  # fmt: skip
    """The images `first` to `last`: g d^-beta - 2 alpha beta x * patch sums of g x d^(-beta - 1)."""
    height, maps, wide, half = x.shape[1], x.shape[3], known(numbers), x.itemsize == 2
    zero, factor = wide[3], (wide[1] + wide[1]) * wide[2]
    size, line, gap, length = _sizes(x, reach)
    v, direct = np.zeros((size, length), numbers.dtype), np.zeros((size, length), numbers.dtype)
    e, shared = np.zeros((max(size, 2), length), numbers.dtype), np.zeros((max(size, 2), length), numbers.dtype)
    d, down = np.empty(BLOCK, numbers.dtype), np.zeros(length, numbers.dtype)
    for image in range(first, last):
        for slot in range(size):
            _clear(e[slot], 0, zero)
            _clear(shared[slot], 0, zero)
        for ready in range(height + 2 * reach):
            middle, row = ready - reach, ready - 2 * reach
            _enter(x, image, ready, v[ready % size], e[ready % size], gap, zero)
            if middle >= height:
                _clear(shared[middle % size], 0, zero)
            elif middle >= 0:
                activity, own, ours = v[middle % size], direct[middle % size], shared[middle % size]
                read(g[image, middle].reshape(line), own[gap : gap + line])
                coming = x[image, min(ready + 1, height - 1)].reshape(line)
                coming_g = g[image, min(middle + 1, height - 1)].reshape(line)
                _sums_down(e, down)
                for block in range(0, line, BLOCK):
                    fetch(coming, block, False)
                    fetch(coming_g, block, False)
                    _divisors(down, block, size, maps, wide, d)
                    divide_back(activity, own, np.uint64(gap + block), d, ours, wide, half)
                _clear(ours, gap + line, zero)  # what is not a number may have come there
                _clear(own, gap + line, zero)
            if row < 0:
                continue
            activity, own, into = v[row % size], direct[row % size], gradient[image, row].reshape(line)
            _sums_down(shared, down)
            for block in range(0, line, BLOCK):
                fetch(into, block, True)
                sums(down, np.uint64(block), size, maps, d)
                at = np.uint64(gap + block)
                for i in range(np.uint64(BLOCK)):
                    own[at + i] -= factor * activity[at + i] * d[i]
            write(own[gap : gap + line], into)
