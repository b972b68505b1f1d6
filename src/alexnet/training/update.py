"""Section 5: the update rule.

    v <- 0.9 v - 0.0005 rate w - rate <dL/dw>        w <- w + v

The rate stands inside the velocity, so what was gathered at an old rate keeps it: not PyTorch's SGD, once rates change.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from alexnet.network.alexnet import AlexNet
from alexnet.training.recipe import Learning

Rate = Callable[[str, bool], float]  # layer, bias -> rate

PIECE = 2**17  # numbers whose weight, velocity and gradient stay in the cache through the four operations


class Update:
    """The velocities of a network's parameters, and the step that moves both.

    `velocity` maps each parameter's name to float32 of its shape, zero at first.
    """

    def __init__(self, network: AlexNet, learning: Learning) -> None:
        self.momentum = learning.momentum
        self.velocity = {name: torch.zeros_like(parameter) for name, parameter in network.named_parameters()}
        self._parameters = dict(network.named_parameters())
        self._kinds: dict[str, tuple[str, bool, float]] = {}  # layer, bias, decay
        places = {place: name for name, place in network.steps}
        own_decay = dict(learning.layer_decay)
        for name in self._parameters:
            place, _, kind = name.rpartition(".")
            bias = kind == "bias"
            decay = own_decay.get(places[place], learning.decay)
            self._kinds[name] = (places[place], bias, 0.0 if bias and not learning.bias_decay else decay)

    @torch.no_grad()
    def step(self, rate: Rate) -> None:
        """Move every parameter by its gradient. A layer at rate 0 stays as it is: no decay, no momentum."""
        for name, (layer, bias, decay) in self._kinds.items():
            weight, gradient = self._parameters[name], self._parameters[name].grad
            if gradient is not None and (now := rate(layer, bias)) > 0:
                for w, v, g in _pieces(weight, self.velocity[name], gradient):
                    v.mul_(self.momentum).add_(w, alpha=-decay * now).add_(g, alpha=-now)
                    w.add_(v)


def _pieces(*tensors: Tensor) -> Iterable[tuple[Tensor, ...]]:
    """The same pieces of each; tensors laid out in another order are taken whole."""
    if all(tensor.is_contiguous() for tensor in tensors):
        return zip(*(tensor.flatten().split(PIECE) for tensor in tensors), strict=True)
    return (tensors,)
