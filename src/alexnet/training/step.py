"""Section 5: one step: a batch forward and backward, over all processes that share it, and the update."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from alexnet.data.augment import Images
from alexnet.data.batches import Portion
from alexnet.data.presentation import Cut, Presentation
from alexnet.data.statistics import Statistics
from alexnet.network.batch_norm import BatchNormalized
from alexnet.network.operations import Here
from alexnet.network.shares import together
from alexnet.network.towers import Towers
from alexnet.runtime.devices import Machine
from alexnet.runtime.replay import OnGpu, Replayed
from alexnet.training.recipe import Recipe
from alexnet.training.update import Rate, Update


class Given(NamedTuple):
    """All that differs between steps of which the same layers learn from as many images.

    patches, corners, mirrored, shifts   as in `Cut`
    labels                               int64[P]                of all images of the portion
    seeds                                int64[dropouts]         of their masks
    numbers                              float64[parameters, 2]  decay and rate of each that moves
    step                                 int64[]                 of the run, from 0
    """

    patches: Tensor
    corners: Tensor
    mirrored: Tensor
    shifts: Tensor
    labels: Tensor
    seeds: Tensor
    numbers: Tensor
    step: Tensor


class Step:
    """The network that is here, the whole or a tower, its velocity, and what moves both.

    On a GPU, one process's steps are recorded and replayed, but for batches in portions.
    """

    def __init__(
        self, recipe: Recipe, towers: Towers, images: Images, statistics: Statistics, machine: Machine
    ) -> None:
        self.seed, self.machine, self.towers, self.ranks = recipe.seed, machine, towers, towers.ranks
        kind = {"dtype": machine.sums, "memory_format": torch.channels_last}
        self.network = towers.network(recipe.seed).to(machine.device, **kind)  # type: ignore[call-overload]
        self.update = Update(self.network, recipe.learning, machine.products, towers.summed)
        self.shared, self.factors = together(self.network, self.ranks, recipe.learning.batch, towers.lineage)
        self.update.hold_in_common(self.ranks, self.factors.places)
        self.shown = Presentation(images, statistics, machine.device)
        self.normalized = [each for each in self.network.modules() if isinstance(each, BatchNormalized)]
        recorded = machine.device.type == "cuda" and self.ranks.world == 1
        self.replayed = Replayed(OnGpu()) if recorded else None
        self._sums: dict[str, Tensor] = {}  # gradients of the batch's earlier portions
        self._losses: list[Tensor] = []

    def __call__(self, portion: Portion, number: int, rate: Rate) -> Tensor | None:
        """Learn from a portion of a batch as step `number` of the run, from 0. The batch's last one moves the weights.

        returns   with the last one, float[]: this process's part of the batch's loss, the mean log-probability of the
                  right label, negated; the parts of all shares add up to it
        """
        self.network.train()
        moving, numbers = self.update.moving(rate)
        seeds = self.network.masks(self.seed, number)
        cut, labels = Cut.of(portion.patches, portion.done), torch.from_numpy(portion.labels)
        given = Given(*cut, labels, seeds, numbers, torch.tensor(number))
        if portion.last and self.replayed and not self._losses:
            kind = moving, portion.done.shifted, portion.done.divisor
            return self.replayed(kind, lambda tensors: self._whole(portion, moving, Given(*tensors)), given)
        given = Given(*(each.to(self.machine.device, non_blocking=True) for each in given))
        if portion.last:
            return self._whole(portion, moving, given)
        self._forget()
        with self._by_itself():
            self._losses.append(self._backward(portion, given))
        self._set_aside()
        return None

    def _whole(self, portion: Portion, moving: Sequence[str], given: Given) -> Tensor:
        """The step, but for portions before the batch's last one. Launches alone, or it could not be recorded."""
        self._forget()
        parameters = dict(self.network.named_parameters())
        for name in list(self._sums):
            parameters[name].grad = self._sums.pop(name).to(parameters[name].dtype)  # where backward adds its own
        losses = [*self._losses, self._backward(portion, given)]
        self._losses = []
        self.towers.add_up_gradients(self.network)
        self.update.move(moving, given.numbers, self.factors.taken())
        for layer in self.normalized:
            layer.settle(self.towers.over_images(layer.moments), given.step)
        return torch.stack(losses).sum()

    def _forget(self) -> None:
        """What an earlier step left, or one that failed: gradients, and factors but of the batch's portions."""
        self.network.zero_grad(set_to_none=True)
        if not self._losses:
            self.factors.taken()

    def _backward(self, portion: Portion, given: Given) -> Tensor:
        cut, done = Cut(*given[:4]), portion.done
        with self.machine.precision():
            here = Here(given.seeds, portion.row, self.ranks.tower, portion.own_weight, portion.counts, portion.shares)
            kind = self.machine.products
            logits = self.shared(lambda: self.shown.computed(cut, done.shifted, done.divisor, kind), here)
        # Gradients are added up over the shares, which may be of different sizes; one may be empty.
        loss = F.cross_entropy(logits.to(self.machine.sums), given.labels) * portion.weight
        loss.backward()
        return loss.detach()

    def _set_aside(self) -> None:
        """Add a portion's gradients to those of the portions before it."""
        for name, parameter in self.network.named_parameters():
            if parameter.grad is None:  # its layer left factors instead
                continue
            wide = parameter.grad.to(self.machine.sums)
            self._sums[name] = self._sums[name] + wide if name in self._sums else wide

    def _by_itself(self) -> AbstractContextManager[None]:
        """What DDP adds up stays here; with the last portion's it is added up over the shares."""
        alone: AbstractContextManager[None] = getattr(self.shared, "no_sync", nullcontext)()
        return alone
