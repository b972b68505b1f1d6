"""Between memory and `lanes_numba.py`: sixteen numbers of an array are taken and put, and called into the cache.

bf16 (uint16 to compiled code) is widened to float32 on the way and rounded back, the places of pooling's winners
(uint8) to int32. An index is added to the array's address as it is: it may not be negative, and nothing looks whether
it is within the array.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alexnet.kernels.compiled import AVAILABLE, compiled_part, in_llvm, processor_has
from alexnet.kernels.cores import LINE
from alexnet.kernels.lanes_numba import LANES, Lanes, every, every_lane, outside, where

Floats = NDArray[Any]
# In which kind sums are kept.
WIDE: dict[torch.dtype, Any] = {torch.float32: np.float32, torch.float64: np.float64, torch.bfloat16: np.float32}
WIDER = {"uint16": "float32", "uint8": "int32"}

if AVAILABLE:
    from llvmlite import ir
    from llvmlite.binding import llvm_version_info
    from numba import types

    from alexnet.kernels.lanes_numba import VECTOR

    class _BFloat(ir.Type):  # type: ignore[misc]
        """LLVM's bf16, which llvmlite has no name for."""

        def _to_string(self) -> str:
            return "bfloat"

    BFLOAT = _BFloat()  # the one there is: llvmlite asks whether types are equal
    INT = ir.IntType(32)
    INTS, HALVES = ir.VectorType(INT, LANES), ir.VectorType(ir.IntType(16), LANES)


def bare(x: Tensor) -> Floats:
    """The same memory for compiled code, bf16 as uint16."""
    x = x.detach()
    whole: Floats = (x.view(torch.uint16) if x.dtype == torch.bfloat16 else x).numpy()
    return whole


def lines(x: Tensor) -> Floats:
    """All numbers of float[N, C, H, W], which lies channels last, in the order of its memory: [N * H * W * C]."""
    return bare(x.permute(0, 2, 3, 1).view(-1))


def _sixteen(kind: Any, number: int) -> Any:
    """Sixteen times a number, in the code."""
    return ir.Constant(ir.VectorType(kind, LANES), [number] * LANES)


def widened(builder: Any, stored: str, value: Any) -> Any:
    """Sixteen numbers of the kind `stored` (NumPy's name), as the kind that is computed with (`WIDER`)."""
    if stored == "uint16":
        return builder.bitcast(builder.shl(builder.zext(value, INTS), _sixteen(INT, 16)), VECTOR)
    return builder.zext(value, INTS) if stored == "uint8" else value


def narrowed(builder: Any, stored: str, value: Any) -> Any:
    """The other way; bf16 rounded to the nearest, ties to even."""
    if stored == "uint8":
        return builder.trunc(value, ir.VectorType(ir.IntType(8), LANES))
    if stored != "uint16":
        return value
    # LLVM 15, which is Numba 0.61's, does not know how. The processor takes numbers below 1.2e-38 for 0.
    if processor_has("avx512bf16") and llvm_version_info >= (20,):
        return builder.bitcast(builder.fptrunc(value, ir.VectorType(BFLOAT, LANES)), HALVES)
    bits = builder.bitcast(value, INTS)
    odd = builder.and_(builder.lshr(bits, _sixteen(INT, 16)), _sixteen(INT, 1))
    rounded = builder.lshr(builder.add(builder.add(bits, _sixteen(INT, 0x7FFF)), odd), _sixteen(INT, 16))
    # A NaN's rounding could carry it into infinity, or zero.
    unknown = builder.fcmp_unordered("uno", value, value)
    return builder.trunc(builder.select(unknown, _sixteen(INT, 0x7FC0), rounded), HALVES)


def numbers_of(context: Any, builder: Any, kind: Any, array: Any) -> Any:
    """A pointer to an array's first number, as LLVM's code has it."""
    return context.make_array(kind)(context, builder, array).data


def sixteen_at(builder: Any, numbers: Any, index: Any) -> Any:
    """A pointer to sixteen of the numbers, of whatever kind, from that one on."""
    place = builder.gep(numbers, [index])
    return builder.bitcast(place, ir.VectorType(place.type.pointee, LANES).as_pointer())


def _lanes_of(array: Any) -> Any:
    stored = str(array.dtype)
    return Lanes(getattr(types, WIDER.get(stored, stored)))


def bytes_of(array: Any) -> int:
    """Of one of its numbers."""
    return int(array.dtype.bitwidth) // 8


def _either(builder: Any, left: Any, whole: Callable[[], Any], part: Callable[[Any], Any]) -> Any:
    """What `whole` writes out if there are sixteen numbers left, else `part`, told for which lanes there are."""
    with builder.if_else(builder.icmp_signed(">=", left, left.type(LANES))) as (then, otherwise):
        with then:
            one, where_one = whole(), builder.block
        with otherwise:
            lane = ir.Constant(ir.VectorType(left.type, LANES), list(range(LANES)))
            other, where_other = part(builder.icmp_signed("<", lane, every_lane(builder, left))), builder.block
    if one.type == ir.VoidType():
        return one
    found = builder.phi(one.type)
    found.add_incoming(one, where_one)
    found.add_incoming(other, where_other)
    return found


