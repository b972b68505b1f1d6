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

from alexnet.kernels.compiled import compiled_part, soon_read, soon_written

Floats = NDArray[Any]
NEARLY = np.int32(0x6F14E000)  # the constant with the smallest largest error, 4.4 %, over four octaves
# (1 - r)^-1/4 as a + b r + c r^2 + d r^3, with the smallest largest error, 0.0011 %, for the r that constant leaves
FITTED = (0.9999892, 0.250031, 0.159122, 0.1165411)
BLOCK, LINE = 256, 64  # numbers of a line that are normalized at a time; bytes that enter the cache together
ONE, TWO, THREE, FOUR = np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(4)  # places without a sign need no check
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
def wider(number: Any) -> Any:
    """A bf16 as a float32."""
    return np.uint32(np.uint32(number) << np.uint32(16)).view(np.float32)


@compiled_part
def narrower(number: Any) -> Any:
    """A float32 rounded to bf16: to the nearest, ties to even."""
    bits = np.float32(number).view(np.uint32)
    odd = np.uint32(np.uint32(bits >> np.uint32(16)) & np.uint32(1))
    rounded = np.uint32(np.uint32(bits + np.uint32(0x7FFF)) + odd) >> np.uint32(16)
    # A NaN's rounding could carry it into infinity, or zero.
    return np.uint16(0x7FC0) if np.isnan(number) else np.uint16(rounded)


@compiled_part
def widened(source: Floats, i: Any) -> Any:
    """source[i], widened from bf16 where it is that."""
    return wider(source[i]) if source.itemsize == 2 else source[i]


@compiled_part
def put(into: Floats, i: Any, number: Any) -> None:
    """into[i] = number, rounded to bf16 where it becomes that."""
    if into.itemsize == 2:
        into[i] = narrower(number)
    else:
        into[i] = number


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
                number = wider(given[i])
                taken[i] = least if number < least else number
        else:
            for i in range(share):
                taken[i] = least if given[i] < least else given[i]
        to += share + gap


@compiled_part
def gather(source: Floats, into: Floats, share: int, gap: int) -> None:
    """The other way, without what lies between; rounded to bf16 (to the nearest, ties to even) if it becomes that."""
    at = gap
    if into.itemsize == 2:
        for start in range(0, into.shape[0], share):
            given, narrow = source[at : at + share], into[start : start + share]
            for i in range(share):
                narrow[i] = narrower(given[i])
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
    """A line of numbers, rounded to bf16 where it becomes that."""
    gather(source, into, into.shape[0], 0)


@compiled_part
def pass_back(g: Floats, v: Floats, zero: Any) -> None:
    """g becomes 0 where the rectified v is 0."""
    for i in range(v.shape[0]):
        g[i] = zero if v[i] <= zero else g[i]


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
def divide(v: Floats, first: Any, d: Floats, into: Floats, wide: Any, half: bool) -> None:
    """From `first` on, into = v / d ^ beta; d[0] is that of the first."""
    steps = _steps(wide, v.itemsize, half)
    for i in range(np.uint64(d.shape[0])):
        into[first + i] = v[first + i] * _power(d[i], wide, steps)


@compiled_part
def divide_back(v: Floats, g: Floats, first: Any, d: Floats, e: Floats, wide: Any, half: bool) -> None:
    """From `first` on, g becomes g / d ^ beta, and e that times v / d: what is shared with v's neighbours."""
    steps = _steps(wide, v.itemsize, half)
    for i in range(np.uint64(d.shape[0])):
        g[first + i], e[first + i] = _divided_back(v[first + i], g[first + i], d[i], wide, steps)


@compiled_part
def _divided_back(v: Any, g: Any, d: Any, wide: Any, steps: int) -> tuple[Any, Any]:
    p = _power(d, wide, steps)
    own = g * p
    if steps == 0:
        return own, own * v / d
    root = p * (p * d)  # d^-1/2
    return own, own * v * (root * root)


@compiled_part
def _energy(v: Floats, i: Any, wide: Any) -> Any:
    """k + alpha (v[i]^2 + ... + v[i + 4]^2): the paper's window."""
    a, b, c, d, e = v[i], v[i + ONE], v[i + TWO], v[i + THREE], v[i + FOUR]
    return wide[0] + wide[1] * (((a * a + b * b) + (c * c + d * d)) + e * e)


