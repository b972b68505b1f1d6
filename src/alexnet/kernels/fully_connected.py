"""A fully connected layer (section 3.5), its matrix products in the order that a processor's matrix units like best.

For bf16 PyTorch's own order gives oneDNN the weights as the factor that it has to repack, at each step anew: 38 million
numbers in the paper's first such layer, for 128 images. Here what is repacked is the activities. In float32 nothing is.
"""

from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from alexnet.kernels.choice import add_up, kind_of_products, one_kind, way


def fully_connected(x: Tensor, weight: Tensor, bias: Tensor, towers: int = 1) -> Tensor:
    """float[N, inputs], float[outputs, inputs], float[outputs] -> float[N, outputs].

    towers   whose outputs these are: in float32 each passes its gradient back by itself, and they add up as between
             processes (section 3.2), to the same bits

    Raises PyTorch's RuntimeError for several kinds without autocast.
    """
    kind = kind_of_products(x)
    if not one_kind(x, weight, bias):
        return F.linear(x, weight, bias)  # which refuses them
    if way(x) == "numba" and kind == torch.bfloat16:
        connected: Tensor = _Connected.apply(x.to(kind), weight.to(kind), bias.to(kind))
        return connected
    if towers == 1 or not add_up(x):
        return F.linear(x, weight, bias)
    added: Tensor = _Added.apply(x.to(kind), weight.to(kind), bias.to(kind), towers)
    return added


def gradients(x: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    """What weights and biases learn (section 5): float[N, inputs], float[N, outputs] -> float[outputs, inputs],
    float[outputs].

    x   what entered, in the kind of g
    g   the gradient of what left
    """
    return gradient_of_weight(x, g), gradient_of_bias(g)


def gradient_of_weight(x: Tensor, g: Tensor) -> Tensor:
    """What weights learn (section 5): float[N, inputs], float[N, outputs] -> float[outputs, inputs]."""
    turned = g.t()
    return (turned.contiguous() if g.dtype == torch.bfloat16 else turned) @ x


def gradient_of_bias(g: Tensor) -> Tensor:
    """What biases learn: float[N, outputs] -> float[outputs]; on a processor float32 of bf16, image after image, so
    that it is the same to the last bit whoever else's outputs are here."""
    if g.device.type != "cpu":
        return g.sum(0)
    wide = g.to(torch.promote_types(g.dtype, torch.float32))
    return reduce(torch.add, wide, wide.new_zeros(g.shape[1]))


class _Added(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, towers: int) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(x, weight)
        ctx.towers = towers
        return F.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias, _ = ctx.needs_input_grad
        own = [each.contiguous() for each in g.chunk(ctx.towers, 1)]
        return (
            reduce(torch.add, map(torch.matmul, own, weight.chunk(ctx.towers))) if of_x else None,
            gradient_of_weight(x, g) if of_weight else None,
            torch.cat([each.sum(0) for each in own]) if of_bias else None,
            None,
        )


class _Connected(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:  # type: ignore[override]
        y = torch.addmm(bias[:, None], weight, x.t()).t().clone(memory_format=torch.contiguous_format)
        ctx.save_for_backward(x, weight)
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        return (
            g @ weight if of_x else None,
            gradient_of_weight(x, g) if of_weight else None,
            g.sum(0) if of_bias else None,
        )
