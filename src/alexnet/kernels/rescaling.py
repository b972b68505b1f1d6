"""Section 2: Pillow's antialiased rescaling, to the bit, of only that part which is kept: several times as fast.

Pillow rescales along the rows, rounds to bytes, then along the columns (`columns_first` tells when newer ones turn that
round). Each output is a sum of input bytes times
whole-numbered weights of 22 bits. The weights here are the same numbers (tests compare all pixels), but what a crop
will cut away is not computed, and one pass serves both directions: the picture is turned in between, so that its
innermost loop always runs over neighbouring bytes.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from alexnet.kernels.compiled import compiled

STRIP = 64  # rows that are turned together: a large picture's would fall out of the cache
BITS = 22  # of a weight: 32, less 8 for a byte, less 2 for sums below zero or above one
Reals = NDArray[np.float64]


class Weights(NamedTuple):
    """How some output lines are made of input lines.

    first    int32[N]      the first input line of each
    taps     int32[N]      of how many
    shares   int32[N, M]   in units of 2^-22
    """

    first: NDArray[np.int32]
    taps: NDArray[np.int32]
    shares: NDArray[np.int32]

    @property
    def needed(self) -> slice:
        """The input lines that any output needs."""
        return slice(int(self.first[0]), int(self.first[-1] + self.taps[-1]))


def _box(x: Reals) -> Reals:
    return np.where((x > -0.5) & (x <= 0.5), 1.0, 0.0)


def _triangle(x: Reals) -> Reals:
    return np.where(np.abs(x) < 1, 1 - np.abs(x), 0)


def _cubic(x: Reals) -> Reals:
    x = np.abs(x)
    near, far = (1.5 * x - 2.5) * x * x + 1, (((x - 5) * x + 8) * x - 4) * -0.5
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def _lanczos(x: Reals) -> Reals:
    return np.where((x >= -3) & (x < 3), np.sinc(x) * np.sinc(x / 3), 0)


FILTERS: dict[str, tuple[Callable[[Reals], Reals], float]] = {  # with half their width
    "area": (_box, 0.5),
    "bilinear": (_triangle, 1),
    "bicubic": (_cubic, 2),
    "lanczos": (_lanczos, 3),
}


def rescaled(
    pixels: NDArray[np.uint8], size: tuple[int, int], corner: tuple[int, int], part: tuple[int, int], by: str
) -> NDArray[np.uint8]:
    """A part of the picture rescaled to `size`.

    pixels    uint8[H, W, 3]
    size      height and width of the whole rescaled picture
    corner    row and column where the part begins in it
    part      the part's height and width
    by        "area", "bilinear", "bicubic" or "lanczos": as wide as the pixels that shrink into one
    returns   uint8[part, 3]
    """
    down = weights(pixels.shape[0], size[0], corner[0], part[0], by)
    across = weights(pixels.shape[1], size[1], corner[1], part[1], by)
    needed = pixels[down.needed, across.needed]
    rows, columns, colours = needed.shape
    upright = np.empty((rows, part[1] * colours), np.uint8)
    for top in range(0, rows, STRIP):
        strip = needed[top : top + STRIP]
        turned = np.ascontiguousarray(strip.transpose(1, 2, 0)).reshape(columns, -1)
        narrow = np.empty((part[1], turned.shape[1]), np.uint8)
        _weighted(turned, across.first - across.first[0], across.taps, across.shares, narrow)
        upright[top : top + STRIP] = narrow.reshape(part[1] * colours, -1).T
    whole = np.empty((part[0], part[1] * colours), np.uint8)
    _weighted(upright, down.first - down.first[0], down.taps, down.shares, whole)
    return whole.reshape(*part, colours)


def columns_first(height: int, width: int, size: tuple[int, int]) -> bool:
    """Whether Pillow 13 goes along the columns first, which rounds differently: where much height is lost."""
    return 0 < height - size[0] > 2 * (width - size[1])


@lru_cache(256)
def weights(lines: int, size: int, start: int, count: int, by: str) -> Weights:
    """The weights of the output lines `start` to `start + count`, of `size` that are made of `lines`."""
    shape, half = FILTERS[by]
    scale = lines / size
    wide = max(scale, 1.0)
    centres = (np.arange(start, start + count) + 0.5) * scale
    first = np.maximum((centres - half * wide + 0.5).astype(np.int64), 0)
    counts = np.minimum((centres + half * wide + 0.5).astype(np.int64), lines) - first
    tap = np.arange(counts.max())
    shares = shape((tap + first[:, None] - centres[:, None] + 0.5) * (1 / wide))
    shares[tap >= counts[:, None]] = 0
    shares /= np.add.accumulate(shares, axis=1)[:, -1:]  # from left to right, as Pillow sums them
    whole = np.trunc(shares * 2**BITS + np.where(shares < 0, -0.5, 0.5))
    return Weights(first.astype(np.int32), counts.astype(np.int32), whole.astype(np.int32))


@compiled
def _weighted(
    source: NDArray[np.uint8],
    first: NDArray[np.int32],
    taps: NDArray[np.int32],
    shares: NDArray[np.int32],
    into: NDArray[np.uint8],
) -> None:
    """Each line of `into`, uint8[N, L], as the weighted sum of lines of `source`, uint8[M, L], rounded and clipped."""
    length = source.shape[1]
    sums = np.empty(length, np.int32)
    for line in range(into.shape[0]):
        sums[:] = 1 << (BITS - 1)
        for tap in range(taps[line]):
            weight, row = shares[line, tap], first[line] + tap
            for i in range(length):
                sums[i] += weight * np.int32(source[row, i])
        for i in range(length):
            into[line, i] = min(max(sums[i] >> BITS, 0), 255)
