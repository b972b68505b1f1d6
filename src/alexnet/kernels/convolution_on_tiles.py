"""A convolution of stride 1 in bf16 on a processor with matrix units: its three products, each in its fastest form.

The results, and where it fits their gradient for what went in, are computed on tiles by code of our own
(`convolution_numba.py`); the weights' gradient by PyTorch, of images in pairs (`pairs_numba.py`).
"""

from typing import Any

import torch
from torch import Tensor

from alexnet.kernels import convolution_numba
from alexnet.kernels.pairs_numba import in_pairs, pairs_fit


class OnTiles(torch.autograd.Function):
    """bf16[N, C, H, W], bf16[K, C / groups, size, size], bf16[K] -> bf16[N, K, H', W'], channels last.

    pad         lines of zeros before and behind the rows and the columns
    rectified   max(0, what comes of it), in which NaN stays (section 3.1)

    Section 3.5, for what `convolution_numba.fits`: nothing looks again. Its gradients can be differentiated.

    (oneDNN's own rectifier makes 0 of what is not a number: nobody would see that a run has failed.)
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, pad: int, groups: int, rectified: bool
    ) -> Tensor:
        y = convolution_numba.forward(x, weight, bias, pad, groups, rectified)
        ctx.save_for_backward(x, weight, y if rectified else None)
        ctx.pad, ctx.groups = pad, groups
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, weight, above = ctx.saved_tensors
        pad, groups = ctx.pad, ctx.groups
        of_x, of_weight, of_bias, *_ = ctx.needs_input_grad
        own = by_weight = by_bias = None
        if torch.is_grad_enabled():  # to be differentiated again
            return *_plainly(_masked(g, above), x, weight, pad, groups, ctx.needs_input_grad[:3]), None, None, None
        if of_x and convolution_numba.fits_back(weight, pad):
            own = convolution_numba.backward(g, above, weight, pad, groups)
        elif of_x:
            g, above = _masked(g, above), None
            own, *_ = _plainly(g, x, weight, pad, groups, (True, False, False))
        if of_weight or of_bias:
            if pairs_fit(x, weight.shape[-1], pad):
                x, g = in_pairs(x, None, pad), in_pairs(g, above, pad)
            else:
                g = _masked(g, above)
            _, by_weight, by_bias = _plainly(g, x, weight, pad, groups, (False, of_weight, of_bias))
        return own, by_weight, by_bias, None, None, None


def _masked(g: Tensor, above: Tensor | None) -> Tensor:
    return g if above is None else torch.ops.aten.threshold_backward(g, above, 0)


def _plainly(
    g: Tensor, x: Tensor, weight: Tensor, pad: int, groups: int, asked: tuple[bool, ...]
) -> tuple[Tensor | None, ...]:
    """PyTorch's gradients of x, of the weights and of the biases, those that are asked for."""
    found: tuple[Tensor | None, ...] = torch.ops.aten.convolution_backward(
        g, x, weight, [len(weight)], [1, 1], [pad] * 2, [1, 1], False, [0, 0], groups, list(asked)
    )
    return found
