"""Section 5: one step: a batch forward and backward, over all processes that share it, and the update."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.nn import functional as F

from alexnet.data.augment import Images
from alexnet.data.batches import Portion
from alexnet.data.presentation import Presentation
from alexnet.data.statistics import Statistics
from alexnet.network.batch_norm import BatchNormalized
from alexnet.network.operations import Here
from alexnet.network.towers import Towers
from alexnet.runtime.devices import Machine
from alexnet.training.recipe import Recipe
from alexnet.training.update import Rate, Update


class Step:
    """The network that is here, the whole or a tower, its velocity, and what moves both."""

    def __init__(
        self, recipe: Recipe, towers: Towers, images: Images, statistics: Statistics, machine: Machine
    ) -> None:
        self.seed, self.machine, self.towers, self.ranks = recipe.seed, machine, towers, towers.ranks
        kind = {"dtype": machine.sums, "memory_format": torch.channels_last}
        self.network = towers.network(recipe.seed).to(machine.device, **kind)  # type: ignore[call-overload]
        self.update = Update(self.network, recipe.learning, machine.products, towers.summed)
        self.shared = self.ranks.together(self.network)
        self.shown = Presentation(images, statistics, machine.device)
        self.normalized = [each for each in self.network.modules() if isinstance(each, BatchNormalized)]
        self._sums: dict[str, Tensor] = {}  # gradients of the batch's earlier portions
        self._losses: list[Tensor] = []

    def __call__(self, portion: Portion, number: int, rate: Rate) -> Tensor | None:
        """Learn from a portion of a batch as step `number` of the run, from 0. The batch's last one moves the weights.

        returns   with the last one, float[]: this process's part of the batch's loss, the mean log-probability of the
                  right label, negated; the parts of all shares add up to it
        """
        self.network.train()
        self.network.zero_grad(set_to_none=True)
        if not portion.last:
            with self._by_itself():
                self._losses.append(self._backward(portion, number))
            self._set_aside()
            return None
        parameters = dict(self.network.named_parameters())
        for name in list(self._sums):
            parameters[name].grad = self._sums.pop(name).to(parameters[name].dtype)  # where backward adds its own
        losses = [*self._losses, self._backward(portion, number)]
        self._losses = []
        self.towers.add_up_gradients(self.network)
        self.update.step(rate)
        for layer in self.normalized:
            layer.settle(self.towers.over_images(layer.moments), number)
        return torch.stack(losses).sum()

    def _backward(self, portion: Portion, number: int) -> Tensor:
        with self.machine.precision():
            here = Here(self.seed, number, portion.row, self.ranks.tower, portion.own_weight, portion.counts)
            # Nothing here holds the images: the first layer keeps what it needs of them.
            logits = self.shared(self.shown(portion.patches, portion.done).to(self.machine.products), here)
        labels = torch.from_numpy(portion.labels).to(logits.device)
        # Gradients are averaged over the shares, which may be of different sizes; one may be empty.
        loss = F.cross_entropy(logits.to(self.machine.sums), labels) * portion.weight
        (loss * self.ranks.shares).backward()
        return loss.detach()

    def _set_aside(self) -> None:
        """Add a portion's gradients to those of the portions before it."""
        for name, parameter in self.network.named_parameters():
            assert parameter.grad is not None
            wide = parameter.grad.to(self.machine.sums)
            self._sums[name] = self._sums[name] + wide if name in self._sums else wide

    def _by_itself(self) -> AbstractContextManager[None]:
        """Gradients of one portion stay here; the last portion's are averaged with all that was gathered."""
        alone: AbstractContextManager[None] = getattr(self.shared, "no_sync", nullcontext)()
        return alone
