"""Between memory and `lanes_numba.py`: sixteen numbers of an array are taken and put, and called into the cache.

bf16 (uint16 to compiled code) is widened to float32 on the way and rounded back, the places of pooling's winners
(uint8) to int32. An index is added to the array's address as it is: it may not be negative, and nothing looks whether
it is within the array.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alexnet.kernels.compiled import AVAILABLE, compiled_part, in_llvm, processor_has
from alexnet.kernels.lanes_numba import LANES, Lanes, every, where

Floats = NDArray[Any]
LINE = 64  # bytes that enter the cache together
AHEAD = 256  # numbers: so far before it is its turn is a long line of them called there
# In which kind sums are kept.
WIDE: dict[torch.dtype, Any] = {torch.float32: np.float32, torch.float64: np.float64, torch.bfloat16: np.float32}
WIDER = {"uint16": "float32", "uint8": "int32"}

if AVAILABLE:
    from llvmlite import ir
    from llvmlite.binding import llvm_version_info
    from numba import types

    INT, HALF = ir.IntType(32), ir.IntType(16)

    class _BFloat(ir.Type):  # type: ignore[misc]
        """LLVM's bf16, which llvmlite has no name for."""

        def _to_string(self) -> str:
            return "bfloat"

    BFLOAT = _BFloat()  # the one there is: llvmlite asks whether types are equal


def bare(x: Tensor) -> Floats:
    """The same memory for compiled code, bf16 as uint16."""
    x = x.detach()
    whole: Floats = (x.view(torch.uint16) if x.dtype == torch.bfloat16 else x).numpy()
    return whole


def lines(x: Tensor) -> Floats:
    """The same of float[N, C, H, W] channels last: [N, H, W, C]."""
    return bare(x.permute(0, 2, 3, 1))


def _like(value: Any, kind: Any) -> Any:
    """Of that kind: one number if `value` is one, else a vector."""
    return ir.VectorType(kind, LANES) if isinstance(value.type, ir.VectorType) else kind


def _integer(value: Any, number: int) -> Any:
    """A constant of the value's own kind."""
    kind = value.type
    return ir.Constant(kind, [number] * LANES if isinstance(kind, ir.VectorType) else number)


def _widened(builder: Any, stored: str, value: Any) -> Any:
    if stored == "uint16":
        bits = builder.zext(value, _like(value, INT))
        return builder.bitcast(builder.shl(bits, _integer(bits, 16)), _like(value, ir.FloatType()))
    return builder.zext(value, _like(value, INT)) if stored == "uint8" else value


def _narrowed(builder: Any, stored: str, value: Any) -> Any:
    """The other way; bf16 rounded to the nearest, ties to even."""
    if stored == "uint8":
        return builder.trunc(value, _like(value, ir.IntType(8)))
    if stored != "uint16":
        return value
    # LLVM 15, which is Numba 0.61's, does not know how. The processor takes numbers below 1.2e-38 for 0.
    if processor_has("avx512bf16") and llvm_version_info >= (20,):
        return builder.bitcast(builder.fptrunc(value, _like(value, BFLOAT)), _like(value, HALF))
    bits = builder.bitcast(value, _like(value, INT))
    odd = builder.and_(builder.lshr(bits, _integer(bits, 16)), _integer(bits, 1))
    rounded = builder.lshr(builder.add(builder.add(bits, _integer(bits, 0x7FFF)), odd), _integer(bits, 16))
    # A NaN's rounding could carry it into infinity, or zero.
    unknown = builder.fcmp_unordered("uno", value, value)
    return builder.trunc(builder.select(unknown, _integer(bits, 0x7FC0), rounded), _like(value, HALF))


def _place(context: Any, builder: Any, kind: Any, array: Any, index: Any, whole: bool) -> Any:
    """A pointer to array[index], or to sixteen numbers from there on."""
    pointer = builder.gep(context.make_array(kind)(context, builder, array).data, [index])
    return builder.bitcast(pointer, ir.VectorType(pointer.type.pointee, LANES).as_pointer()) if whole else pointer


def _lanes_of(array: Any) -> Any:
    stored = str(array.dtype)
    return Lanes(getattr(types, WIDER.get(stored, stored)))


def _bytes(array: Any) -> int:
    return int(array.dtype.bitwidth) // 8