@compiled_part
def _energies(v: Floats, first: Any, n: int, d: Floats, wide: Any) -> None:
    """The same for each of a block and a window of any size."""
    k, alpha = wide[0], wide[1]
    for i in range(np.uint64(BLOCK)):
        d[i] = v[first + i] * v[first + i]
    for reach in range(np.uint64(1), np.uint64(n)):
        for i in range(np.uint64(BLOCK)):
            d[i] += v[first + reach + i] * v[first + reach + i]
    for i in range(BLOCK):
        d[i] = k + alpha * d[i]


@compiled_part
def sums(x: Floats, first: Any, n: int, step: int, d: Floats) -> None:
    """d[i] = x[first + i] + x[first + i + step] + ..., n of them, for each of a block."""
    apart = np.uint64(step)
    if n == 5:
        for i in range(np.uint64(BLOCK)):
            j = first + i
            two, three, four = j + TWO * apart, j + THREE * apart, j + FOUR * apart
            d[i] = ((x[j] + x[j + apart]) + (x[two] + x[three])) + x[four]
        return
    for i in range(np.uint64(BLOCK)):
        d[i] = x[first + i]
    for reach in range(np.uint64(1), np.uint64(n)):
        for i in range(np.uint64(BLOCK)):
            d[i] += x[first + reach * apart + i]


@compiled_part
def room(length: int, gap: int) -> int:
    """How long the arrays are that a line of `length` is normalized in: whole blocks, and what windows reach over."""
    return -(-length // BLOCK) * BLOCK + 2 * gap


@compiled_part
def fetch(array: Floats, first: Any, written: bool) -> None:
    """Call a block of what is soon read or written into the cache: the cores compute meanwhile, instead of waiting."""
    for i in range(int(first), min(int(first) + BLOCK, array.shape[0]), LINE // array.itemsize):
        if written:
            soon_written(array, i)
        else:
            soon_read(array, i)


@compiled_part
def normalize(v: Floats, into: Floats, below: int, above: int, wide: Any, half: bool, d: Floats, coming: Floats,
              filled: Floats) -> None:  # fmt: skip
    """into = v / d ^ beta with d = k + alpha * window sums of v^2; all lie apart, in arrays with `room`.

    below    how far a window reaches; `above` is as far, or one less
    d        float[BLOCK], holds anything
    coming   what is read afterwards, `filled` what is written
    """
    n, steps = below + above + 1, _steps(wide, v.itemsize, half)
    for block in range(0, v.shape[0] - 2 * below, BLOCK):
        first, own = np.uint64(block), np.uint64(block + below)
        fetch(coming, first, False)
        fetch(filled, first, True)
        if n == 5:  # in one sweep
            for i in range(np.uint64(BLOCK)):
                into[own + i] = v[own + i] * _power(_energy(v, first + i, wide), wide, steps)
        else:
            _energies(v, first, n, d, wide)
            divide(v, own, d, into, wide, half)


@compiled_part
def normalize_back(v: Floats, g: Floats, e: Floats, below: int, above: int, wide: Any, half: bool, floor: Any,
                   d: Floats, coming: Floats, filled: Floats) -> None:  # fmt: skip
    """g becomes g d^-beta - 2 alpha beta v * transposed window sums of g v d^(-beta - 1), and 0 where v <= floor."""
    n, steps = below + above + 1, _steps(wide, v.itemsize, half)
    zero, factor = wide[3], (wide[1] + wide[1]) * wide[2]
    for block in range(0, v.shape[0] - 2 * below, BLOCK):
        first, own = np.uint64(block), np.uint64(block + below)
        fetch(coming, first, False)
        if n == 5:
            for i in range(np.uint64(BLOCK)):
                j = own + i
                g[j], e[j] = _divided_back(v[j], g[j], _energy(v, first + i, wide), wide, steps)
        else:
            _energies(v, first, n, d, wide)
            divide_back(v, g, own, d, e, wide, half)
    for block in range(0, v.shape[0] - 2 * below, BLOCK):
        own = np.uint64(block + above)
        fetch(filled, np.uint64(block), True)
        sums(e, np.uint64(block), n, 1, d)
        for i in range(np.uint64(BLOCK)):
            j = own + i
            g[j] = zero if v[j] <= floor else g[j] - factor * v[j] * d[i]
