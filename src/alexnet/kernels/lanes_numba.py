"""Sixteen numbers at a time, for compiled code: the widest vector of a processor, or two or four narrower ones.

Loops over numbers become vectors only where the compiler can prove that it may, and not where they are short, where
their arrays might overlap or hold bf16. Here vectors are said: `take` sixteen numbers of an array (`memory_numba.py`),
compute with them as with numbers, `put` them.
"""

import operator
from collections.abc import Sequence
from functools import partial
from typing import Any

from alexnet.kernels.compiled import AVAILABLE, in_llvm, processor_has

LANES = 16
ONCE = {"flags": ("contract",)}  # a product and a sum may be rounded once, as in all compiled code
Lanes: Any = None
ROUGH_ROOTS = processor_has("avx512f")  # whether `rough_root` may be called

if AVAILABLE:
    from llvmlite import ir
    from numba import types
    from numba.extending import lower_builtin, models, register_model, type_callable

    KINDS = {
        types.float32: ir.FloatType(),
        types.float64: ir.DoubleType(),
        types.int32: ir.IntType(32),
        types.boolean: ir.IntType(1),
    }

    class Lanes(types.Type):  # type: ignore[misc, no-redef]
        """Sixteen of a kind of numbers."""

        def __init__(self, number: Any) -> None:
            super().__init__(f"{LANES} x {number}")
            self.number = number

    @register_model(Lanes)
    class _Model(models.PrimitiveModel):  # type: ignore[misc]
        def __init__(self, manager: Any, lanes: Lanes) -> None:
            super().__init__(manager, lanes, ir.VectorType(KINDS[lanes.number], LANES))

    TRUTH, INT, WORD = Lanes(types.boolean), ir.IntType(32), ir.IntType(64)
    VECTOR = ir.VectorType(ir.FloatType(), LANES)


def every_lane(builder: Any, value: Any) -> Any:
    """A vector of one number; vectors as they are."""
    if isinstance(value.type, ir.VectorType):
        return value
    nothing = ir.Constant(ir.VectorType(value.type, LANES), ir.Undefined)
    first = builder.insert_element(nothing, value, INT(0))
    return builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(INT, LANES), [0] * LANES))


@in_llvm
def where(_: Any, truth: Any, one: Any, other: Any) -> Any:
    """Sixteen choices between one and the other, either of which may be a single number."""
    lanes = one if isinstance(one, Lanes) else other
    return lanes(truth, one, other), lambda context, builder, signature, given: builder.select(
        given[0], *(every_lane(builder, each) for each in given[1:])
    )


@in_llvm
def beside(_: Any, one: Any, other: Any, first: Any) -> Any:
    """Sixteen of the 32 that one and the other are, side by side, from the `first` on: a number in the code."""
    chosen = [first.literal_value + lane for lane in range(LANES)]
    return one(one, other, first), lambda context, builder, signature, given: builder.shuffle_vector(
        given[0], given[1], ir.Constant(ir.VectorType(INT, LANES), chosen)
    )


@in_llvm
def every(_: Any, number: Any) -> Any:
    """Sixteen times the same."""
    return Lanes(number)(number), lambda context, builder, signature, given: every_lane(builder, given[0])


@in_llvm
def five_turned(_: Any, lanes: Any) -> Any:
    """The last fifteen of sixteen, which are five pixels' three colours, as the five pixels in the other order; the
    sixteenth is whatever it is."""
    chosen = [1 + 3 * (4 - pixel) + colour for pixel in range(5) for colour in range(3)] + [0]
    return lanes(lanes), lambda context, builder, signature, given: builder.shuffle_vector(
        given[0], given[0], ir.Constant(ir.VectorType(INT, LANES), chosen)
    )


def _seen_as(kind: str) -> Any:
    def typed(_: Any, lanes: Any) -> Any:
        into = Lanes(getattr(types, kind))
        return into(lanes), lambda context, builder, signature, given: builder.bitcast(
            given[0], context.get_value_type(into)
        )

    return in_llvm(typed)


bits, of_bits = _seen_as("int32"), _seen_as("float32")  # those of float32, and the other way


@in_llvm
def rough_root(_: Any, lanes: Any) -> Any:
    """1 / sqrt of sixteen float32, to 0.006 percent."""

    def written_out(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        kind, mask = given[0].type, ir.IntType(LANES)(-1)
        function = ir.FunctionType(kind, [kind, kind, mask.type])
        return builder.call(outside(builder, "llvm.x86.avx512.rsqrt14.ps.512", function), [*given, *given, mask])

    return lanes(lanes), written_out


def outside(builder: Any, name: str, function: Any) -> Any:
    """A function of LLVM's or of another library's, to be called."""
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
        return (integers if whole else floats)(builder, *(every_lane(builder, side) for side in given))

    type_callable(function)(typed)
    for sides in ((Lanes, Lanes), (Lanes, types.Number), (types.Number, Lanes)):
        lower_builtin(function, *sides)(written_out)


def _power(builder: Any, base: Any, exponent: Any) -> Any:
    kind = f"v{LANES}f{32 if base.type.element == ir.FloatType() else 64}"
    function = ir.FunctionType(base.type, [base.type, base.type])
    return builder.call(outside(builder, f"llvm.pow.{kind}", function), [base, exponent])


def _compared(sign: str) -> tuple[Any, Any]:
    """What is not a number is unequal to all, itself too, and neither equal nor less nor more."""

    def floats(builder: Any, one: Any, other: Any) -> Any:
        return (builder.fcmp_unordered if sign == "!=" else builder.fcmp_ordered)(sign, one, other)

    return floats, lambda builder, one, other: builder.icmp_signed(sign, one, other)


if AVAILABLE:
    for name in ("add", "sub", "mul"):
        floats = partial(getattr(ir.IRBuilder, f"f{name}"), **ONCE)
        _operator(getattr(operator, name), floats, getattr(ir.IRBuilder, name))
    _operator(operator.truediv, ir.IRBuilder.fdiv)
    _operator(operator.pow, _power)
    _operator(operator.rshift, None, ir.IRBuilder.ashr)
    _operator(operator.and_, None, ir.IRBuilder.and_)
    _operator(operator.or_, None, ir.IRBuilder.or_)
    for function, sign in (("lt", "<"), ("le", "<="), ("gt", ">"), ("eq", "=="), ("ne", "!=")):
        _operator(getattr(operator, function), *_compared(sign), truth=True)
