"""A fully connected layer (section 3.5), its matrix products in the order that a processor's matrix units like best.

For bf16 PyTorch's own order gives oneDNN the weights as the factor that it has to repack, at each step anew: 38 million
numbers in the paper's first such layer, for 128 images. Here what is repacked is the activities. In float32 nothing is.
"""

from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from alexnet.kernels.choice import add_up, kind_of_products, way


def fully_connected(x: Tensor, weight: Tensor, bias: Tensor, towers: int = 1) -> Tensor:
    """float[N, inputs], float[outputs, inputs], float[outputs] -> float[N, outputs].

    towers   whose outputs these are: in float32 each passes its gradient back by itself, and they add up as between
             processes (section 3.2), to the same bits
    """
    kind = kind_of_products(x)
    if towers > 1 and add_up(x):
        added: Tensor = _Added.apply(x, weight, bias, towers)
        return added
    if way(x) != "numba" or kind != torch.bfloat16:
        return F.linear(x, weight, bias)
    connected: Tensor = _Connected.apply(x.to(kind), weight.to(kind), bias.to(kind))
    return connected


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
        shares = [own.contiguous() for own in g.chunk(ctx.towers, 1)]
        return (
            reduce(torch.add, map(torch.matmul, shares, weight.chunk(ctx.towers))) if of_x else None,
            g.t() @ x if of_weight else None,
            torch.cat([own.sum(0) for own in shares]) if of_bias else None,
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
            g.t().contiguous() @ x if of_weight else None,
            g.sum(0) if of_bias else None,
        )
