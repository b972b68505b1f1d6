"""Batch normalization over a fixed number of images: what the minute-scale runs had in place of section 3.3.

Their machines normalized each over its own images. Here the number is the lineage's, whatever the machines are: any
layout computes the same, and nothing is exchanged but the moments of all groups, once a step.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from alexnet.network.described import Described
from alexnet.network.layers import BatchNorm, Shape


class BatchNormalized(Described):
    """Each map without its mean and deviation.

    mean, variance   float32[C]      moving averages, which judging goes by
    moments          float32[2, C]   mean and variance of the batch that is being learned from, as far as it was here
    """

    layer: BatchNorm
    mean: Tensor
    variance: Tensor
    moments: Tensor

    def __init__(self, layer: BatchNorm, shape: Shape) -> None:
        super().__init__(layer)
        self.register_buffer("mean", torch.zeros(shape[0]))
        self.register_buffer("variance", torch.ones(shape[0]))
        self.register_buffer("moments", torch.zeros(2, shape[0]), persistent=False)

    def forget(self) -> None:
        """Begin anew."""
        self.mean.zero_()
        self.variance.fill_(1)
        self.moments.zero_()

    def forward(self, x: Tensor, weight: float | None = None) -> Tensor:
        """float[N, C, H, W] -> the same.

        weight   the share of the batch that is here, of which somebody will say `settle`; None: this is all of it
        """
        layer = self.layer
        if not self.training:
            return F.batch_norm(x, self.mean, self.variance, eps=layer.epsilon)
        normalized = []
        for group in x.split(layer.images):
            own = torch.zeros_like(self.moments)
            normalized.append(F.batch_norm(group, own[0], own[1], training=True, momentum=1, eps=layer.epsilon))
            self.moments += own * ((1.0 if weight is None else weight) * len(group) / len(x))
        if weight is None:
            self.settle(self.moments)
        return torch.cat(normalized) if len(normalized) > 1 else normalized[0]

    @torch.no_grad()
    def settle(self, moments: Tensor, step: Tensor | None = None) -> None:
        """Take the batch's moments into the moving averages.

        moments   float32[2, C]
        step      int64[], of the run, from 0: if it is told, the averages are plain means at first
        """
        new = moments.new_full((), 1 - self.layer.kept, dtype=torch.float64)
        if step is not None:
            new = torch.maximum(new, 1 / (step.double() + 1))
        new = new.to(moments.dtype)
        self.mean.lerp_(moments[0], new)
        self.variance.lerp_(moments[1], new)
        self.moments.zero_()
