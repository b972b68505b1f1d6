"""Normalization within a map, on the processor, compiled by Numba.

An image's energies and their sums stay in the cache: down the rows, then along them, both as long sweeps.
"""

from typing import Any

import numpy as np
from torch import Tensor

from alexnet.kernels.compiled import compiled, compiled_part
from alexnet.kernels.cores import on_all_cores
from alexnet.kernels.lines import Floats, divide, divide_back, known, lines, numbers, read, write


def forward(x: Tensor, y: Tensor, reach: int, k: float, alpha: float, beta: float) -> None:
    """Fill `y`; both channels last."""
    on_all_cores(_forward, len(x), lines(x), lines(y), numbers(x.dtype, k, alpha, beta), reach)


def backward(x: Tensor, g: Tensor, gradient: Tensor, reach: int, k: float, alpha: float, beta: float) -> None:
    """Fill `gradient`; all channels last."""
    on_all_cores(_backward, len(x), lines(x), lines(g), lines(gradient), numbers(x.dtype, k, alpha, beta), reach)


@compiled_part
def _patch_sums(rows: Floats, row: int, reach: int, maps: int, down: Floats, s: Floats) -> None:
    """s: at each place of the row, the sum over its patch of `rows`, [H, W * maps]; `down` holds anything."""
    line = rows.shape[1]
    own = rows[row]
    for i in range(line):
        down[i] = own[i]
    for other in range(max(0, row - reach), min(row + reach + 1, rows.shape[0])):
        if other != row:
            their = rows[other]
            for i in range(line):
                down[i] += their[i]
    for i in range(line):
        s[i] = down[i]
    for step in range(maps, min(reach * maps + 1, line), maps):
        left, right, own_left, own_right = down[: line - step], down[step:], s[step:], s[: line - step]
        for i in range(line - step):
            own_left[i] += left[i]
        for i in range(line - step):
            own_right[i] += right[i]


@compiled_part
def _divisors(energies: Floats, row: int, reach: int, maps: int, wide: Any, p: Floats, d: Floats) -> None:
    """d = k + alpha * patch sums of the row's energies; p holds anything."""
    k, alpha = wide[0], wide[1]
    _patch_sums(energies, row, reach, maps, p, d)
    for i in range(d.shape[0]):
        d[i] = k + alpha * d[i]


@compiled_part
def _energies(x: Floats, v: Floats, e: Floats) -> None:
    """An image's activities, widened, and their squares: [H, W * maps]."""
    for row in range(x.shape[0]):
        activity, energy = v[row], e[row]
        read(x[row].reshape(activity.shape[0]), activity)
        for i in range(activity.shape[0]):
            energy[i] = activity[i] * activity[i]


@compiled
def _forward(first: int, last: int, x: Floats, y: Floats, numbers: Floats, reach: int) -> None:
    """The images `first` to `last`."""
    _, height, width, maps = x.shape
    line, wide = width * maps, known(numbers)
    v, e = np.empty((height, line), numbers.dtype), np.empty((height, line), numbers.dtype)
    p, d = np.empty(line, numbers.dtype), np.empty(line, numbers.dtype)
    for image in range(first, last):
        _energies(x[image], v, e)
        for row in range(height):
            _divisors(e, row, reach, maps, wide, p, d)
            divide(v[row], np.uint64(0), d, p, wide, x.itemsize == 2)
            write(p, y[image, row].reshape(line))


@compiled
def _backward(first: int, last: int, x: Floats, g: Floats, gradient: Floats, numbers: Floats,
              reach: int) -> None:  # fmt: skip
    """The images `first` to `last`: g d^-beta - 2 alpha beta x * patch sums of g x d^(-beta - 1)."""
    _, height, width, maps = x.shape
    line, wide = width * maps, known(numbers)
    factor = (wide[1] + wide[1]) * wide[2]
    v, e = np.empty((height, line), numbers.dtype), np.empty((height, line), numbers.dtype)
    direct, shared = np.empty((height, line), numbers.dtype), np.empty((height, line), numbers.dtype)
    p, d = np.empty(line, numbers.dtype), np.empty(line, numbers.dtype)
    for image in range(first, last):
        _energies(x[image], v, e)
        for row in range(height):
            _divisors(e, row, reach, maps, wide, p, d)
            read(g[image, row].reshape(line), direct[row])
            divide_back(v[row], direct[row], np.uint64(0), d, shared[row], wide, x.itemsize == 2)
        for row in range(height):
            _patch_sums(shared, row, reach, maps, p, d)
            activity, own = v[row], direct[row]
            for i in range(line):
                own[i] -= factor * activity[i] * d[i]
            write(own, gradient[image, row].reshape(line))
