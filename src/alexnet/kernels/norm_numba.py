"""What the normalizations share in compiled code: sums of neighbours, the power, and the gradient's two parts."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from alexnet.kernels.compiled import compiled_part
from alexnet.kernels.lanes_numba import ROUGH_ROOTS, bits, of_bits, rough_root
from alexnet.kernels.memory_numba import WIDE, Floats, take

NEARLY = np.int32(0x6F14E000)  # the constant with the smallest largest error, 4.4 %, over four octaves
# (1 - r)^-1/4 as a + b r + c r^2 + d r^3, with the smallest largest error, 0.0011 %, for the r that constant leaves
A, B, C, D = np.array([0.9999892, 0.250031, 0.159122, 0.1165411], np.float32)
ONE, QUARTER = np.float32(1), np.float32(1 / 4)
TWO = np.int32(2)


class Norm(NamedTuple):
    """A normalization, to compiled code: its numbers, and others, in the kind that sums are kept in.

    paper   None for other powers than 0.75, and for float64
    exact   None for bf16, where the paper's power may be 0.01 percent off: rounding leaves 0.39
    Code is compiled for these two being None or not.
    """

    k: Any
    alpha: Any
    beta: Any
    zero: Any
    infinity: Any
    paper: bool | None
    exact: bool | None


def norm_of(x: Tensor, k: float, alpha: float, beta: float) -> Norm:
    """Section 3.3's k, alpha and beta for maps float32, float64 or bfloat16[N, C, H, W]; KeyError for other kinds."""
    wide, paper = WIDE[x.dtype], beta == 0.75 and x.dtype != torch.float64
    exact = x.dtype != torch.bfloat16
    return Norm(wide(k), wide(alpha), wide(beta), wide(0), wide(np.inf), paper or None, exact or None)


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
def power(d: Any, norm: Norm) -> Any:
    """Sixteen d ^ -beta."""
    return _power(d, norm, norm.paper, norm.exact)  # a branch is taken away for an argument, not for a field


@compiled_part
def _power(d: Any, norm: Norm, paper: bool | None, exact: bool | None) -> Any:
    """The paper's without roots and divisions, which take longer.

    With r = 1 - d^3 y^4, y that is nearly d ^ -3/4 becomes y (1 - r)^-1/4 = y (1 + r/4 + ...).
    """
    if paper is None:
        return d ** (norm.zero - norm.beta)
    y = _nearly(d)
    if exact is None:
        return y
    dy = d * y
    return y + y * (QUARTER * (ONE - (dy * dy) * (dy * y)))


@compiled_part
def _nearly(d: Any) -> Any:
    """Sixteen float32's d ^ -3/4, to 0.01 percent."""
    if ROUGH_ROOTS:
        root = rough_root(d)
        return root * rough_root(d * root)
    whole = bits(d)  # as a number it is nearly the logarithm
    y = of_bits(NEARLY - (whole - (whole >> TWO)))
    dy = d * y
    r = ONE - (dy * dy) * (dy * y)
    return y * (A + r * (B + r * (C + r * D)))


@compiled_part
def divided_back(v: Any, g: Any, d: Any, norm: Norm) -> tuple[Any, Any]:
    """g / d ^ beta, and that times v / d: what is shared with v's neighbours."""
    p = power(d, norm)
    own = g * p
    if norm.paper is None:
        return own, own * v / d
    root = p * (p * d)  # d^-1/2
    return own, own * v * (root * root)
