"""A photograph to the 256 x 256 square of section 2: the compiled kernel, with and without strips, against Pillow.

One thread, interleaved repeats, medians in milliseconds. `python benchmarks/rescaling.py`; the last line is JSON.
"""

import json
import statistics
import time
from unittest.mock import patch

import numpy as np

from alexnet.data import decode
from alexnet.kernels import rescaling

SIZES = {(375, 500): 60, (2000, 3000): 20, (4000, 6000): 10, (9000, 11000): 3}  # height, width: repeats
WHOLE = 10**9  # rows in a strip: all of them


def main() -> None:
    """Time each size; the pixels of all ways are compared first."""
    medians = {}
    for size, repeats in SIZES.items():
        pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
        ways = {
            "pillow": patch.object(decode, "AVAILABLE", False),
            "whole": patch.object(rescaling, "STRIP", WHOLE),
            "ours": patch.object(rescaling, "STRIP", rescaling.STRIP),
        }
        squares, times = {}, {way: [] for way in ways}
        for _ in range(repeats + 1):
            for way, setting in ways.items():
                with setting:
                    began = time.perf_counter()
                    squares[way] = decode.square(pixels, 256)
                    times[way].append(1e3 * (time.perf_counter() - began))
        assert all(np.array_equal(squares["pillow"], square) for square in squares.values())
        found = {way: statistics.median(taken[1:]) for way, taken in times.items()}  # the first one compiles
        print(f"{size[0]:>6} x {size[1]:<6}", *(f"{way} {median:8.2f} ms  " for way, median in found.items()))
        medians["x".join(map(str, size))] = found
    print(json.dumps(medians))


if __name__ == "__main__":
    main()
