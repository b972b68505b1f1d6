"""Gradients that are differentiated again, of what kernels compute."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from alexnet.kernels.choice import way


def again(g: Tensor) -> bool:
    """Whether a backward that is passed `g` is itself differentiated, or is of many gradients at once."""
    return torch.is_grad_enabled() or way(g) == "plain"


def plain_gradients(
    plainly: Callable[[], Sequence[Tensor]], given: Sequence[Tensor | None], gs: Sequence[Tensor]
) -> list[Tensor | None]:
    """The gradients that `plainly` passes back to what it is given, computed by operations that PyTorch differentiates
    as often as one likes. None where none is asked for."""
    asked = [each for each in given if each is not None and each.requires_grad]
    with torch.enable_grad():
        results = plainly()
    found = iter(torch.autograd.grad(results, asked, gs, create_graph=torch.is_grad_enabled()))
    return [next(found) if each is not None and each.requires_grad else None for each in given]