@in_llvm
def _sixteen(_: Any, array: Any, index: Any) -> Any:
    def written_out(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        place = _place(context, builder, signature.args[0], given[0], given[1], True)
        return _widened(builder, str(array.dtype), builder.load(place, align=_bytes(array)))

    return _lanes_of(array)(array, types.intp), written_out


@in_llvm
def _one_more(_: Any, lanes: Any, lane: Any, array: Any, index: Any) -> Any:
    def written_out(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        number = builder.load(_place(context, builder, signature.args[2], given[2], given[3], False))
        return builder.insert_element(given[0], _widened(builder, str(array.dtype), number), given[1])

    return lanes(lanes, types.intp, array, types.intp), written_out


@in_llvm
def _nothing(_: Any, array: Any) -> Any:
    """Zeros of the kind that the array's numbers are widened to."""
    lanes = _lanes_of(array)
    return lanes(array), lambda context, *_: ir.Constant(context.get_value_type(lanes), None)


@in_llvm
def _all_sixteen(_: Any, array: Any, index: Any, lanes: Any) -> Any:
    def written_out(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        place = _place(context, builder, signature.args[0], given[0], given[1], True)
        builder.store(_narrowed(builder, str(array.dtype), given[2]), place, align=_bytes(array))
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), written_out


@in_llvm
def _all_sixteen_past(_: Any, array: Any, index: Any, lanes: Any) -> Any:
    def written_out(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        place = _place(context, builder, signature.args[0], given[0], given[1], True)
        store = builder.store(_narrowed(builder, str(array.dtype), given[2]), place, align=LINE)
        store.set_metadata("nontemporal", builder.module.add_metadata([INT(1)]))
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), written_out


@in_llvm
def _one_of(_: Any, array: Any, index: Any, lanes: Any, lane: Any) -> Any:
    def written_out(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        number = _narrowed(builder, str(array.dtype), builder.extract_element(given[2], given[3]))
        builder.store(number, _place(context, builder, signature.args[0], given[0], given[1], False))
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes, types.intp), written_out


@compiled_part
def take(array: Any, index: int, left: int | None = None) -> Any:
    """Sixteen numbers from array[index] on, widened; zeros behind the `left` that there are. None: there are enough."""
    if left is None:
        return _sixteen(array, index)
    if left >= LANES:
        return _sixteen(array, index)
    lanes = _nothing(array)
    for lane in range(left):
        lanes = _one_more(lanes, lane, array, index + lane)
    return lanes


@compiled_part
def put(array: Any, index: int, left: int | None, lanes: Any) -> None:
    """The other way: narrowed, and no more than `left`."""
    if left is None:
        _all_sixteen(array, index, lanes)
        return
    if left >= LANES:
        _all_sixteen(array, index, lanes)
        return
    for lane in range(left):
        _one_of(array, index + lane, lanes, lane)


@compiled_part
def put_past(array: Any, index: int, left: int | None, lanes: Any) -> None:
    """`put`, past the caches where these are whole lines of them: nobody waits for what was there before. For what is
    not needed soon, in an array that begins with a line, as PyTorch's do. `settled` follows before others look."""
    if left is None and LANES * array.itemsize == LINE:
        _all_sixteen_past(array, index, lanes)
    else:
        put(array, index, left, lanes)


@in_llvm
def settled(_: Any) -> Any:
    """What has been put is there for all cores."""

    def written_out(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), written_out


@compiled_part
def on_a_line(x: Floats) -> Floats:
    """Its part from where a line of the cache begins: what is taken line by line costs twice where it lies across."""
    return x[-x.ctypes.data % LINE // x.itemsize :]


@compiled_part
def behind(ragged: int | None, i: int) -> Any:
    """How many numbers are left from the i-th on; None where there are whole sixteens of them, `ragged` being none."""
    if ragged is None:
        return None
    return ragged - i


def _soon(written: bool) -> Any:
    """`(array, index)`: ask for that number's line of the cache and go on without waiting; it may lie beyond."""

    def typed(_: Any, array: Any, index: Any) -> Any:
        def written_out(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            place = _place(context, builder, signature.args[0], given[0], given[1], False)
            place = builder.bitcast(place, ir.IntType(8).as_pointer())
            kind = ir.FunctionType(ir.VoidType(), [place.type, INT, INT, INT])
            prefetch = builder.module.declare_intrinsic("llvm.prefetch", (place.type,), kind)
            near, data_not_code = INT(2), INT(1)
            builder.call(prefetch, [place, INT(int(written)), near, data_not_code])
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
