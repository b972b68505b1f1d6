"""Convolution: by code of our own, or given to PyTorch in the form that matrix units like."""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from alexnet.kernels import convolution_at_points, convolution_on_tiles
from alexnet.kernels.choice import ON_CPU, add_up, kind_of_products, one_kind, way
from alexnet.kernels.in_blocks import SIDE, InBlocks, kernels_in_blocks, maps_of_a_block, shape_of_blocks
from alexnet.kernels.stride_one import StrideOne
from alexnet.kernels.tiles_numba import there_are_tiles

FEW = 4  # maps, at most, that come in blocks
HALF = (torch.bfloat16, torch.float16)


def convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    stride: int,
    pad: tuple[int, int],
    groups: int,
    rectified: bool = False,
    towers: int = 1,
) -> Tensor:
    """float[N, C, H, W], float[K, C / groups, size, size], float[K] -> float[N, K, H', W'].

    pad         lines of zeros before and behind the rows and the columns
    rectified   max(0, what comes of it): section 3.1
    towers      whose kernels these are, all of which read all of x: in float32 each passes its gradient back by itself,
                and they add up as between processes (section 3.2), to the same bits

    Raises PyTorch's RuntimeError where a kernel has no place in what is padded. Section 3.5.
    """
    if towers > 1 and add_up(x):
        shares = zip(weight.chunk(towers), bias.chunk(towers), strict=True)
        how: dict[str, Any] = {"stride": stride, "pad": pad, "groups": groups, "rectified": rectified}
        return torch.cat([convolution(x, *share, **how) for share in shares], 1)
    kind, (before, behind) = kind_of_products(x), pad
    size, half = weight.shape[-1], kind == torch.bfloat16
    if way(x) == "numba" and kind in ON_CPU and len(x) > 0:
        if _in_blocks(x, weight, stride, pad, groups):
            kernels = kernels_in_blocks(weight, maps_of_a_block(x))
            if half or _learns(weight) or _filtered(x, kernels, bias, pad, size):
                x, weight = InBlocks.apply(x, kind, pad, size), kernels
                stride, pad, before, behind = 1, (0, 0), 0, 0
        form = _form(kind) if stride == 1 and before == behind and one_kind(x, weight, bias) else None
        if form and form.fits(x, weight, bias, before, groups) and form.worth_it(x := x.to(kind), weight, before):
            found: Tensor = StrideOne.apply(form, x, weight.to(kind), bias.to(kind), before, groups, rectified)
            return found
    if way(x) == "triton" and len(x) > 0:
        parts = towers_of_convolution((x,), weight, stride=stride, pad=pad, groups=groups)
        whole = (torch.cat(parts, 1) if groups > 1 else parts[0]) + bias.to(kind)[:, None, None]
        return _behind(whole, rectified)
    if before != behind:
        x, before = F.pad(x.to(kind), (before, behind, before, behind)), 0
    return _behind(F.conv2d(x, weight, bias, stride, before, groups=groups), rectified)


def _form(kind: torch.dtype) -> ModuleType | None:
    """Whose code computes convolutions of stride 1, where it fits."""
    if kind == torch.bfloat16 and there_are_tiles():
        return convolution_on_tiles
    return convolution_at_points if kind in (torch.bfloat16, torch.float32) else None


def _behind(x: Tensor, rectified: bool) -> Tensor:
    return F.relu(x) if rectified else x


def towers_of_convolution(
    parts: Sequence[Tensor], weight: Tensor, *, stride: int, pad: tuple[int, int], groups: int
) -> tuple[Tensor, ...]:
    """The same without the bias, for a GPU: each group's kernels by themselves, float[N, K / groups, H', W'] of each.

    parts   the maps, float[N, C, H, W], in one tensor or in one for each group

    Raises PyTorch's RuntimeError as `convolution` does. Sections 3.2 and 3.5.

    cuDNN computes groups one by one in several times the time, or with results that differ from run to run.
    """
    kind, (before, behind) = kind_of_products(parts[0]), pad
    if kind in HALF and _in_blocks(parts[0], weight, stride, pad, groups):
        blocks = InBlocks.apply(parts[0], kind, pad, weight.shape[-1])
        return (F.conv2d(blocks, kernels_in_blocks(weight, maps_of_a_block(parts[0]))),)
    if len(parts) != groups:
        x = torch.cat(tuple(parts), 1) if len(parts) > 1 else parts[0]
        parts = Apart.apply(x, groups) if groups > 1 else (x,)
    if before != behind:
        parts, before = [F.pad(x.to(kind), (before, behind, before, behind)) for x in parts], 0
    kernels = weight.chunk(groups)
    return tuple(F.conv2d(x, own, None, stride, before) for x, own in zip(parts, kernels, strict=True))


class Apart(torch.autograd.Function):
    """float[N, C, H, W] -> `groups` times float[N, C / groups, H, W], channels last."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, groups: int) -> tuple[Tensor, ...]:  # type: ignore[override]
        return tuple(each.contiguous(memory_format=torch.channels_last) for each in x.chunk(groups, 1))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return torch.cat(gradients, 1), None


def _in_blocks(x: Tensor, weight: Tensor, stride: int, pad: tuple[int, int], groups: int) -> bool:
    """Whether these are kernels over an image's few maps, which blocks fit; and whether they have a place at all."""
    fits = min(x.shape[2:]) + sum(pad) >= weight.shape[-1] and x.shape[1] == weight.shape[1]
    return stride == SIDE and groups == 1 and x.shape[1] <= FEW and fits


def _learns(weight: Tensor) -> bool:
    """Whether the weights' gradient will be asked for: in float32 it alone is faster over blocks."""
    return torch.is_grad_enabled() and weight.requires_grad


def _filtered(x: Tensor, kernels: Tensor, bias: Tensor, pad: tuple[int, int], size: int) -> bool:
    """Whether minimal filtering in float32 goes on from the blocks: they pay then whoever learns."""
    if kind_of_products(x) != torch.float32:
        return False
    blocks, form = x.new_empty(shape_of_blocks(x, pad, size), device="meta"), convolution_at_points
    return form.fits(blocks, kernels, bias, 0, 1) and form.worth_it(blocks, kernels, 0)
