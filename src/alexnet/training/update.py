"""Section 5: the update rule.

    v <- 0.9 v - 0.0005 rate w - rate <dL/dw>        w <- w + v

The rate stands inside the velocity, so what was gathered at an old rate keeps it: not PyTorch's SGD, once rates change.

For large batches, LARS (You, Gitman and Ginsburg, 2017): each weight's or bias's rate is multiplied by

    trust |w| / (|g| + 0.0005 |w|)

so that no layer moves by more than a small share of its size, however large the gradient.
"""

from collections.abc import Callable, Collection, Mapping, Sequence

import torch
from torch import Tensor

from alexnet.kernels.fully_connected import gradient_of_bias
from alexnet.kernels.update_by_factors import fits, move_by_factors
from alexnet.kernels.update_rule import move
from alexnet.network.alexnet import AlexNet
from alexnet.network.factors import Factored, form_gradients
from alexnet.runtime.memory import give_back_memory
from alexnet.runtime.ranks import Ranks
from alexnet.training.recipe import Learning

Rate = Callable[[str, bool], float]  # layer, bias -> rate
Sums = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]  # over the parts that processes have of a tensor


class Update:
    """The velocities of a network's parameters, and the step that moves both.

    products   of the network's arithmetic: with torch.bfloat16 its parameters become copies in bf16, which is what
               products read; the weights themselves stay here, in float32 (float64 where the network is)
    summed     for a network of which other processes have parts

    `velocity` maps each parameter's name to float32 (float64) of its shape, zero at first; `weights` those of the
    network's file, which are the parameters and the averages that batch normalization keeps.
    """

    def __init__(
        self, network: AlexNet, learning: Learning, products: torch.dtype = torch.float32, summed: Sums = dict
    ) -> None:
        self.momentum, self.trust, self._summed = learning.momentum, learning.trust, summed
        self._network, self._parameters = network, dict(network.named_parameters())
        self.weights: dict[str, Tensor] = {name: each.detach() for name, each in network.state_dict().items()}
        self.copied = products == torch.bfloat16
        if self.copied:
            for parameter in self._parameters.values():
                parameter.data = parameter.data.to(products)
        self.velocity = {name: torch.zeros_like(self.weights[name]) for name in self._parameters}
        self._rows: dict[str, slice] = {}  # that are moved here, where others move the rest
        self._meet: Callable[[], None] = lambda: None
        self._kinds: dict[str, tuple[str, bool, float]] = {}  # layer, bias, decay
        places = {place: name for name, place in network.steps}
        own_decay = dict(learning.layer_decay)
        for name in self._parameters:
            place, _, kind = name.rpartition(".")
            bias = kind == "bias"
            decay = own_decay.get(places[place], learning.decay)
            self._kinds[name] = (places[place], bias, 0.0 if bias and not learning.bias_decay else decay)

    @torch.no_grad()
    def hold_in_common(self, ranks: Ranks, places: Collection[str]) -> None:
        """Hold the weights of these layers, their velocity and copies, which all shares move by the same factors, once
        between processes that see each other's memory: each moves a part of them. Where that cannot be each moves all,
        to the same bits. Whoever writes to them otherwise writes what the others do. They meet behind the update;
        between everybody's reading and the next one stand DDP's sums. Raises nothing of its own.

        places   where layers are stored whose weights, float[outputs, inputs], learn by factors
        """
        names = [f"{place}.weight" for place in places if fits(self._parameters[f"{place}.weight"])]
        if self.trust or not names:  # trust goes by the size of whole gradients
            return
        if (neighbours := ranks.neighbours()) is None:
            return
        copies = {name: self._parameters[name].detach() for name in names if self.copied}
        held = [each for each in (self.weights, self.velocity, copies) if each]
        common = neighbours.in_common([each[name] for each in held for name in names])
        if common is None:
            return
        rest = iter(common)
        for each in held:
            each.update(zip(names, rest, strict=False))
        for name in names:
            self._parameters[name].data = copies.get(name, self.weights[name])
            self._rows[name] = neighbours.rows(len(self.weights[name]))
        self._meet = neighbours.wait
        give_back_memory()  # what each held for itself

    @torch.no_grad()
    def renew_copies(self) -> None:
        """Round the copies in bf16 anew, once others have put weights here."""
        for name, parameter in self._parameters.items() if self.copied else ():
            parameter.copy_(self.weights[name])

    def step(self, rate: Rate) -> None:
        """Move every parameter by its gradient, where no layer has factors. A layer at rate 0 stays as it is: no decay,
        no momentum."""
        names, numbers = self.moving(rate)
        self.move(names, numbers.to(next(iter(self.weights.values())).device), {})

    def moving(self, rate: Rate) -> tuple[tuple[str, ...], Tensor]:
        """The names of the parameters that move, those at a rate above 0, and float64[names, 2] on the CPU: decay and
        rate of each."""
        now = {name: (decay, rate(layer, bias)) for name, (layer, bias, decay) in self._kinds.items()}
        moving = {name: numbers for name, numbers in now.items() if numbers[1] > 0}
        return tuple(moving), torch.tensor(list(moving.values()), dtype=torch.float64).view(-1, 2)

    @torch.no_grad()
    def move(self, names: Sequence[str], numbers: Tensor, factors: Factored) -> None:
        """Move these parameters by their gradients.

        numbers   float64[names, 2], decay and rate of each; on the network's device
        factors   of the layers that have them in place of gradients (`network/factors.py`)
        """
        if not names:
            return
        decays, rates = numbers.unbind(1)
        if self.trust:
            form_gradients(self._network, factors)
            factors, rates = {}, rates * self._trusted(names, decays)
        kind = torch.promote_types(self.weights[names[0]].dtype, torch.float32)
        numbers = torch.stack([torch.full_like(rates, self.momentum), decays * rates, rates], 1).to(kind)
        for name, own in zip(names, numbers, strict=True):
            place, _, which = name.rpartition(".")
            parameter = self._parameters[name]
            w, v, copy = self.weights[name], self.velocity[name], parameter.detach() if self.copied else None
            if place in factors and which == "weight":
                rows, (x, g) = self._rows.get(name, slice(None)), factors[place]
                move_by_factors(w[rows], v[rows], x, g[:, rows], copy if copy is None else copy[rows], own)
            else:
                gradient = gradient_of_bias(factors[place][1]) if place in factors else parameter.grad
                if gradient is None:
                    continue
                # Of the parameter's kind, as all are: the sweep would have to be compiled for another.
                move(w, v, gradient.to(parameter.dtype), copy, own)
            torch.autograd.graph.increment_version(parameter)  # a graph from before must not go on with it
        self._meet()

    def _trusted(self, names: Sequence[str], decays: Tensor) -> Tensor:
        """By how much LARS multiplies each one's rate: float64[names], as decays are; the trust where w or g is 0."""
        squares = {}
        for name in names:
            weight, gradient = self.weights[name], self._parameters[name].grad
            pair = weight, weight.new_zeros(1) if gradient is None else gradient
            squares[name] = torch.stack([torch.linalg.vector_norm(x, dtype=weight.dtype) for x in pair]).square()
        w, g = torch.stack(list(self._summed(squares).values())).sqrt().unbind(1)
        return self.trust * torch.where((w != 0) & (g != 0), w / (g + decays * w), 1.0)
