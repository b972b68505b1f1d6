"""Lines of activities in the cache, for compiled code: widened from bf16, normalized across maps, rounded again.

A line holds many pixels' maps one after the other, so its sweeps are long enough for vectors. What is normalized lies
apart: zeros before, between and behind the towers' shares of each pixel's maps, as many as a window reaches over their
ends, so that a sweep needs no ends. Each sweep reads and writes different arrays or one: what may overlap is not
vectorized. (What is not a number may pass over the zeros into the next share's gradients; nothing else does.)
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alexnet.kernels.compiled import compiled_part

Floats = NDArray[Any]
NEARLY = np.int32(0x6F14E000)  # the constant with the smallest largest error, 4.4 %, over four octaves
# (1 - r)^-1/4 as a + b r + c r^2 + d r^3, with the smallest largest error, 0.0011 %, for the r that constant leaves
FITTED = (0.9999892, 0.250031, 0.159122, 0.1165411)
# In which kind sums are kept; bf16 is seen by compiled code as uint16.
WIDE: dict[torch.dtype, Any] = {torch.float32: np.float32, torch.float64: np.float64, torch.bfloat16: np.float32}


def bare(x: Tensor) -> Floats:
    """The same memory for compiled code, bf16 as uint16."""
    x = x.detach()
    whole: Floats = (x.view(torch.uint16) if x.dtype == torch.bfloat16 else x).numpy()
    return whole


def lines(x: Tensor) -> Floats:
    """The same of float[N, C, H, W] channels last: [N, H, W, C]."""
    return bare(x.permute(0, 2, 3, 1))


def numbers(dtype: torch.dtype, k: float, alpha: float, beta: float) -> Floats:
    """What a kernel is given: k, alpha, beta, 0, 1, 1/4, FITTED and infinity, in the kind that sums are kept in.

    (LLVM chooses between numbers by vectors where it does not know that one of them is 0.)
    """
    return np.array([k, alpha, beta, 0, 1, 1 / 4, *FITTED, np.inf], WIDE[dtype])


@compiled_part
def known(n: Floats) -> tuple[Any, ...]:
    """The same, `wide` below: no longer in memory, where a sweep might write over them."""
    return n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8], n[9], n[10]


@compiled_part
def spread(source: Floats, into: Floats, share: int, gap: int, least: Any) -> None:
    """A line of numbers, widened from bf16 where it is that, to where it lies apart: `gap` numbers before, between and
    behind the shares. What is below `least` becomes that: 0 is the rectifier; what is not a number stays so.

    (Loops stand here, not in a function for each share: slices that are handed on are counted.)
    """
    to = gap
    for start in range(0, source.shape[0], share):
        given, taken = source[start : start + share], into[to : to + share]
        if source.itemsize == 2:
            for i in range(share):
                taken[i] = np.maximum(np.uint32(np.uint32(given[i]) << np.uint32(16)).view(np.float32), least)
        else:
            for i in range(share):
                taken[i] = np.maximum(given[i], least)
        to += share + gap


@compiled_part
def gather(source: Floats, into: Floats, share: int, gap: int) -> None:
    """The other way, without what lies between; rounded to bf16 (to the nearest, ties to even) if it becomes that."""
    at = gap
    if into.itemsize == 2:
        bits = source.view(np.uint32)
        for start in range(0, into.shape[0], share):
            wider, narrow = bits[at : at + share], into[start : start + share]
            for i in range(share):
                b = wider[i]
                odd = np.uint32(np.uint32(b >> np.uint32(16)) & np.uint32(1))
                rounded = np.uint32(np.uint32(b + np.uint32(0x7FFF)) + odd) >> np.uint32(16)
                # A NaN's rounding could carry it into infinity, or zero.
                nan = np.uint32(b & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
                narrow[i] = np.uint16(0x7FC0) if nan else np.uint16(rounded)
            at += share + gap
    else:
        for start in range(0, into.shape[0], share):
            given, taken = source[at : at + share], into[start : start + share]
            for i in range(share):
                taken[i] = given[i]
            at += share + gap


@compiled_part
def read(source: Floats, into: Floats) -> None:
    """A line of numbers, widened from bf16 where it is that."""
    spread(source, into, source.shape[0], 0, np.float32(-np.inf))


@compiled_part
def write(source: Floats, into: Floats) -> None:
    """A line of numbers, rounded to bf16 (to the nearest, ties to even) where it becomes that."""
    gather(source, into, into.shape[0], 0)


@compiled_part
def pass_back(g: Floats, v: Floats, zero: Any) -> None:
    """g stays where the rectified v is above 0, and becomes 0 elsewhere."""
    for i in range(v.shape[0]):
        g[i] = g[i] if v[i] > zero else zero


@compiled_part
def _nearly(d: Any) -> Any:
    """A float32's d ^ -3/4, to 4.4 percent: its bits, as a number, are nearly its logarithm."""
    bits = np.float32(d).view(np.int32)
    return np.int32(NEARLY - np.int32(bits - np.int32(bits >> np.int32(2)))).view(np.float32)


