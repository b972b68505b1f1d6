"""Sixteen numbers at a time, for compiled code: the widest vector of a processor, or two or four narrower ones.

Loops over numbers become vectors only where the compiler can prove that it may, and not where they are short, where
their arrays might overlap or hold bf16. Here vectors are said: `take` sixteen numbers of an array, compute with them
as with numbers, `put` them. bf16 (uint16 to compiled code) is widened to float32 and rounded back on the way.
"""

import operator
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from alexnet.kernels.compiled import AVAILABLE, FEATURES, compiled_part

LANES = 16
HAS = FEATURES.split(",")
ROUGH_ROOTS = "+avx512f" in HAS
# What they are computed with: bf16 as uint16, the places of pooling's winners as uint8.
WIDER = {"uint16": "float32", "uint8": "int32"}

if AVAILABLE:
    from llvmlite import ir
    from numba import types
    from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable

    KINDS = {
        types.float32: ir.FloatType(),
        types.float64: ir.DoubleType(),
        types.int32: ir.IntType(32),
        types.boolean: ir.IntType(1),
    }

    class Lanes(types.Type):  # type: ignore[misc]
        """Sixteen of a kind of numbers."""

        def __init__(self, number: Any) -> None:
            super().__init__(f"{LANES} x {number}")
            self.number = number

    @register_model(Lanes)
    class _Model(models.PrimitiveModel):  # type: ignore[misc]
        def __init__(self, manager: Any, lanes: Lanes) -> None:
            super().__init__(manager, lanes, ir.VectorType(KINDS[lanes.number], LANES))

    class _BFloat(ir.Type):  # type: ignore[misc]
        """LLVM's bf16, which llvmlite has no name for."""

        def _to_string(self) -> str:
            return "bfloat"

    TRUTH, INT, HALF = Lanes(types.boolean), ir.IntType(32), ir.IntType(16)


def _like(value: Any, kind: Any) -> Any:
    """Of that kind: one number if `value` is one, else a vector."""
    return ir.VectorType(kind, LANES) if isinstance(value.type, ir.VectorType) else kind


def _every(builder: Any, value: Any) -> Any:
    """A vector of one number; vectors as they are."""
    if isinstance(value.type, ir.VectorType):
        return value
    nothing = ir.Constant(ir.VectorType(value.type, LANES), ir.Undefined)
    first = builder.insert_element(nothing, value, INT(0))
    return builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(INT, LANES), [0] * LANES))


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
    if "+avx512bf16" in HAS:  # takes numbers below 1.2e-38 for 0
        return builder.bitcast(builder.fptrunc(value, _like(value, _BFloat())), _like(value, HALF))
    bits = builder.bitcast(value, _like(value, INT))
    odd = builder.and_(builder.lshr(bits, _integer(bits, 16)), _integer(bits, 1))
    rounded = builder.lshr(builder.add(builder.add(bits, _integer(bits, 0x7FFF)), odd), _integer(bits, 16))
    # A NaN's rounding could carry it into infinity, or zero.
    unknown = builder.fcmp_unordered("uno", value, value)
    return builder.trunc(builder.select(unknown, _integer(bits, 0x7FC0), rounded), _like(value, HALF))


def _place(context: Any, builder: Any, kind: Any, array: Any, index: Any, whole: bool) -> Any:
    """A pointer to array[index], or to sixteen numbers from there on; an index without a sign may not be negative."""
    pointer = builder.gep(context.make_array(kind)(context, builder, array).data, [index])
    return builder.bitcast(pointer, ir.VectorType(pointer.type.pointee, LANES).as_pointer()) if whole else pointer


def _intrinsic(typed: Callable[..., Any]) -> Any:
    """`typed(types, *argument types)` as a function of compiled code; it knows what numbers stand in that code."""
    return intrinsic(prefer_literal=True)(typed) if AVAILABLE else None


def _lanes_of(array: Any) -> Any:
    stored = str(array.dtype)
    return Lanes(getattr(types, WIDER.get(stored, stored)))


def _bytes(array: Any) -> int:
    return int(array.dtype.bitwidth) // 8


