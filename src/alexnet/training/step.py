"""Section 5: one step: a batch forward and backward, over all processes that share it, and the update."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.nn import functional as F

from alexnet.data.augment import Images
from alexnet.data.batches import Batch
from alexnet.data.presentation import Presentation
from alexnet.data.statistics import Statistics
from alexnet.network.alexnet import AlexNet
from alexnet.network.operations import Masks
from alexnet.runtime.devices import Machine
from alexnet.runtime.ranks import Ranks
from alexnet.training.recipe import Recipe
from alexnet.training.update import Rate, Update


class Step:
    """A network, its velocity, and what moves both.

    network   the whole, or the tower that is here
    """

    def __init__(
        self, recipe: Recipe, network: AlexNet, images: Images, statistics: Statistics, machine: Machine, ranks: Ranks
    ) -> None:
        self.seed, self.portion, self.machine, self.ranks = recipe.seed, recipe.parallel.portion, machine, ranks
        self.network = network.to(machine.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.update = Update(self.network, recipe.learning, machine.products)
        self.shared = ranks.together(self.network)
        self.shown = Presentation(images, statistics, machine.device)

    def __call__(self, batch: Batch, number: int, rate: Rate) -> Tensor:
        """Learn from `batch` as step `number` of the run, from 0.

        returns   float32[]   this process's part of the batch's loss, the mean log-probability of the right label,
                              negated; the parts of all shares add up to it
        """
        self.network.train()
        self.network.zero_grad(set_to_none=True)
        *others, last = batch.portions(self.portion)
        loss = self._carried(others, number) if others else None
        own = self._backward(last, number)
        self.update.step(rate)
        return own if loss is None else loss + own

    def _backward(self, portion: Batch, number: int) -> Tensor:
        with self.machine.precision():
            masks = Masks(self.seed, number, portion.row, self.ranks.tower)
            # Nothing here holds the images: the first layer keeps what it needs of them.
            logits = self.shared(self.shown(portion.patches, portion.done).to(self.machine.products), masks)
        labels = torch.from_numpy(portion.labels).to(logits.device)
        # Gradients are averaged over the shares, which may be of different sizes; one may be empty.
        loss = F.cross_entropy(logits.float(), labels) * (portion.counted / portion.whole)
        (loss * self.ranks.shares).backward()
        return loss.detach()

    def _carried(self, portions: list[Batch], number: int) -> Tensor:
        """The gradients of some portions, added up in float32 and left where the next backward adds its own."""
        sums: dict[str, Tensor] = {}
        losses = []
        for portion in portions:
            with self._by_itself():
                losses.append(self._backward(portion, number))
            for name, gradient in self._gradients():
                wide = gradient.to(torch.promote_types(gradient.dtype, torch.float32))
                sums[name] = sums[name] + wide if name in sums else wide
            self.network.zero_grad(set_to_none=True)
        for name, parameter in self.network.named_parameters():
            parameter.grad = sums.pop(name).to(parameter.dtype)
        return torch.stack(losses).sum()

    def _gradients(self) -> Iterator[tuple[str, Tensor]]:
        for name, parameter in self.network.named_parameters():
            assert parameter.grad is not None
            yield name, parameter.grad

    def _by_itself(self) -> AbstractContextManager[None]:
        """Gradients of one portion stay here; the last portion's are averaged with all that was gathered."""
        alone: AbstractContextManager[None] = getattr(self.shared, "no_sync", nullcontext)()
        return alone
