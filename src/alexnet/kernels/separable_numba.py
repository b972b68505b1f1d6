"""A small square of sixteen-lane numbers, multiplied from both sides by a matrix that stands in the code.

`separable(matrix)` is what compiled code calls: `(x, at, between, into, to, apart)` takes the n x n vectors
x[at + i * between] of a square in the order of its lines, and puts the m x m of matrix @ square @ matrix^T at
into[to + i * apart]. Zeros and ones in the matrix cost nothing. float32; indexes are not looked at.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alexnet.kernels.compiled import AVAILABLE, in_llvm
from alexnet.kernels.lanes_numba import LANES, ONCE
from alexnet.kernels.memory_numba import numbers_of, sixteen_at

if AVAILABLE:
    from llvmlite import ir
    from numba import types

    from alexnet.kernels.lanes_numba import VECTOR, WORD

Matrix = NDArray[np.float64]


def separable(matrix: Matrix) -> Any:
    """The multiplication by float[m, n], for compiled code."""
    lines, side = matrix.shape

    def typed(_: Any, x: Any, at: Any, between: Any, into: Any, to: Any, apart: Any) -> Any:
        def written_out(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            def places(array: int, count: int) -> list[Any]:
                data, first, by = given[array : array + 3]
                numbers = builder.gep(numbers_of(context, builder, signature.args[array], data), [first])
                return [sixteen_at(builder, numbers, builder.mul(by, WORD(i))) for i in range(count)]

            square = [builder.load(place, align=4) for place in places(0, side * side)]
            columns = [_product(builder, matrix, square[j::side]) for j in range(side)]
            found = [_product(builder, matrix, [column[i] for column in columns]) for i in range(lines)]
            for place, value in zip(places(3, lines * lines), (each for line in found for each in line), strict=True):
                builder.store(value, place, align=4)
            return context.get_dummy_value()

        number = types.intp
        return types.void(x, number, number, into, number, number), written_out

    return in_llvm(typed)


def _product(builder: Any, matrix: Matrix, vector: Sequence[Any]) -> list[Any]:
    """The matrix times a vector of lanes. Where two neighbouring columns, or lines, are the same but for signs, as at a
    point and at its opposite, what they have in common is computed once."""
    vector, matrix = list(vector), matrix.copy()
    for j in _twins(matrix.T):
        one, other = vector[j : j + 2]
        vector[j : j + 2] = builder.fadd(one, other, **ONCE), builder.fsub(one, other, **ONCE)
        matrix[:, j], matrix[:, j + 1] = _common(matrix[:, j], matrix[:, j + 1])
    found = [None] * len(matrix)
    for i in _twins(matrix):
        same, different = (_sum(builder, part, vector) for part in _common(matrix[i], matrix[i + 1]))
        found[i : i + 2] = builder.fadd(same, different, **ONCE), builder.fsub(same, different, **ONCE)
    return [_sum(builder, line, vector) if each is None else each for line, each in zip(matrix, found, strict=True)]


def _common(one: Any, other: Any) -> tuple[Any, Any]:
    """What is added to one line and to its twin, and what is added to the one and taken from the other."""
    return (one + other) / 2, (one - other) / 2


def _twins(matrix: Matrix) -> list[int]:
    """Which lines are the next one but for some of the signs."""
    found: list[int] = []
    for i in range(len(matrix) - 1):
        parts = _common(matrix[i], matrix[i + 1])
        if all(part.any() for part in parts) and not (parts[0] * parts[1]).any() and i - 1 not in found:
            found.append(i)
    return found


def _sum(builder: Any, factors: Any, vector: Sequence[Any]) -> Any:
    """Term by term."""
    total = None
    for factor, x in zip(factors, vector, strict=True):
        if factor:
            term = x if factor == 1 else builder.fmul(x, ir.Constant(VECTOR, [factor] * LANES), **ONCE)
            total = term if total is None else builder.fadd(total, term, **ONCE)
    return total
