"""Compiled kernels say their vectors and nothing looks whether they lie within an array: here a page that nobody may
touch lies right behind each array, and right before it."""

import subprocess
import sys
from pathlib import Path

import pytest

from alexnet.kernels.compiled import AVAILABLE

EMULATED = f"""
import sys
sys.path.append({str(Path(__file__).parents[1])!r})
import emulated_tiles
emulated_tiles.pytest_configure()
"""
ALL = """
import ctypes, mmap
from itertools import product
import numpy as np, torch
from alexnet.kernels import after_convolution_numba, convolution_numba, dropout, in_blocks, laid_numba, pairs_numba
from alexnet.kernels import presentation_numba, update_by_factors, update_rule, winograd_numba, winograd_weights_numba
from alexnet.kernels import within_map_numba
from alexnet.kernels.after_convolution import Following
from alexnet.kernels.cores import Scratch
from alexnet.kernels.tiles_numba import there_are_tiles
from alexnet.kernels.update_by_factors import move_by_factors

PAGE, libc, kept = mmap.PAGESIZE, ctypes.CDLL(None), []

def fenced(x):
    # The same numbers, against a page that may not be touched.
    x = np.ascontiguousarray(x)
    room = -(-x.nbytes // PAGE) * PAGE
    memory = mmap.mmap(-1, room + 2 * PAGE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for fence in (start, start + PAGE + room):
        assert libc.mprotect(ctypes.c_void_p(fence), PAGE, 0) == 0
    at = PAGE if where == "before" else PAGE + room - x.nbytes
    found = np.frombuffer(memory, x.dtype, x.size, at).reshape(x.shape)
    found[...] = x
    kept.append(memory)
    return found

def maps(*shape, kind):
    return torch.randn(shape).to(kind).contiguous(memory_format=torch.channels_last)

def fenced_in(kernel, count, *given):
    # on_all_cores, with a fence around each array.
    given = [each.array() if isinstance(each, Scratch) else each for each in given]
    within = [fenced(each) if isinstance(each, np.ndarray) else each for each in given]
    for part in range(3):  # as three threads
        kernel(count * part // 3, count * (part + 1) // 3, *within)
    for each, own in zip(given, within):
        if isinstance(each, np.ndarray) and each.flags.writeable:
            each[...] = own

for module in (after_convolution_numba, convolution_numba, dropout, in_blocks, laid_numba, pairs_numba,
               presentation_numba, update_by_factors, update_rule, winograd_numba, winograd_weights_numba,
               within_map_numba):
    module.on_all_cores = fenced_in

for side in (1, 5, 6, 11, 16):
    for kind in (torch.bfloat16, torch.float32):
        for start in (None, 2):
            bytes_ = torch.zeros(3, side, side, 3, dtype=torch.uint8)
            corners, mirrored = torch.tensor([[0, 4], [4, 0], [4, 4]]), torch.tensor([True, False, True])
            for shifts in (None, torch.ones(3, 3)):
                mean = torch.ones(side + 4, side + 4, 3)
                presentation_numba.present(bytes_, corners, mirrored, shifts, mean, start, 0.5, kind)

PAPER, NINE = (2, 5, 2.0, 1e-4, 0.75), (1, 9, 1.0, 1e-4, 0.75)
EVERY = (Following(True, PAPER, (3, 2)), Following(False, PAPER, (2, 2), last=True), Following(norm=PAPER),
         Following(True, NINE, (3, 1)), Following(norm=NINE), Following(True, pool=(3, 2)), Following(pool=(2, 2)))
for kind in (torch.bfloat16, torch.float32):
    for what in EVERY:
        for count, height, width in ((96, 5, 6), (32, 3, 4), (24, 5, 4), (12, 3, 3), (2, 4, 3)):
            x = maps(2, count, height, width, kind=kind).requires_grad_()
            out = what(x)
            out.backward(out)
    for count, height, width in ((16, 5, 6), (3, 4, 5)):
        x, y, g = (maps(2, count, height, width, kind=kind) for _ in range(3))
        within_map_numba.forward(x, y, 2, 1.0, 1e-4, 0.75)
        within_map_numba.backward(x, y, g, 2, 1.0, 1e-4, 0.75)
    for count, height, width, pad in ((3, 21, 22, 1), (3, 14, 22, 0), (1, 13, 30, 0), (5, 12, 12, 2)):
        in_blocks.InBlocks.apply(maps(2, count, height, width, kind=torch.float32), kind, (pad, pad), 11)
    for length in (3, 37, 64):
        w, v, g = torch.zeros(length), torch.zeros(length), torch.ones(length, dtype=kind)
        for copy in (torch.ones(length, dtype=kind), None):
            update_rule.move(w, v, g, copy, torch.ones(3))
        dropout.dropped(torch.ones(2, length, dtype=kind), keep=0.5, scale=2, seed=torch.tensor(1))
    for images, units, inputs in ((1, 1, 16), (33, 20, 208), (8, 37, 96)):
        w, v, copy = torch.ones(units, inputs), torch.ones(units, inputs), torch.ones(units, inputs).bfloat16()
        x, g = torch.ones(images, inputs, dtype=kind), torch.ones(images, units, dtype=kind)
        move_by_factors(w, v, x, g, copy if kind == torch.bfloat16 else None, torch.ones(3))
    for count, gap in ((16, 1), (5, 2)):
        pairs_numba.in_pairs(maps(4, count, 3, 5, kind=kind), maps(4, count, 3, 5, kind=kind), gap)
SHAPES = ((64, 32, 5, 5, 3, 1, 1), (96, 128, 5, 27, 5, 2, 2), (48, 96, 4, 55, 3, 0, 1), (16, 32, 3, 3, 3, 0, 1))
for count, kernels, height, width, size, pad, groups in SHAPES if there_are_tiles() else ():
    x, bias = maps(3, count, height, width, kind=torch.bfloat16), torch.ones(kernels).bfloat16()
    weight = maps(kernels, count // groups, size, size, kind=torch.bfloat16)
    y = convolution_numba.forward(x, weight, bias, pad, groups, True)
    if convolution_numba.fits_back(weight, pad):
        convolution_numba.backward(y, y, weight, pad, groups)
MORE = (32, 64, 2, 30, 3, 2, 1), (96, 96, 1, 1, 5, 4, 3), (16, 144, 3, 4, 3, 1, 1)
for count, kernels, height, width, size, pad, groups in (*SHAPES, *MORE):
    for images, kind in product((3, 9), (torch.float32, torch.bfloat16)):
        x, bias = maps(images, count, height, width, kind=kind), torch.ones(kernels, dtype=kind)
        weight = maps(kernels, count // groups, size, size, kind=kind)
        assert winograd_numba.fits(x, weight, bias, pad, groups)
        y = winograd_numba.forward(x, weight, bias, pad, groups, True)
        if winograd_numba.fits_back(weight, pad):
            winograd_numba.backward(y, y, weight, pad, groups)
        for threads in (1, 2, 8):  # into more parts, of which some are larger
            torch.set_num_threads(threads)
            winograd_weights_numba.weights(x, y, y, size, pad, groups)
print("nothing right", where, flush=True)
"""
IN_TURN = f"""
for where in "before", "behind":
    exec({ALL!r})
"""


@pytest.mark.skipif(not AVAILABLE or sys.platform != "linux", reason="for compiled kernels, and Linux's mprotect")
def test_no_kernel_leaves_its_arrays():
    """In one process: to compile them all takes ten times as long as to call them."""
    emulated = EMULATED if "emulated_tiles" in sys.modules else ""
    done = subprocess.run([sys.executable, "-c", emulated + IN_TURN], capture_output=True, text=True, check=False)
    assert done.stdout == "nothing right before\nnothing right behind\n", (done.returncode, done.stderr[-2000:])
