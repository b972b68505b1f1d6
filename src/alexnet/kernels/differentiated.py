"""Gradients that are differentiated again, of what kernels compute."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from alexnet.kernels.choice import way


def again(g: Tensor) -> bool:
    """Whether a backward that is passed `g`, float[...], is itself differentiated, or is of many gradients at once."""
    return torch.is_grad_enabled() or way(g) == "plain"


def plain_gradients(
    plainly: Callable[[], Sequence[Tensor]], given: Sequence[Tensor | None], gs: Sequence[Tensor]
) -> list[Tensor | None]:
    """The gradients that `plainly` passes back, by operations that PyTorch differentiates as often as one likes.

    plainly   computes, of what is `given`, as many results as there are `gs`
    gs        float[...], their gradients
    returns   float of the shape of each that is given; None where no gradient is asked for
    """
    asked = [each for each in given if each is not None and each.requires_grad]
    with torch.enable_grad():
        results = plainly()
    found = iter(torch.autograd.grad(results, asked, gs, create_graph=torch.is_grad_enabled()))
    return [next(found) if each is not None and each.requires_grad else None for each in given]