@_intrinsic
def _sixteen(_: Any, array: Any, index: Any) -> Any:
    def written_out(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        place = _place(context, builder, signature.args[0], given[0], given[1], True)
        return _widened(builder, str(array.dtype), builder.load(place, align=_bytes(array)))

    return _lanes_of(array)(array, types.intp), written_out


@_intrinsic
def _one_more(_: Any, lanes: Any, lane: Any, array: Any, index: Any) -> Any:
    def written_out(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        number = builder.load(_place(context, builder, signature.args[2], given[2], given[3], False))
        return builder.insert_element(given[0], _widened(builder, str(array.dtype), number), given[1])

    return lanes(lanes, types.intp, array, types.intp), written_out


@_intrinsic
def _nothing(_: Any, array: Any) -> Any:
    """Zeros of the kind that the array's numbers are widened to."""
    lanes = _lanes_of(array)
    return lanes(array), lambda context, *_: ir.Constant(context.get_value_type(lanes), None)


@_intrinsic
def _all_sixteen(_: Any, array: Any, index: Any, lanes: Any) -> Any:
    def written_out(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        place = _place(context, builder, signature.args[0], given[0], given[1], True)
        builder.store(_narrowed(builder, str(array.dtype), given[2]), place, align=_bytes(array))
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), written_out


@_intrinsic
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
def behind(ragged: int | None, i: int) -> Any:
    """How many numbers are left from the i-th on; None where there are whole sixteens of them, `ragged` being none."""
    if ragged is None:
        return None
    return ragged - i


@_intrinsic
def where(_: Any, truth: Any, one: Any, other: Any) -> Any:
    """Sixteen choices between one and the other, either of which may be a single number."""
    lanes = one if isinstance(one, Lanes) else other
    return lanes(truth, one, other), lambda context, builder, signature, given: builder.select(
        given[0], *(_every(builder, each) for each in given[1:])
    )


@_intrinsic
def beside(_: Any, one: Any, other: Any, first: Any) -> Any:
    """Sixteen of the 32 that one and the other are, side by side, from the `first` on: a number in the code."""
    chosen = [first.literal_value + lane for lane in range(LANES)]
    return one(one, other, first), lambda context, builder, signature, given: builder.shuffle_vector(
        given[0], given[1], ir.Constant(ir.VectorType(INT, LANES), chosen)
    )


@_intrinsic
def every(_: Any, number: Any) -> Any:
    """Sixteen times the same."""
    return Lanes(number)(number), lambda context, builder, signature, given: _every(builder, given[0])


def _seen_as(kind: str) -> Any:
    def typed(_: Any, lanes: Any) -> Any:
        into = Lanes(getattr(types, kind))
        return into(lanes), lambda context, builder, signature, given: builder.bitcast(
            given[0], context.get_value_type(into)
        )

    return _intrinsic(typed)


bits, number = _seen_as("int32"), _seen_as("float32")  # the bits of float32, and the other way


@_intrinsic
def rough_root(_: Any, lanes: Any) -> Any:
    """1 / sqrt of sixteen float32, to 0.006 percent; where ROUGH_ROOTS are."""

    def written_out(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        kind, every_lane = given[0].type, ir.IntType(LANES)(-1)
        function = ir.FunctionType(kind, [kind, kind, every_lane.type])
        return builder.call(_outside(builder, "llvm.x86.avx512.rsqrt14.ps.512", function), [*given, *given, every_lane])

    return lanes(lanes), written_out


def _outside(builder: Any, name: str, function: Any) -> Any:
    return builder.module.globals.get(name) or ir.Function(builder.module, function, name)


def _operator(function: Any, floats: Any, integers: Any = None, truth: bool = False) -> None:
    """Make `function` known for lanes with lanes or numbers of their kind: by `floats` or `integers`, a method of
    llvmlite's builder that is given the builder and both sides."""

    def lanes_of(sides: Sequence[Any]) -> Any:
        found = next((each for each in sides if isinstance(each, Lanes)), None)
        return found if found and all(each in (found, found.number) for each in sides) else None

    def typed(_: Any) -> Any:
        def result(one: Any, other: Any) -> Any:
            lanes = lanes_of((one, other))
            return TRUTH if lanes and truth else lanes

        return result

    def written_out(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        whole = lanes_of(signature.args).number in (types.int32, types.boolean)
        return (integers if whole else floats)(builder, *(_every(builder, side) for side in given))

    type_callable(function)(typed)
    for sides in ((Lanes, Lanes), (Lanes, types.Number), (types.Number, Lanes)):
        lower_builtin(function, *sides)(written_out)


def _power(builder: Any, base: Any, exponent: Any) -> Any:
    kind = f"v{LANES}f{32 if base.type.element == ir.FloatType() else 64}"
    function = ir.FunctionType(base.type, [base.type, base.type])
    return builder.call(_outside(builder, f"llvm.pow.{kind}", function), [base, exponent])


def _compared(sign: str) -> tuple[Any, Any]:
    """What is not a number is unequal to all, and neither less nor more."""

    def floats(builder: Any, one: Any, other: Any) -> Any:
        return (builder.fcmp_unordered if sign == "!=" else builder.fcmp_ordered)(sign, one, other)

    return floats, lambda builder, one, other: builder.icmp_signed(sign, one, other)


if AVAILABLE:
    together = {"flags": ("contract",)}  # a product and a sum may be rounded once, as in all compiled code
    for name in ("add", "sub", "mul"):
        floats = partial(getattr(ir.IRBuilder, f"f{name}"), **together)
        _operator(getattr(operator, name), floats, getattr(ir.IRBuilder, name))
    _operator(operator.truediv, ir.IRBuilder.fdiv)
    _operator(operator.pow, _power)
    _operator(operator.rshift, None, ir.IRBuilder.ashr)
    _operator(operator.or_, None, ir.IRBuilder.or_)
    for function, sign in (("lt", "<"), ("le", "<="), ("gt", ">"), ("eq", "=="), ("ne", "!=")):
        _operator(getattr(operator, function), *_compared(sign), truth=True)