def _masked(builder: Any, what: str, result: Any, given: Sequence[Any], numbers: Any) -> Any:
    """LLVM's masked load or store of a vector of that kind."""
    name = f"llvm.masked.{what}.v{LANES}{numbers.element.intrinsic_name}.p0"
    return builder.call(outside(builder, name, ir.FunctionType(result, [each.type for each in given])), given)


@in_llvm
def take(_: Any, array: Any, index: Any, left: Any = None) -> Any:
    """Sixteen numbers from array[index] on, widened; zeros behind the `left` that there are. None: there are enough."""
    left = types.none if left is None else left

    def written_out(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        place, near = sixteen_at(builder, numbers_of(context, builder, array, given[0]), given[1]), bytes_of(array)
        numbers = place.type.pointee

        def part(there: Any) -> Any:
            return _masked(builder, "load", numbers, (place, INT(near), there, numbers(None)), numbers)

        def whole() -> Any:
            return builder.load(place, align=near)

        found = whole() if _enough(left) else _either(builder, given[2], whole, part)
        return widened(builder, str(array.dtype), found)

    return _lanes_of(array)(array, types.intp, left if _enough(left) else types.intp), written_out


def _store(past: bool) -> Any:
    """`(array, index, left, lanes)`: narrowed, and no more than `left`. Past the caches, if that is asked for, where
    they are whole lines of them: nobody waits for what was there before. For what is not needed soon, in an array that
    begins with a line, as PyTorch's do; `settled` follows before others look."""

    def typed(_: Any, array: Any, index: Any, left: Any, lanes: Any) -> Any:
        def written_out(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            place, near = sixteen_at(builder, numbers_of(context, builder, array, given[0]), given[1]), bytes_of(array)
            numbers = narrowed(builder, str(array.dtype), given[3])
            lines = past and _enough(left) and LANES * near == LINE

            def whole() -> Any:
                store = builder.store(numbers, place, align=LINE if lines else near)
                if lines:
                    store.set_metadata("nontemporal", builder.module.add_metadata([INT(1)]))
                return store

            def part(there: Any) -> Any:
                return _masked(builder, "store", ir.VoidType(), (numbers, place, INT(near), there), numbers.type)

            whole() if _enough(left) else _either(builder, given[2], whole, part)
            return context.get_dummy_value()

        return types.void(array, types.intp, left if _enough(left) else types.intp, lanes), written_out

    return in_llvm(typed)


def _enough(left: Any) -> bool:
    return isinstance(left, types.NoneType)


put, put_past = _store(False), _store(True)


@in_llvm
def settled(_: Any) -> Any:
    """What has been put is there for all cores."""

    def written_out(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), written_out


@in_llvm
def behind(_: Any, ragged: Any, i: Any) -> Any:
    """How many numbers are left from the i-th on; None where there are whole sixteens of them, `ragged` being none."""
    if _enough(ragged):
        return types.none(ragged, types.intp), lambda context, *_: context.get_dummy_value()
    return types.intp(types.intp, types.intp), lambda context, builder, signature, given: builder.sub(*given)


def call_in(builder: Any, numbers: Any, index: Any, written: bool) -> None:
    """That number's line into the cache, to be read or to be written."""
    place = builder.bitcast(builder.gep(numbers, [index]), ir.IntType(8).as_pointer())
    kind = ir.FunctionType(ir.VoidType(), [place.type, INT, INT, INT])
    prefetch = builder.module.declare_intrinsic("llvm.prefetch", (place.type,), kind)
    near, data_not_code = INT(2), INT(1)
    builder.call(prefetch, [place, INT(int(written)), near, data_not_code])


def _soon(written: bool) -> Any:
    """`(array, index)`: ask for that number's line of the cache and go on without waiting; it may lie beyond."""

    def typed(_: Any, array: Any, index: Any) -> Any:
        def written_out(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            call_in(builder, numbers_of(context, builder, signature.args[0], given[0]), given[1], written)
            return context.get_dummy_value()

        return types.void(array, types.intp), written_out

    return in_llvm(typed)


soon_read, soon_written = _soon(False), _soon(True)


@compiled_part
def let_through(x: Floats, above: Floats | None, at: int, ahead: int, left: int | None) -> Any:
    """Sixteen numbers, and 0 where those of `above`, if it is there, are at or below 0. What is so far ahead is called
    into the cache."""
    soon_read(x, at + ahead)
    own = take(x, at, left)
    if above is None:
        return own
    soon_read(above, at + ahead)
    zero = every(np.float32(0))
    return where(take(above, at, left) <= zero, zero, own)
