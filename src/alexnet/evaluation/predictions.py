"""Section 6: the probabilities of every image of a split, judged once each, kept, and averaged into ensembles."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from alexnet.data.augment import Images
from alexnet.data.squares import Progress, Squares
from alexnet.data.statistics import Statistics
from alexnet.evaluation.errors import errors
from alexnet.evaluation.views import probabilities
from alexnet.evaluation.views import views as patches
from alexnet.network.alexnet import AlexNet
from alexnet.network.layers import Gathering
from alexnet.network.operations import Here
from alexnet.runtime.devices import Machine
from alexnet.runtime.ranks import ALONE, Ranks

PORTION = 64  # images that a process judges at a time
ON_GPU = 512  # there


@dataclass(frozen=True)
class Predictions:
    """What one network, or an ensemble, says about every image of a split.

    probabilities   float32[N, K]
    labels          int64[N]
    views           how many patches of each image were averaged: 1, 10, or as `AVERAGED` has it
    """

    probabilities: Tensor
    labels: Tensor
    views: int

    def in_order(self, order: Sequence[int]) -> "Predictions":
        """The same with classes numbered anew: class `order[k]` is class k from here on."""
        places = torch.tensor(order)
        if torch.equal(places, torch.arange(len(order))):
            return self  # of a million images by a thousand classes there is no second copy then
        return replace(self, probabilities=self.probabilities[:, places], labels=places.argsort()[self.labels])

    def errors(self) -> tuple[float, float]:
        """Top-1 and top-5 error, fractions."""
        return errors(self.probabilities, self.labels)


def predict(
    network: AlexNet,
    squares: Squares,
    images: Images,
    statistics: Statistics,
    machine: Machine,
    views: int,
    progress: Progress,
    ranks: Ranks = ALONE,
) -> Predictions:
    """Judge every image exactly once, in order. Raises BadInputError naming a damaged picture, and
    DivergedError where a probability is not finite: no number is given then.

    `views` is 1 or 10. Portions are dealt out to the ranks, and every rank is given all of the predictions: a sum of
    what one of them knows and the others have as zeros, which is exact. The processes of a hybrid share one out.
    All ranks call `progress` equally often, so that they may talk there; what it raises ends the judging.
    """
    judged = torch.zeros(len(squares), network.lineage.classes, dtype=torch.float32, device="cpu")
    parts = next((layer.parts for layer in network.lineage.layers if isinstance(layer, Gathering)), 1)
    on_gpu = machine.device.type == "cuda"
    portion = parts * int(ranks.highest(ON_GPU if on_gpu else PORTION)[0])  # of one size, whoever judges
    for start in range(0, len(squares), ranks.shares * portion):
        numbers = np.arange(start, len(squares))[ranks.share * portion :][:portion]
        if not len(numbers):
            progress(len(squares), len(squares))
            continue
        dealt = np.array_split(numbers, parts)
        here = Here(counts=tuple(len(each) for each in dealt))
        own = dealt[ranks.tower if parts > 1 else 0]
        # Who has no image computes one that does not count.
        seen = squares.gather(own if len(own) else numbers[:1], pinned=on_gpu)
        judged[numbers] = probabilities(network, seen, images, statistics, machine, views, here)
        progress(int(numbers[-1]) + 1, len(squares))
    ranks.total(judged)
    return Predictions(judged, torch.from_numpy(squares.labels), len(patches(images, views)))


def ensemble(members: Sequence[Predictions], weights: Sequence[float] | None = None) -> Predictions:
    """Section 6: the (weighted) average of several networks' probabilities over the same images.

    `weights` need not sum to one. The members must have judged the same labels.
    """
    shares = torch.tensor(weights or [1.0] * len(members), dtype=torch.float64)
    shares = shares / shares.sum()
    assert all(torch.equal(member.labels, members[0].labels) for member in members)
    together = torch.empty_like(members[0].probabilities)
    for start in range(0, len(together), PORTION):
        parts = (member.probabilities[start : start + PORTION].double() for member in members)
        total = sum(share * part for share, part in zip(shares, parts, strict=True))
        assert isinstance(total, Tensor)
        together[start : start + PORTION] = total
    return Predictions(together, members[0].labels, members[0].views)