@compiled_part
def _power(d: Any, wide: Any, steps: int) -> Any:
    """d ^ -beta; with `steps` without roots and divisions, which take longer.

    With r = 1 - d^3 y^4 a y that is nearly d ^ -3/4 becomes y (1 - r)^-1/4 = y (1 + r/4 + ...).
    """
    if steps == 0:
        return d ** -wide[2]
    one, quarter, y = wide[4], wide[5], _nearly(d)
    dy = d * y
    r = one - (dy * dy) * (dy * y)
    y = y * (wide[6] + r * (wide[7] + r * (wide[8] + r * wide[9])))
    if steps == 2:
        dy = d * y
        y = y + y * (quarter * (one - (dy * dy) * (dy * y)))
    return y


@compiled_part
def _steps(wide: Any, itemsize: int, half: bool) -> int:
    """For the paper's 0.75: one leaves 0.0011 percent, where rounding to bf16 leaves 0.39, and a second less than
    float32 can hold. 0: other powers, and float64."""
    if wide[2] != 0.75 or itemsize == 8:
        return 0
    return 1 if half else 2


@compiled_part
def _energies(v: Floats, d: Floats, below: int, above: int, wide: Any) -> None:
    """d[i] = k + alpha (v[i - below]^2 + ... + v[i + above]^2)."""
    k, alpha, length = wide[0], wide[1], v.shape[0]
    if below == 2 and above == 2:  # the paper's window in one sweep
        two, one, own = v[: length - 4], v[1 : length - 3], v[2 : length - 2]
        next_, last, middle = v[3 : length - 1], v[4:], d[2:]
        for i in range(length - 4):
            near = (two[i] * two[i] + one[i] * one[i]) + (own[i] * own[i] + next_[i] * next_[i])
            middle[i] = k + alpha * (near + last[i] * last[i])
        d[0], d[1], d[length - 2], d[length - 1] = k, k, k, k  # zeros lie there
        return
    for i in range(length):
        d[i] = v[i] * v[i]
    for reach in range(1, below + 1):
        their, behind = v[: length - reach], d[reach:]
        for i in range(length - reach):
            behind[i] += their[i] * their[i]
    for reach in range(1, above + 1):
        their = v[reach:]
        for i in range(length - reach):
            d[i] += their[i] * their[i]
    for i in range(length):
        d[i] = k + alpha * d[i]


@compiled_part
def _take(g: Floats, v: Floats, e: Floats, below: int, above: int, factor: Any) -> None:
    """g[i] -= factor v[i] (e[i - below] + ... + e[i + above])."""
    length = v.shape[0]
    if below == 2 and above == 2:
        two, one, own, next_, last = e[: length - 4], e[1 : length - 3], e[2 : length - 2], e[3 : length - 1], e[4:]
        middle, their = g[2:], v[2:]
        for i in range(length - 4):
            middle[i] -= factor * their[i] * ((two[i] + one[i]) + (own[i] + next_[i]) + last[i])
        return
    for reach in range(-below, above + 1):
        first = max(0, -reach)
        gradient, own, their = g[first:], v[first:], e[max(0, reach) :]
        for i in range(length - abs(reach)):
            gradient[i] -= factor * own[i] * their[i]


@compiled_part
def divide(v: Floats, d: Floats, into: Floats, wide: Any, half: bool) -> None:
    """into = v / d ^ beta."""
    steps = _steps(wide, v.itemsize, half)
    for i in range(v.shape[0]):
        into[i] = v[i] * _power(d[i], wide, steps)


@compiled_part
def divide_back(v: Floats, g: Floats, d: Floats, e: Floats, wide: Any, half: bool) -> None:
    """g becomes g / d ^ beta, and e that times v / d: what is shared with v's neighbours."""
    steps = _steps(wide, v.itemsize, half)
    if steps == 0:
        for i in range(v.shape[0]):
            g[i] *= _power(d[i], wide, steps)
            e[i] = g[i] * v[i] / d[i]
    else:
        for i in range(v.shape[0]):
            p = _power(d[i], wide, steps)
            root = p * (p * d[i])  # d^-1/2
            own = g[i] * p
            g[i] = own
            e[i] = own * v[i] * (root * root)


@compiled_part
def normalize(v: Floats, d: Floats, into: Floats, below: int, above: int, wide: Any, half: bool) -> None:
    """into = v / d ^ beta with d = k + alpha * window sums of v^2; all lie apart."""
    _energies(v, d, below, above, wide)
    divide(v, d, into, wide, half)


@compiled_part
def normalize_back(v: Floats, g: Floats, d: Floats, e: Floats, below: int, above: int, wide: Any,
                   half: bool) -> None:  # fmt: skip
    """g becomes g d^-beta - 2 alpha beta v * transposed window sums of g v d^(-beta - 1); all lie apart."""
    _energies(v, d, below, above, wide)
    divide_back(v, g, d, e, wide, half)
    _take(g, v, e, above, below, (wide[1] + wide[1]) * wide[2])
