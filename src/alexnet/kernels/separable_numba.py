"""A small square of sixteen-lane numbers, multiplied from both sides by a matrix that stands in the code.

`separable(matrix)` is what compiled code calls: `(x, at, between, into, to, apart)` takes the n x n vectors
x[at + i * between] of a square in the order of its lines, and puts the m x m of matrix @ square @ matrix^T at
into[to + i * apart], which may not overlap. Zeros and ones in the matrix cost nothing; no line of it is all zeros.
float32; indexes are not looked at.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
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

            taken, left = places(0, side * side), places(3, lines * lines)
            for some in _together(matrix):
                columns = [_product(builder, matrix, some, _loaded(builder, taken[j::side])) for j in range(side)]
                for n, i in enumerate(some):
                    found = _product(builder, matrix, range(lines), [column[n] for column in columns].__getitem__)
                    for place, value in zip(left[i * lines : (i + 1) * lines], found, strict=True):
                        builder.store(value, place, align=4)
            return context.get_dummy_value()

        number = types.intp
        return types.void(x, number, number, into, number, number), written_out

    return in_llvm(typed)


def _loaded(builder: Any, places: Sequence[Any]) -> Callable[[int], Any]:
    return lambda j: builder.load(places[j], align=4)


def _product(builder: Any, matrix: Matrix, lines: Sequence[int], vector: Callable[[int], Any]) -> list[Any]:
    """Some lines of the matrix times a vector of lanes, which is asked for what they need. Where two neighbouring
    columns, or lines, are the same but for signs, as at a point and at its opposite, what they have in common is
    computed once."""
    combined, whole = _combined(matrix), lru_cache(None)(vector)
    pairs = _twins(matrix.T)

    @lru_cache(None)
    def part(j: int) -> Any:
        if j in pairs:
            return builder.fadd(whole(j), whole(j + 1), **ONCE)
        return builder.fsub(whole(j - 1), whole(j), **ONCE) if j - 1 in pairs else whole(j)

    found = {}
    for i in _twins(combined):
        if i in lines:
            same, different = (_sum(builder, each, part) for each in _common(combined[i], combined[i + 1]))
            found[i], found[i + 1] = builder.fadd(same, different, **ONCE), builder.fsub(same, different, **ONCE)
    return [found[i] if i in found else _sum(builder, combined[i], part) for i in lines]


def _together(matrix: Matrix) -> list[list[int]]:
    """Lines that have something in common, so few at a time that what comes of all columns stays in registers."""
    combined = _combined(matrix)
    pairs = [[i, i + 1] for i in _twins(combined)]
    alike: dict[bytes, list[int]] = {}
    for i in range(len(matrix)):
        if not any(i in pair for pair in pairs):
            alike.setdefault((combined[i] != 0).tobytes(), []).append(i)
    return [*pairs, *alike.values()]


def _combined(matrix: Matrix) -> Matrix:
    """The matrix, for a vector in which the sum and the difference stand where two columns are twins."""
    combined = matrix.copy()
    for j in _twins(matrix.T):
        combined[:, j], combined[:, j + 1] = _common(matrix[:, j], matrix[:, j + 1])
    return combined


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


def _sum(builder: Any, factors: Any, vector: Callable[[int], Any]) -> Any:
    """Term by term."""
    total = None
    for j in np.flatnonzero(factors):
        term = vector(int(j))
        if factors[j] != 1:
            term = builder.fmul(term, ir.Constant(VECTOR, [factors[j]] * LANES), **ONCE)
        total = term if total is None else builder.fadd(total, term, **ONCE)
    return total
