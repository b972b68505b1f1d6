"""A small square of sixteen-lane numbers, multiplied from both sides by a matrix that stands in the code.

`separable(matrix, other)` is what compiled code calls: `(like, x, at, between, into, to, apart, ahead)` takes the n x n
vectors x[at + i * between] of a square in the order of its lines, and puts the m x m of matrix @ square @ matrix^T at
into[to + i * apart], which may not overlap; the other matrix, where `like` is an array of bf16. Zeros and ones in the
matrix cost nothing; no line of it is all zeros. It computes in float32; what it takes and puts may be bf16. Where
vectors are at the points, far apart, what is so far `ahead` is called into the cache: where they are put, unless they
become fewer. Indexes are not looked at.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alexnet.kernels.compiled import AVAILABLE, in_llvm
from alexnet.kernels.lanes_numba import LANES, ONCE
from alexnet.kernels.memory_numba import bytes_of, call_in, narrowed, numbers_of, sixteen_at, widened

if AVAILABLE:
    from llvmlite import ir
    from numba import types
    from numba.core import cgutils

    from alexnet.kernels.lanes_numba import VECTOR, WORD

Matrix = NDArray[np.float64]


def separable(in_float32: Matrix, in_bf16: Matrix) -> Any:
    """The multiplication by float[m, n], for compiled code: of all columns, then of all lines of what comes of it."""

    def typed(_: Any, like: Any, x: Any, at: Any, between: Any, into: Any, to: Any, apart: Any, ahead: Any) -> Any:
        matrix = in_bf16 if like.dtype == types.uint16 else in_float32
        lines, side = matrix.shape

        def written_out(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            def place(array: int, index: Any, written: bool) -> Any:
                data, first, by = given[array : array + 3]
                numbers = numbers_of(context, builder, signature.args[array], data)
                number = builder.add(first, builder.mul(by, index))
                if written == (lines >= side):
                    call_in(builder, numbers, builder.add(number, given[7]), written)
                return sixteen_at(builder, numbers, number)

            def taken(index: Any) -> Any:
                return widened(builder, str(x.dtype), builder.load(place(1, index, False), align=bytes_of(x)))

            def left(value: Any, index: Any) -> None:
                numbers = narrowed(builder, str(into.dtype), value)
                builder.store(numbers, place(4, index, True), align=bytes_of(into))

            halfway = cgutils.alloca_once(builder, VECTOR, lines * side)
            with cgutils.for_range(builder, WORD(side)) as column:
                each = [builder.add(column.index, WORD(side * i)) for i in range(max(side, lines))]
                for i, value in enumerate(_product(builder, matrix, lambda i: taken(each[i]))):
                    builder.store(value, builder.gep(halfway, [each[i]]))
            with cgutils.for_range(builder, WORD(lines)) as line:
                begin = builder.gep(halfway, [builder.mul(line.index, WORD(side))])
                found = _product(builder, matrix, lambda j: builder.load(builder.gep(begin, [WORD(j)])))
                first = builder.mul(line.index, WORD(lines))
                for j, value in enumerate(found):
                    left(value, builder.add(first, WORD(j)))
            return context.get_dummy_value()

        number = types.intp
        return types.void(like, x, number, number, into, number, number, number), written_out

    return in_llvm(typed)


def _product(builder: Any, matrix: Matrix, vector: Callable[[int], Any]) -> list[Any]:
    """The matrix times a vector of lanes, which is asked for what it needs. Where two neighbouring columns, or lines,
    are the same but for signs, as at a point and at its opposite, what they have in common is computed once."""
    combined, whole = _combined(matrix), lru_cache(None)(vector)
    pairs = _twins(matrix.T)

    @lru_cache(None)
    def part(j: int) -> Any:
        if j in pairs:
            return builder.fadd(whole(j), whole(j + 1), **ONCE)
        return builder.fsub(whole(j - 1), whole(j), **ONCE) if j - 1 in pairs else whole(j)

    found = {}
    for i in _twins(combined):
        same, different = (_sum(builder, each, part) for each in _common(combined[i], combined[i + 1]))
        found[i], found[i + 1] = builder.fadd(same, different, **ONCE), builder.fsub(same, different, **ONCE)
    return [found[i] if i in found else _sum(builder, combined[i], part) for i in range(len(matrix))]


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
