"""Lines of activities in the cache, for compiled code: the power that normalizes, and the gradient's two parts."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alexnet.kernels.compiled import compiled_part
from alexnet.kernels.lanes_numba import ROUGH_ROOTS, bits, number, rough_root, take

Floats = NDArray[Any]
NEARLY = np.int32(0x6F14E000)  # the constant with the smallest largest error, 4.4 %, over four octaves
# (1 - r)^-1/4 as a + b r + c r^2 + d r^3, with the smallest largest error, 0.0011 %, for the r that constant leaves
FITTED = (0.9999892, 0.250031, 0.159122, 0.1165411)
TWO = np.int32(2)
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
    """What a kernel is given: k, alpha, beta, 0, 1, 1/4, FITTED and infinity, in the kind that sums are kept in."""
    return np.array([k, alpha, beta, 0, 1, 1 / 4, *FITTED, np.inf], WIDE[dtype])


@compiled_part
def known(n: Floats) -> tuple[Any, ...]:
    """The same, `wide` below."""
    return n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8], n[9], n[10]


def how(x: Tensor, beta: float) -> tuple[bool | None, bool | None]:
    """How a power is computed, as two arguments; code is compiled for those that are None.

    The first is None for other powers than the paper's 0.75, and for float64. The second is None for bf16, where the
    paper's may be 0.01 percent off: rounding leaves 0.39.
    """
    return (beta == 0.75 and x.dtype != torch.float64) or None, x.dtype != torch.bfloat16 or None


@compiled_part
def sums(x: Floats, first: int, n: int, step: int) -> Any:
    """x[first] + x[first + step] + ..., n of them, and the same from the next fifteen on."""
    if n == 5:  # the paper's window, and the 2012 program's patch
        a, b, c = take(x, first), take(x, first + step), take(x, first + 2 * step)
        return ((a + b) + (c + take(x, first + 3 * step))) + take(x, first + 4 * step)
    total = take(x, first)
    for place in range(1, n):
        total = total + take(x, first + place * step)
    return total


@compiled_part
def power(d: Any, wide: Any, paper: bool | None, exact: bool | None) -> Any:
    """Sixteen d ^ -beta; the paper's without roots and divisions, which take longer.

    With r = 1 - d^3 y^4, y that is nearly d ^ -3/4 becomes y (1 - r)^-1/4 = y (1 + r/4 + ...).
    """
    if paper is None:
        return d ** (wide[3] - wide[2])
    one, quarter, y = wide[4], wide[5], _nearly(d, wide)
    if exact is None:
        return y
    dy = d * y
    return y + y * (quarter * (one - (dy * dy) * (dy * y)))


@compiled_part
def _nearly(d: Any, wide: Any) -> Any:
    """Sixteen float32's d ^ -3/4, to 0.01 percent."""
    if ROUGH_ROOTS:
        root = rough_root(d)
        return root * rough_root(d * root)
    whole = bits(d)  # as a number it is nearly the logarithm
    y = number(NEARLY - (whole - (whole >> TWO)))
    dy = d * y
    r = wide[4] - (dy * dy) * (dy * y)
    return y * (wide[6] + r * (wide[7] + r * (wide[8] + r * wide[9])))


@compiled_part
def divided_back(v: Any, g: Any, d: Any, wide: Any, paper: bool | None, exact: bool | None) -> tuple[Any, Any]:
    """g / d ^ beta, and that times v / d: what is shared with v's neighbours."""
    p = power(d, wide, paper, exact)
    own = g * p
    if paper is None:
        return own, own * v / d
    root = p * (p * d)  # d^-1/2
    return own, own * v * (root * root)
