"""Lines of activities in the cache, for compiled code: widened from bf16, normalized across maps, rounded again.

A line holds many pixels' maps one after the other, so its sweeps are long enough for vectors. Written so that each
sweep reads and writes different arrays or one: what may overlap is not vectorized.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alexnet.kernels.compiled import compiled

Floats = NDArray[Any]
NEARLY = np.int32(0x6F14E000)  # the constant with the smallest largest error, 4.4 %, over four octaves
# In which kind sums are kept; bf16 is seen by compiled code as uint16.
WIDE: dict[torch.dtype, Any] = {torch.float32: np.float32, torch.float64: np.float64, torch.bfloat16: np.float32}


def lines(x: Tensor) -> Floats:
    """The same memory for compiled code: [N, H, W, C] of float[N, C, H, W] channels last, bf16 as uint16."""
    x = x.detach().permute(0, 2, 3, 1)
    whole: Floats = (x.view(torch.uint16) if x.dtype == torch.bfloat16 else x).numpy()
    return whole


def numbers(dtype: torch.dtype, k: float, alpha: float, beta: float) -> Floats:
    """What compiled code calls `wide`: k, alpha, beta, 0, 1, 1/4, 5/32, in the kind that sums are kept in."""
    return np.array([k, alpha, beta, 0, 1, 1 / 4, 5 / 32], WIDE[dtype])


@compiled
def read(source: Floats, into: Floats, half: bool) -> None:
    """A line of numbers, widened from bf16 where it is that."""
    if half:
        bits = into.view(np.uint32)
        for i in range(source.shape[0]):
            bits[i] = np.uint32(np.uint32(source[i]) << np.uint32(16))
    else:
        for i in range(source.shape[0]):
            into[i] = source[i]


@compiled
def write(source: Floats, into: Floats, half: bool) -> None:
    """A line of numbers, rounded to bf16 (to the nearest, ties to even) where it becomes that."""
    if half:
        bits = source.view(np.uint32)
        for i in range(into.shape[0]):
            b = bits[i]
            odd = np.uint32(np.uint32(b >> np.uint32(16)) & np.uint32(1))
            rounded = np.uint32(np.uint32(b + np.uint32(0x7FFF)) + odd) >> np.uint32(16)
            # A NaN's rounding could carry it into infinity, or zero.
            into[i] = np.uint16(0x7FC0) if source[i] != source[i] else np.uint16(rounded)
    else:
        for i in range(into.shape[0]):
            into[i] = source[i]


@compiled
def _window_sums(e: Floats, s: Floats, share: int, below: int, above: int) -> None:
    """s[i] = e[i - below] + ... + e[i + above] within each tower's share; many pixels' maps lie one after the other."""
    length = e.shape[0]
    if below == 2 and above == 2:  # the paper's window in one sweep
        a, b, c, d, f, middle = e[: length - 4], e[1 : length - 3], e[2 : length - 2], e[3 : length - 1], e[4:], s[2:]
        for i in range(length - 4):
            middle[i] = (a[i] + b[i]) + (c[i] + d[i]) + f[i]
    else:
        s[:] = e
        for reach in range(1, below + 1):
            their, own = e[: length - reach], s[reach:]
            for i in range(length - reach):
                own[i] += their[i]
        for reach in range(1, above + 1):
            their = e[reach:]
            for i in range(length - reach):
                s[i] += their[i]
    # Long sweeps are fast and reach over the shares' ends: what lies there is summed again.
    if below == 2 and above == 2 and share >= 4:
        for start in range(0, length, share):
            end = start + share
            two, last_two = e[start] + e[start + 1], e[end - 2] + e[end - 1]
            s[start], s[start + 1] = two + e[start + 2], two + e[start + 2] + e[start + 3]
            s[end - 1], s[end - 2] = e[end - 3] + last_two, e[end - 4] + e[end - 3] + last_two
        return
    for start in range(0, length, share):
        for i in range(min(below, share)):
            s[start + i] = e[start]
            for j in range(1, min(i + above + 1, share)):
                s[start + i] += e[start + j]
        for i in range(max(below, share - above), share):
            s[start + i] = e[start + i - below]
            for j in range(i - below + 1, share):
                s[start + i] += e[start + j]


@compiled
def rectify(v: Floats, zero: Any) -> None:
    """v becomes max(0, v); what is not a number stays so. With a zero that it does not know LLVM uses vectors."""
    for i in range(v.shape[0]):
        v[i] = np.maximum(v[i], zero)


@compiled
def pass_back(g: Floats, v: Floats, zero: Any) -> None:
    """g stays where the rectified v is above 0, and becomes 0 elsewhere."""
    for i in range(v.shape[0]):
        g[i] = g[i] if v[i] > zero else zero


@compiled
def powers(d: Floats, p: Floats, wide: Floats) -> None:
    """p = d ^ -beta.

    For the paper's 0.75 in float32 without roots and divisions, which take two to five times as long: a float's bits,
    as a number, are nearly its logarithm, which gives 4.4 percent; with r = 1 - d^3 y^4, y (1 + r / 4 + 5 r^2 / 32)
    leaves the third power of the error, and twice of that is less than float32 can hold.
    """
    if wide[2] != 0.75:
        for i in range(d.shape[0]):
            p[i] = d[i] ** -wide[2]
    elif d.itemsize == 8:
        for i in range(d.shape[0]):
            root = np.sqrt(d[i])
            p[i] = wide[4] / (root * np.sqrt(root))
    else:
        bits, guess, one, first, second = d.view(np.int32), p.view(np.int32), wide[4], wide[5], wide[6]
        for i in range(d.shape[0]):
            guess[i] = np.int32(NEARLY - np.int32(bits[i] - np.int32(bits[i] >> np.int32(2))))
        for i in range(d.shape[0]):
            y = p[i]
            for _ in range(2):
                dy = d[i] * y
                r = one - (dy * dy) * (dy * y)
                y += y * (r * (first + second * r))
            p[i] = y


@compiled
def normalize(v: Floats, e: Floats, s: Floats, share: int, below: int, above: int, wide: Floats) -> None:
    """v becomes v / (k + alpha * window sums of v^2) ^ beta; e and s are as long and hold anything."""
    k, alpha = wide[0], wide[1]
    for i in range(v.shape[0]):
        e[i] = v[i] * v[i]
    _window_sums(e, s, share, below, above)
    for i in range(v.shape[0]):
        s[i] = k + alpha * s[i]
    powers(s, e, wide)
    for i in range(v.shape[0]):
        v[i] *= e[i]


@compiled
def normalize_back(v: Floats, g: Floats, e: Floats, s: Floats, share: int, below: int, above: int,
                   wide: Floats) -> None:  # fmt: skip
    """g becomes g d^-beta - 2 alpha beta v * transposed window sums of g v d^(-beta - 1)."""
    k, alpha, beta = wide[0], wide[1], wide[2]
    for i in range(v.shape[0]):
        e[i] = v[i] * v[i]
    _window_sums(e, s, share, below, above)
    for i in range(v.shape[0]):
        s[i] = k + alpha * s[i]
    powers(s, e, wide)
    if beta == 0.75:
        for i in range(v.shape[0]):
            root = e[i] * (e[i] * s[i])  # d^-1/2
            g[i] *= e[i]
            e[i] = g[i] * v[i] * (root * root)
    else:
        for i in range(v.shape[0]):
            g[i] *= e[i]
            e[i] = g[i] * v[i] / s[i]
    _window_sums(e, s, share, above, below)
    factor = (alpha + alpha) * beta
    for i in range(v.shape[0]):
        g[i] -= factor * v[i] * s[i]
