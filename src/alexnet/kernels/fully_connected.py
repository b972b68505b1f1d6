"""A fully connected layer (section 3.5), its matrix products in the order that a processor's matrix units like best.

For bf16 PyTorch's own order gives oneDNN the weights as the factor that it has to repack, at each step anew: 38 million
numbers in the paper's first such layer, for 128 images. Here what is repacked is the activities. In float32 nothing is.
"""

from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from alexnet.kernels.choice import add_up, kind_of_products, way

OfAll = Callable[[Tensor], Tensor]


def fully_connected(x: Tensor, weight: Tensor, bias: Tensor, towers: int = 1, of_all: OfAll | None = None) -> Tensor:
    """float[N, inputs], float[outputs, inputs], float[outputs] -> float[N, outputs].

    towers   whose outputs these are: in float32 each passes its gradient back by itself, and they add up as between
             processes (section 3.2), to the same bits
    of_all   float[N, ...] -> float[M, ...]: lays the images of all processes that have the same weights end to end;
             weights and biases then learn from all of them. None: from those that are here
    """
    kind = kind_of_products(x)
    towers = towers if add_up(x) else 1
    if way(x) == "numba" and kind == torch.bfloat16:
        connected: Tensor = _Connected.apply(x.to(kind), weight.to(kind), bias.to(kind), of_all or _these)
        return connected
    if towers == 1 and not of_all:
        return F.linear(x, weight, bias)
    added: Tensor = _Added.apply(x.to(kind), weight.to(kind), bias.to(kind), towers, of_all or _these)
    return added


def _these(x: Tensor) -> Tensor:
    return x


class _Added(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, towers: int, of_all: OfAll) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(x, weight)
        ctx.rest = towers, of_all
        return F.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (x, weight), (towers, of_all) = ctx.saved_tensors, ctx.rest
        of_x, of_weight, of_bias, *_ = ctx.needs_input_grad
        own = [each.contiguous() for each in g.chunk(towers, 1)]
        every = of_all(g) if of_weight or of_bias else g
        return (
            reduce(torch.add, map(torch.matmul, own, weight.chunk(towers))) if of_x else None,
            every.t() @ of_all(x) if of_weight else None,
            torch.cat([each.contiguous().sum(0) for each in every.chunk(towers, 1)]) if of_bias else None,
            None,
            None,
        )


class _Connected(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, of_all: OfAll) -> Tensor:  # type: ignore[override]
        y = torch.addmm(bias[:, None], weight, x.t()).t().clone(memory_format=torch.contiguous_format)
        ctx.save_for_backward(x, weight)
        ctx.of_all = of_all
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias, *_ = ctx.needs_input_grad
        every = ctx.of_all(g) if of_weight or of_bias else g
        return (
            g @ weight if of_x else None,
            every.t().contiguous() @ ctx.of_all(x) if of_weight else None,
            every.sum(0) if of_bias else None,
            None,
        )
