"""A matrix unit's eight tiles for processors without one: a plugin for pytest, `-p emulated_tiles`.

What `tiles_numba.py` asks of the processor becomes calls of these functions, one for each instruction, after Intel's
manual (Architecture Instruction Set Extensions, chapter 3), but for numbers below 1e-38, which that takes for 0. A tile
has as many rows as it is configured with, of 64 bytes, and nothing else is read or written. Each thread has tiles of
its own. Machine code that calls these functions is not kept: it holds where they are in this process. For Linux.
"""

import ctypes

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.core.caching import NullCache
from numba.core.dispatcher import Dispatcher
from numba.extending import intrinsic

from alexnet.kernels import convolution_numba, tiles_numba, update_by_factors

THREADS, TILES, ROWS, WORDS = 4096, 8, 16, 16
NUMBERS = np.zeros((THREADS, TILES, ROWS, WORDS), np.uint32)
HEIGHTS = np.zeros((THREADS, TILES), np.int64)  # rows that each is configured with, 0 after `tilerelease`
OWNERS = np.zeros(THREADS, np.int64)  # threads share a place where the last 12 bits of their numbers are the same
FAULTS = np.zeros(1, np.int64)  # what a processor would not have done
NUMBERS_AT, HEIGHTS_AT, OWNERS_AT, FAULTS_AT = (each.ctypes.data for each in (NUMBERS, HEIGHTS, OWNERS, FAULTS))
HALF, HIGH = np.uint32(16), np.uint32(0xFFFF0000)

thread = ctypes.CDLL(None).gettid
thread.argtypes, thread.restype = [], ctypes.c_int


@intrinsic
def at(_, address):
    """The pointer that a number is."""

    def written_out(context, builder, signature, given):
        return builder.inttoptr(given[0], context.get_value_type(types.voidptr))

    return types.voidptr(address), written_out


@numba.njit
def tiles():
    """This thread's."""
    numbers = numba.carray(at(NUMBERS_AT), (THREADS, TILES, ROWS, WORDS), np.uint32)
    heights = numba.carray(at(HEIGHTS_AT), (THREADS, TILES), np.int64)
    own = thread() % THREADS
    return numbers[own], heights[own]


@numba.njit
def owners():
    return numba.carray(at(OWNERS_AT), THREADS, np.int64)


@numba.njit
def demand(right):
    if not right:
        numba.carray(at(FAULTS_AT), 1, np.int64)[0] += 1


def instruction(*kinds):
    return numba.cfunc(types.void(*kinds))


@instruction(types.int64)
def ldtilecfg(given):
    words, (numbers, heights) = numba.carray(at(given), 64, np.uint8), tiles()
    me = thread()
    before = owners()[me % THREADS]
    demand(not before or before == me)
    owners()[me % THREADS] = me
    demand(words[0] == 1 and words[1:16].sum() == 0 and words[32:48].sum() == 0 and words[56:].sum() == 0)
    for tile in range(TILES):
        heights[tile] = words[48 + tile]
        demand(0 < heights[tile] <= ROWS and words[16 + 2 * tile] == 64 and words[17 + 2 * tile] == 0)
    numbers[...] = 0


@instruction()
def tilerelease():
    tiles()[1][:] = 0
    owners()[thread() % THREADS] = 0


@instruction(types.uint8)
def tilezero(tile):
    numbers, heights = tiles()
    demand(heights[tile] > 0)
    numbers[tile] = 0


@instruction(types.uint8, types.int64, types.int64)
def tileloadd64(tile, given, apart):
    numbers, heights = tiles()
    demand(heights[tile] > 0)
    numbers[tile] = 0
    for row in range(heights[tile]):
        numbers[tile, row] = numba.carray(at(given + row * apart), WORDS, np.uint32)


@instruction(types.uint8, types.int64, types.int64)
def tilestored64(tile, given, apart):
    numbers, heights = tiles()
    demand(heights[tile] > 0)
    for row in range(heights[tile]):
        numba.carray(at(given + row * apart), WORDS, np.uint32)[:] = numbers[tile, row]


@numba.njit
def halves(numbers):
    """The two bf16 of each word, as float32."""
    return (numbers << HALF).view(np.float32), (numbers & HIGH).view(np.float32)


@instruction(types.uint8, types.uint8, types.uint8)
def tdpbf16ps(sums, left, right):
    numbers, heights = tiles()
    demand(0 < heights[sums] == heights[left] and heights[right] == WORDS and sums != left != right != sums)
    added = numbers[sums].view(np.float32)
    (low, high), (below, above) = halves(numbers[left]), halves(numbers[right])
    for row in range(heights[sums]):
        for column in range(WORDS):
            even = odd = np.float32(0)
            for pair in range(WORDS):  # a product of two bf16 is exact in float32, so each sum is rounded once
                even += low[row, pair] * below[pair, column]
                odd += high[row, pair] * above[pair, column]
            added[row, column] += even + odd


def call(builder, name, *given):
    """In the place of `tiles_numba._call`: the function of that name."""
    given = [builder.ptrtoint(each, ir.IntType(64)) if each.type.is_pointer else each for each in given]
    kind = ir.FunctionType(ir.VoidType(), [each.type for each in given])
    address = ir.Constant(ir.IntType(64), globals()[name].address)
    builder.call(builder.inttoptr(address, kind.as_pointer()), given)


def pytest_configure():
    """As if there were tiles."""
    torch.cpu._is_amx_tile_supported = torch.cpu._init_amx = tiles_numba.processor_has = lambda *_: True
    tiles_numba.there_are_tiles.cache_clear()
    tiles_numba._call = call
    for function in (*vars(convolution_numba).values(), *vars(update_by_factors).values()):
        if isinstance(function, Dispatcher):
            function._cache = NullCache()


def pytest_runtest_teardown(item):
    """No test may ask for what a processor does not do, nor leave it with tiles that it has to save for each thread."""
    faults, FAULTS[0] = FAULTS[0], 0
    assert not faults, f"{item.name}: {faults} instructions that there are not"
    assert not HEIGHTS.any(), f"{item.name}: tiles are not released"
