"""Convolution, given to PyTorch in the form that a processor's matrix units like."""

import torch
from torch import Tensor
from torch.nn import functional as F

from alexnet.kernels.choice import ON_CPU, kind_of_products, way
from alexnet.kernels.in_blocks import SIDE, InBlocks, kernels_in_blocks
from alexnet.kernels.side_by_side import SideBySide, worth_it

FEW = 4  # maps, at most, that come in blocks


def convolution(x: Tensor, weight: Tensor, bias: Tensor, *, stride: int, pad: tuple[int, int], groups: int) -> Tensor:
    """float[N, C, H, W], float[K, C / groups, size, size], float[K] -> float[N, K, H', W'].

    pad   lines of zeros before and behind the rows and the columns

    Raises PyTorch's RuntimeError where a kernel has no place in what is padded. Section 3.5.
    """
    kind, (before, behind) = kind_of_products(x), pad
    size, half = weight.shape[-1], kind == torch.bfloat16
    if way(x) == "numba" and kind in ON_CPU and len(x) > 0:
        if stride == SIDE and groups == 1 and x.shape[1] <= FEW and (half or _learns(weight)) and _fits(x, size, pad):
            return F.conv2d(InBlocks.apply(x, kind, pad, size), kernels_in_blocks(weight), bias)
        if stride == 1 and half and _learns(weight) and worth_it(len(x), x.shape[3], size, pad):
            convolved: Tensor = SideBySide.apply(x.to(kind), weight.to(kind), bias.to(kind), before, groups)
            return convolved
    if before != behind:
        x, before = F.pad(x.to(kind), (before, behind, before, behind)), 0
    return F.conv2d(x, weight, bias, stride, before, groups=groups)


def _learns(weight: Tensor) -> bool:
    """Whether the weights' gradient will be asked for: in float32 it alone is faster over blocks."""
    return torch.is_grad_enabled() and weight.requires_grad


def _fits(x: Tensor, size: int, pad: tuple[int, int]) -> bool:
    """Whether there is a place for the kernel at all; if not, PyTorch says so."""
    return min(x.shape[2:]) + sum(pad) >= size
