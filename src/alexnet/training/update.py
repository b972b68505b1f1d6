"""Section 5: the update rule.

    v <- 0.9 v - 0.0005 rate w - rate <dL/dw>        w <- w + v

The rate stands inside the velocity, so what was gathered at an old rate keeps it: not PyTorch's SGD, once rates change.

For large batches, LARS (You, Gitman and Ginsburg, 2017): each weight's or bias's rate is multiplied by

    trust |w| / (|g| + 0.0005 |w|)

so that no layer moves by more than a small share of its size, however large the rate.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from alexnet.kernels.update_rule import move
from alexnet.network.alexnet import AlexNet
from alexnet.training.recipe import Learning

Rate = Callable[[str, bool], float]  # layer, bias -> rate
Sums = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]  # over the parts that processes have of a tensor


class Update:
    """The velocities of a network's parameters, and the step that moves both.

    products   of the network's arithmetic: with torch.bfloat16 its parameters become copies in bf16, which is what
               products read; the weights themselves stay here, in float32 (float64 where the network is)
    summed     for a network of which other processes have parts

    `velocity` maps each parameter's name to float32 of its shape, zero at first; `weights` those of the network's file,
    which are the parameters and the averages that batch normalization keeps.
    """

    def __init__(
        self, network: AlexNet, learning: Learning, products: torch.dtype = torch.float32, summed: Sums = dict
    ) -> None:
        self.momentum, self.trust, self._summed = learning.momentum, learning.trust, summed
        self._parameters = dict(network.named_parameters())
        self.weights: dict[str, Tensor] = {name: each.detach() for name, each in network.state_dict().items()}
        self.copied = products == torch.bfloat16
        if self.copied:
            for parameter in self._parameters.values():
                parameter.data = parameter.data.to(products)
        self.velocity = {name: torch.zeros_like(self.weights[name]) for name in self._parameters}
        self._kinds: dict[str, tuple[str, bool, float]] = {}  # layer, bias, decay
        places = {place: name for name, place in network.steps}
        own_decay = dict(learning.layer_decay)
        for name in self._parameters:
            place, _, kind = name.rpartition(".")
            bias = kind == "bias"
            decay = own_decay.get(places[place], learning.decay)
            self._kinds[name] = (places[place], bias, 0.0 if bias and not learning.bias_decay else decay)

    @torch.no_grad()
    def renew_copies(self) -> None:
        """Round the copies in bf16 anew, once others have put weights here."""
        for name, parameter in self._parameters.items() if self.copied else ():
            parameter.copy_(self.weights[name])

    @torch.no_grad()
    def step(self, rate: Rate) -> None:
        """Move every parameter by its gradient. A layer at rate 0 stays as it is: no decay, no momentum."""
        trusted = self._trusted() if self.trust else {}
        for name, (layer, bias, decay) in self._kinds.items():
            parameter = self._parameters[name]
            if parameter.grad is not None and (now := rate(layer, bias)) > 0:
                copy = parameter.detach() if self.copied else None
                move(
                    self.weights[name],
                    self.velocity[name],
                    parameter.grad,
                    copy,
                    momentum=self.momentum,
                    decay=decay,
                    rate=now * trusted.get(name, 1.0),
                )
                torch.autograd.graph.increment_version(parameter)  # a graph from before must not go on with it

    def _trusted(self) -> dict[str, float]:
        """By how much LARS multiplies each parameter's rate; by the trust alone where weights or gradient are 0."""
        squares = {}
        for name, parameter in self._parameters.items():
            if parameter.grad is not None:
                weight = self.weights[name]
                pair = (weight, parameter.grad)
                squares[name] = torch.stack([torch.linalg.vector_norm(x, dtype=weight.dtype) for x in pair]).square()
        sums = self._summed(squares)
        found = {}
        for name, (w, g) in zip(sums, torch.stack(list(sums.values())).sqrt().tolist(), strict=True):
            found[name] = self.trust * (w / (g + self._kinds[name][2] * w) if w and g else 1.0)
        return found
