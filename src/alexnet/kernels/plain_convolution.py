"""A convolution's gradients by PyTorch's own operations: what ours leave to it."""

import torch
from torch import Tensor


def masked(g: Tensor, y: Tensor | None) -> Tensor:
    """float[N, K, H', W'] in front of the rectifier whose output is y, if there is one (section 3.1)."""
    return g if y is None else torch.ops.aten.threshold_backward(g, y, 0)


def gradients(
    g: Tensor, x: Tensor, weight: Tensor, pad: int, groups: int, asked: tuple[bool, ...]
) -> tuple[Tensor | None, ...]:
    """Those of x, of the weights and of the biases that are asked for; stride 1 (section 3.5)."""
    found: tuple[Tensor | None, ...] = torch.ops.aten.convolution_backward(
        g, x, weight, [len(weight)], [1, 1], [pad] * 2, [1, 1], False, [0, 0], groups, list(asked)
    )
    return found
