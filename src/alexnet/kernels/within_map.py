"""The 2012 program's second normalization, over a patch of the same map, in few passes over memory."""

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from alexnet.kernels import response_norm, within_map_numba
from alexnet.kernels.choice import way
from alexnet.kernels.differentiated import again, plain_gradients


def within_map(x: Tensor, *, size: int, k: float, alpha: float, beta: float) -> Tensor:
    """Divide by (k + alpha * energy of a `size` x `size` patch of the same map, clipped at the border) ^ beta.

    x         float[N, C, H, W]
    returns   float[N, C, H, W]

    Raises ValueError for an even size, which has no middle.
    """
    if size % 2 == 0:
        raise ValueError(f"a patch of {size} has no middle; an odd one has")
    match way(x):
        case "numba":
            kernels: ModuleType = within_map_numba
        case "triton":
            from alexnet.kernels import within_map_triton as kernels
        case "plain":
            return response_norm.within_map(x, size=size, k=k, alpha=alpha, beta=beta)
    x = x.contiguous(memory_format=torch.channels_last)
    normalized: Tensor = _WithinMap.apply(x, kernels, size // 2, k, alpha, beta)
    return normalized


class _WithinMap(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, kernels: ModuleType, *numbers: float) -> Tensor:  # type: ignore[override]
        y = torch.empty_like(x)
        kernels.forward(x, y, *numbers)
        ctx.save_for_backward(x)
        ctx.kernels, ctx.numbers = kernels, numbers
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (x,), (reach, k, alpha, beta) = ctx.saved_tensors, ctx.numbers
        if again(g):
            how = {"size": 2 * reach + 1, "k": k, "alpha": alpha, "beta": beta}
            (gradient,) = plain_gradients(lambda: (response_norm.within_map(x, **how),), (x,), (g,))
            return gradient, None, None, None, None, None
        x = x.contiguous(memory_format=torch.channels_last)  # hooks for what is saved may have laid it otherwise
        g = g.to(x.dtype).contiguous(memory_format=torch.channels_last)
        gradient = torch.empty_like(x)
        ctx.kernels.backward(x, g, gradient, *ctx.numbers)
        return gradient, None, None, None, None, None
