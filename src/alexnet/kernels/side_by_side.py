"""A convolution of stride 1 whose weights' gradient is computed of pairs of images, side by side.

For that gradient AMX multiplies 32 pixels of a row at a time. Rows of 13 leave most of that empty; two images with
zeros between them fill it.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from alexnet.kernels.compiled import compiled
from alexnet.kernels.cores import on_all_cores
from alexnet.kernels.lanes_numba import LANES, every, where
from alexnet.kernels.memory_numba import AHEAD, Floats, lines, put, soon_written, take

PIXELS = 32  # bf16 numbers in a row of AMX's tiles


def worth_it(images: int, width: int, size: int, pad: tuple[int, int]) -> bool:
    """Whether two images fit into a row of AMX's tiles, and what they become is as wide as they are."""
    as_wide = size % 2 == 1 and pad == (size // 2, size // 2)
    return torch.cpu._is_amx_tile_supported() and as_wide and images % 2 == 0 and 2 * width + pad[0] <= PIXELS


class SideBySide(torch.autograd.Function):
    """float[2 N, C, H, W] -> float[2 N, K, H, W], `rectified` if asked for: in place, while nobody else knows it.

    (oneDNN's own rectifier costs nothing and makes 0 of what is not a number: nobody would see that a run has failed.)
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, pad: int, groups: int, rectified: bool
    ) -> Tensor:
        y = F.conv2d(x, weight, bias, 1, pad, groups=groups)
        if rectified:
            y = y.contiguous(memory_format=torch.channels_last)
            on_all_cores(_rectify, len(y), lines(y))
        ctx.save_for_backward(x, weight, *([y] if rectified else []))
        ctx.pad, ctx.groups = pad, groups
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, weight, *rectified = ctx.saved_tensors
        for y in rectified:
            g = torch.ops.aten.threshold_backward(g, y, 0)
        of_x, of_weight, of_bias, *_ = ctx.needs_input_grad
        how = [len(weight)], [1, 1], [ctx.pad] * 2, [1, 1], False, [0, 0], ctx.groups
        gradients = torch.ops.aten.convolution_backward
        own = by_weight = by_bias = None
        if of_x:
            own = gradients(g, x, weight, *how, [True, False, False])[0]
        if of_weight or of_bias:
            pairs = _in_pairs(g, ctx.pad), _in_pairs(x, ctx.pad)
            _, by_weight, by_bias = gradients(*pairs, weight, *how, [False, of_weight, of_bias])
        return own, by_weight, by_bias, None, None, None


def _in_pairs(x: Tensor, gap: int) -> Tensor:
    """float[2 N, C, H, W] -> float[N, C, H, W + gap + W], channels last."""
    rows = x.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)
    images, height, _, maps = rows.shape
    between = rows.new_zeros(images // 2, height, gap, maps)
    return torch.cat([rows[::2], between, rows[1::2]], 2).permute(0, 3, 1, 2)


@compiled
def _rectify(first: int, last: int, x: Floats) -> None:
    """The images `first` to `last`; what is not a number stays so."""
    size, numbers = x.size // x.shape[0], x.reshape(x.size)
    zero = every(np.float32(0))
    for i in range(first * size, last * size, LANES):
        soon_written(numbers, i + AHEAD)
        own, left = take(numbers, i, last * size - i), last * size - i
        put(numbers, i, left, where(own < zero, zero, own))
