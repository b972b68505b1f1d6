"""A block of a matrix product, kept in registers from the first to the last term of its sums.

Compilers keep a few sums at a time; as fast as the processor multiplies goes only what fills its registers. Each sum
grows term by term in order, whoever computes it. A term is a product of float32, or of two bf16 with two others, which
processors with AVX-512 BF16 add to a float32 at once.
"""

from collections.abc import Callable
from typing import Any

from alexnet.kernels.compiled import AVAILABLE, in_llvm
from alexnet.kernels.lanes_numba import LANES, ONCE, every_lane, outside
from alexnet.kernels.memory_numba import numbers_of, sixteen_at

if AVAILABLE:
    from llvmlite import ir
    from llvmlite.binding import llvm_version_info
    from numba import types

    from alexnet.kernels.lanes_numba import VECTOR, WORD
    from alexnet.kernels.memory_numba import BFLOAT


def block_of_sums(rows: int, vectors: int) -> Any:
    """What compiled code calls for a block of `rows` times 16 * `vectors` sums:

    `(x, at, between, step, y, first, width, count, sums, to, apart, added)`: sums[to + i * apart + j] becomes, or grows
    by if `added` is not None, x[at + i * between + k * step] * y[first + k * width + j], summed over k below `count`,
    of which there is at least one. All are flat arrays of float32, and nobody looks whether an index is within them. x
    and y may be int32: pairs of bf16, whose terms are sums of two products.
    """

    def typed(_: Any, x: Any, at: Any, between: Any, step: Any, y: Any, first: Any, width: Any, count: Any, sums: Any,
              to: Any, apart: Any, added: Any) -> Any:  # fmt: skip
        number = types.intp
        given = x, number, number, number, y, number, number, number, sums, number, number, added
        return types.void(*given), _written(rows, vectors)

    return in_llvm(typed)


def _written(rows: int, vectors: int) -> Callable[..., Any]:
    def written_out(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        _, at, between, step, _, first, width, count, _, to, apart, _ = given
        x, y, result = (numbers_of(context, builder, signature.args[i], given[i]) for i in (0, 4, 8))
        row_of_x = [_there(builder, x, at, between, i) for i in range(rows)]
        row_of_sums = [_there(builder, result, to, apart, i) for i in range(rows)]
        places = [sixteen_at(builder, row, WORD(LANES * j)) for row in row_of_sums for j in range(vectors)]
        y = builder.gep(y, [first])
        anew = isinstance(signature.args[11], types.NoneType)

        before, terms, behind = builder.block, *(builder.append_basic_block() for _ in range(2))
        builder.branch(terms)
        builder.position_at_end(terms)
        term, of_x, of_y = (builder.phi(WORD) for _ in range(3))
        sums = [builder.phi(VECTOR) for _ in places]
        parts = [builder.add(of_y, WORD(LANES * j)) for j in range(vectors)]
        column = [builder.load(sixteen_at(builder, y, part), align=4) for part in parts]
        grow = _grown_by_pairs if signature.args[0].dtype == types.int32 else _grown
        grown = []
        for i, row in enumerate(row_of_x):
            own = every_lane(builder, builder.load(builder.gep(row, [of_x]), align=4))
            grown += [grow(builder, sums[i * vectors + j], own, other) for j, other in enumerate(column)]
        following = [builder.add(each, by) for each, by in ((term, WORD(1)), (of_x, step), (of_y, width))]
        begun = *[WORD(0)] * 3, *[ir.Constant(VECTOR, None)] * len(sums)
        carried = zip((term, of_x, of_y, *sums), begun, (*following, *grown), strict=True)
        for value, first_of_all, then in carried:
            value.add_incoming(first_of_all, before)
            value.add_incoming(then, terms)
        builder.cbranch(builder.icmp_signed("<", following[0], count), terms, behind)

        builder.position_at_end(behind)
        for place, value in zip(places, grown, strict=True):
            whole = value if anew else builder.fadd(builder.load(place, align=4), value)
            builder.store(whole, place, align=4)
        return context.get_dummy_value()

    return written_out


def _grown(builder: Any, sums: Any, one: Any, other: Any) -> Any:
    return builder.fadd(builder.fmul(one, other, **ONCE), sums, **ONCE)


def _grown_by_pairs(builder: Any, sums: Any, one: Any, other: Any) -> Any:
    pairs = [one, other]
    if llvm_version_info >= (16,):  # before, these were sixteen integers to LLVM
        pairs = [builder.bitcast(each, ir.VectorType(BFLOAT, 2 * LANES)) for each in pairs]
    kind = ir.FunctionType(VECTOR, [VECTOR, *(each.type for each in pairs)])
    return builder.call(outside(builder, "llvm.x86.avx512bf16.dpbf16ps.512", kind), [sums, *pairs])


def _there(builder: Any, numbers: Any, at: Any, apart: Any, times: int) -> Any:
    """A pointer to numbers[at + times * apart]."""
    return builder.gep(numbers, [builder.add(at, builder.mul(apart, WORD(times)))])
