"""A convolution of stride 1 by code of our own, as PyTorch differentiates it."""

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from alexnet.kernels.differentiated import again
from alexnet.kernels.plain_convolution import gradients, masked


class StrideOne(torch.autograd.Function):
    """float[N, C, H, W], float[K, C / groups, size, size], float[K] -> float[N, K, H', W'], channels last.

    form        whose code: `convolution_on_tiles` or `convolution_at_points`
    pad         lines of zeros before and behind the rows and the columns
    rectified   max(0, what comes of it), in which NaN stays (section 3.1)

    Section 3.5, for what the form's `fits`: nothing looks again. Its gradients can be differentiated.

    (oneDNN's own rectifier makes 0 of what is not a number: nobody would see that a run has failed.)
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, form: ModuleType, x: Tensor, weight: Tensor, bias: Tensor, pad: int, groups: int, rectified: bool
    ) -> Tensor:
        y: Tensor = form.forward(x, weight, bias, pad, groups, rectified)
        ctx.save_for_backward(x, weight, y if rectified else None)
        ctx.form, ctx.pad, ctx.groups = form, pad, groups
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (x, weight, y), form = ctx.saved_tensors, ctx.form
        pad, groups = ctx.pad, ctx.groups
        _, of_x, of_weight, of_bias, *_ = ctx.needs_input_grad
        if again(g):
            return None, *gradients(masked(g, y), x, weight, pad, groups, (of_x, of_weight, of_bias)), None, None, None
        own = by_weight = by_bias = None
        if of_x and form.fits_back(weight, pad):
            own = form.backward(g, y, weight, pad, groups)
        elif of_x:
            g, y = masked(g, y), None
            own, *_ = gradients(g, x, weight, pad, groups, (True, False, False))
        if of_weight or of_bias:
            by_weight, by_bias = form.of_weights(g, y, x, weight, pad, groups, (of_weight, of_bias))
        return None, own, by_weight, by_bias, None, None, None
