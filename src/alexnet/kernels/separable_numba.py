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

if AVAILABLE:
    from llvmlite import ir
    from numba import types

    VECTOR = ir.VectorType(ir.FloatType(), LANES)

Matrix = NDArray[np.float64]


def separable(matrix: Matrix) -> Any:
    """The multiplication by float[m, n], for compiled code."""
    lines, side = matrix.shape

    def typed(_: Any, x: Any, at: Any, between: Any, into: Any, to: Any, apart: Any) -> Any:
        def written_out(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            def places(array: int, count: int) -> list[Any]:
                kind, (data, first, by) = signature.args[array], given[array : array + 3]
                pointer = builder.gep(context.make_array(kind)(context, builder, data).data, [first])
                steps = (builder.mul(by, ir.IntType(64)(i)) for i in range(count))
                return [builder.bitcast(builder.gep(pointer, [step]), VECTOR.as_pointer()) for step in steps]

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
    """The matrix times a vector of lanes, term by term."""
    return [_sum(builder, [(factor, x) for factor, x in zip(line, vector, strict=True) if factor]) for line in matrix]


def _sum(builder: Any, terms: Sequence[tuple[float, Any]]) -> Any:
    total = None
    for factor, x in terms:
        term = x if factor == 1 else builder.fmul(x, ir.Constant(VECTOR, [factor] * LANES), **ONCE)
        total = term if total is None else builder.fadd(total, term, **ONCE)
    return total
