"""A processor's matrix unit (AMX), for compiled code: products of tiles, sixteen rows of 64 bytes each.

There are eight tiles, known by numbers that stand in the code. A product adds, for sixteen rows of 32 bf16 and sixteen
columns of as many, 256 sums in float32; the columns' tile holds pairs of their numbers side by side.
"""

from functools import lru_cache
from typing import Any

import numpy as np
import torch

from alexnet.kernels.compiled import AVAILABLE, compiled_part, in_llvm, processor_has
from alexnet.kernels.lanes_numba import LANES, outside
from alexnet.kernels.memory_numba import numbers_of

TILE = 16  # rows of a tile, and columns of what products add to
DEPTH = 32  # bf16 numbers of a row that are multiplied at once
PAIRS = DEPTH // 2  # of them, as many rows has the columns' tile
AREA = TILE * DEPTH  # numbers of a tile
BLOCK = 2 * TILE  # rows and columns of four tiles of sums
LOW, HALF = np.int32(0xFFFF), np.int32(16)

if AVAILABLE:
    from llvmlite import ir
    from numba import types

    from alexnet.kernels.lanes_numba import WORD

    BYTE, NOTHING = ir.IntType(8), ir.VoidType()
    POINTER = BYTE.as_pointer()


@lru_cache(1)
def there_are_tiles() -> bool:
    """Whether this processor has such a unit, the system lets this process use it, and code is compiled for it."""
    if not AVAILABLE or not torch.cpu._is_amx_tile_supported() or not torch.cpu._init_amx():
        return False
    return processor_has("amx-tile") and processor_has("amx-bf16")


@lru_cache(None)
def tile_shapes(rows: int) -> Any:
    """The unit's configuration, uint8[64]: tiles 0 to 5 have so many rows, 6 and 7, for columns, 16; of 64 bytes."""
    words = np.zeros(64, np.uint8)
    words[0] = 1
    words[16:32:2], words[48:54], words[54:56] = 64, rows, TILE
    return words


def _call(builder: Any, name: str, *given: Any) -> None:
    kind = ir.FunctionType(NOTHING, [each.type for each in given])
    builder.call(outside(builder, f"llvm.x86.{name}", kind), given)


def _said(*tiles: Any) -> list[Any]:
    return [BYTE(tile.literal_value) for tile in tiles]


def _bytes_at(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    return builder.bitcast(builder.gep(numbers_of(context, builder, kind, array), [index]), POINTER)


@in_llvm
def tiles_begin(_: Any, shape: Any) -> Any:
    """Before a thread's first tile: `tile_shapes`."""

    def written_out(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        _call(builder, "ldtilecfg", _bytes_at(context, builder, signature.args[0], given[0], WORD(0)))
        return context.get_dummy_value()

    return types.void(shape), written_out


@in_llvm
def tiles_end(_: Any) -> Any:
    """Behind a thread's last tile."""

    def written_out(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        _call(builder, "tilerelease")
        return context.get_dummy_value()

    return types.void(), written_out


@in_llvm
def tile_clear(_: Any, tile: Any) -> Any:
    """Zeros."""

    def written_out(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        _call(builder, "tilezero", *_said(tile))
        return context.get_dummy_value()

    return types.void(tile), written_out


@in_llvm
def tile_add(_: Any, sums: Any, rows: Any, columns: Any) -> Any:
    """sums += rows x columns."""

    def written_out(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        _call(builder, "tdpbf16ps", *_said(sums, rows, columns))
        return context.get_dummy_value()

    return types.void(sums, rows, columns), written_out


def _moved(name: str) -> Any:
    def typed(_: Any, tile: Any, array: Any, index: Any, apart: Any) -> Any:
        def written_out(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            place = _bytes_at(context, builder, array, given[1], given[2])
            size = WORD(int(array.dtype.bitwidth) // 8)
            _call(builder, name, *_said(tile), place, builder.mul(given[3], size))
            return context.get_dummy_value()

        return types.void(tile, array, types.intp, types.intp), written_out

    return in_llvm(typed)


# (tile, array, index of its first number, how many numbers its rows lie apart)
tile_take, tile_put = _moved("tileloadd64"), _moved("tilestored64")


@in_llvm
def turn(_: Any, square: Any, into: Any, to: Any) -> Any:
    """int32[256], sixteen rows of sixteen: their rows and columns exchanged, to another array from `to` on."""

    def written_out(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        kind = ir.VectorType(ir.IntType(32), LANES)

        def place(which: int, first: Any, row: int) -> Any:
            index = builder.add(first, WORD(row * LANES))
            there = _bytes_at(context, builder, signature.args[which], given[which], index)
            return builder.bitcast(there, kind.as_pointer())

        rows = [builder.load(place(0, WORD(0), row), align=4) for row in range(LANES)]
        for step in (8, 4, 2, 1):
            for row in (row for row in range(LANES) if not row & step):
                one, other = rows[row], rows[row + step]
                lanes = range(LANES)
                near = [lane if not lane & step else LANES + lane - step for lane in lanes]
                far = [lane + step if not lane & step else LANES + lane for lane in lanes]
                for which, chosen in ((row, near), (row + step, far)):
                    mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), chosen)
                    rows[which] = builder.shuffle_vector(one, other, mask)
        for row in range(LANES):
            builder.store(rows[row], place(1, given[2], row), align=4)
        return context.get_dummy_value()

    return types.void(square, into, types.intp), written_out


@compiled_part
def interleaved(one: Any, other: Any) -> Any:
    """Sixteen pairs of bf16, of the `bits` of twice sixteen numbers."""
    return ((one >> HALF) & LOW) | other
