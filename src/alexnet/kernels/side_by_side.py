"""A convolution of stride 1 whose weights' gradient is computed of pairs of images, side by side.

For that gradient AMX multiplies 32 pixels of a row at a time. Rows of 13 leave most of that empty; two images with
zeros between them fill it.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from alexnet.kernels.compiled import compiled
from alexnet.kernels.cores import on_all_cores
from alexnet.kernels.lines import Floats, lines

PIXELS = 32  # bf16 numbers in a row of AMX's tiles


def worth_it(images: int, width: int, size: int, pad: tuple[int, int]) -> bool:
    """Whether two images fit into a row of AMX's tiles, and what they become is as wide as they are."""
    as_wide = size % 2 == 1 and pad == (size // 2, size // 2)
    return torch.cpu._is_amx_tile_supported() and as_wide and images % 2 == 0 and 2 * width + pad[0] <= PIXELS


class SideBySide(torch.autograd.Function):
    """bf16[2 N, C, H, W] -> bf16[2 N, K, H, W]. Its gradient cannot be differentiated again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, pad: int, groups: int) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(x, weight)
        ctx.pad, ctx.groups = pad, groups
        return F.conv2d(x, weight, bias, 1, pad, groups=groups)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias, *_ = ctx.needs_input_grad
        how = [len(weight)], [1, 1], [ctx.pad] * 2, [1, 1], False, [0, 0], ctx.groups
        gradients = torch.ops.aten.convolution_backward
        own = by_weight = by_bias = None
        if of_x:
            own = gradients(g, x, weight, *how, [True, False, False])[0]
        if of_weight or of_bias:
            pairs = _in_pairs(g, ctx.pad), _in_pairs(x, ctx.pad)
            _, by_weight, by_bias = gradients(*pairs, weight, *how, [False, of_weight, of_bias])
        return own, by_weight, by_bias, None, None


def _in_pairs(x: Tensor, gap: int) -> Tensor:
    """float[2 N, C, H, W] -> float[N, C, H, W + gap + W], channels last."""
    x = x.contiguous(memory_format=torch.channels_last)
    images, maps, height, width = x.shape
    shape = images // 2, maps, height, 2 * width + gap
    pairs = torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)
    on_all_cores(_lay, images // 2, lines(x), lines(pairs))
    return pairs


@compiled
def _lay(first: int, last: int, x: Floats, pairs: Floats) -> None:
    """Two images side by side in each of the pairs `first` to `last`."""
    _, height, width, maps = x.shape
    line, whole = width * maps, pairs.shape[2] * maps
    for pair in range(first, last):
        for row in range(height):
            left, right = x[2 * pair, row].reshape(line), x[2 * pair + 1, row].reshape(line)
            into = pairs[pair, row].reshape(whole)
            beside, between = into[whole - line :], into[line : whole - line]
            for i in range(line):
                into[i] = left[i]
            for i in range(between.shape[0]):
                between[i] = 0
            for i in range(line):
                beside[i] = right[i]
