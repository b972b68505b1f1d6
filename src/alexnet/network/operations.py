"""What each kind of layer computes.

No operation works in place: an activity that has a name keeps its value.
"""

from collections.abc import Callable, Sequence
from math import sqrt
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alexnet.kernels.after_convolution import Following
from alexnet.kernels.convolution import convolution, towers_of_convolution
from alexnet.kernels.dropout import dropped
from alexnet.kernels.fully_connected import fully_connected
from alexnet.kernels.within_map import within_map
from alexnet.network.batch_norm import BatchNormalized
from alexnet.network.described import Described
from alexnet.network.layers import (
    AveragePool,
    BatchNorm,
    Convolution,
    Dropout,
    FanIn,
    FullyConnected,
    Gathering,
    Layer,
    LocallyConnected,
    MaxPool,
    Meeting,
    NormAcrossMaps,
    NormWithinMap,
    Rectifier,
    Shape,
)


class Operation(Described):
    """A layer that learns nothing: float[N, C, H, W] (or float[N, D]) in, the same kind out."""

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output."""
        layer = self.layer
        match layer:
            case AveragePool():
                return F.avg_pool2d(x, layer.size, layer.stride, ceil_mode=True, count_include_pad=False)
            case NormWithinMap():
                return within_map(x, size=layer.size, k=layer.k, alpha=layer.alpha, beta=layer.beta)
        alone = following([layer])
        assert alone, layer
        return alone(x)


def following(layers: Sequence[Layer]) -> Following | None:
    """These layers as one computation: a rectifier, a normalization, a pooling and a rectifier, in this order."""
    found, reached = Following(), 0
    for layer in layers:
        match layer:
            case Rectifier() if reached == 0:
                found, reached = found._replace(rectified=True), 1
            case NormAcrossMaps(_, n, k, alpha, beta, towers) if reached <= 1:
                found, reached = found._replace(norm=(towers, n, k, alpha, beta)), 2
            case MaxPool(_, size, stride) if reached <= 2:
                found, reached = found._replace(pool=(size, stride)), 3
            case Rectifier() if reached == 3:
                found, reached = found._replace(last=True), 4
            case _:
                return None
    return found


Stages = list[tuple[range, Following | None]]


def stages(layers: Sequence[Layer]) -> Stages:
    """The layers' numbers in the runs that are computed together, with how; None where each is computed by itself."""
    found: Stages = []
    start = 0
    while start < len(layers):
        stop = start + 1
        while stop < len(layers) and following(layers[start : stop + 1]):
            stop += 1
        found.append((range(start, stop), following(layers[start:stop])))
        start = stop
    return found


class Learned(Described):
    """A layer with weights and biases, whose initial values its description fixes."""

    layer: Convolution | FullyConnected
    weight: nn.Parameter
    bias: nn.Parameter

    def __init__(
        self, layer: Convolution | FullyConnected, shape: Shape, weight: tuple[int, ...], biases: tuple[int, ...]
    ) -> None:
        super().__init__(layer)
        self.fan_in = layer.fan_in(shape)
        self.weight = nn.Parameter(torch.empty(weight))
        self.bias = nn.Parameter(torch.empty(biases))

    @torch.no_grad()
    def set_initial_values(self, generator: torch.Generator, tower: int = 0, towers: int = 1) -> None:
        """Section 5: weights from the lineage's distribution, biases constant.

        Where this layer is one `tower` of `towers`, all are drawn and it takes its share of the kernels.
        """
        rule = self.layer.weight
        if isinstance(rule, FanIn):
            bound = 1 / sqrt(self.fan_in)
            for parameter in (self.weight, self.bias):
                drawn = _of_all(parameter, towers).uniform_(-bound, bound, generator=generator)
                parameter.copy_(drawn.chunk(towers)[tower])
        else:
            drawn = _of_all(self.weight, towers).normal_(0, rule.deviation, generator=generator)
            self.weight.copy_(drawn.chunk(towers)[tower])
            self.bias.fill_(self.layer.bias)


def _of_all(parameter: Tensor, towers: int) -> Tensor:
    # Fresh memory: a parameter laid out channels last would be filled in another order. The generator is a processor's.
    device, shape = "meta" if parameter.is_meta else "cpu", (towers * parameter.shape[0], *parameter.shape[1:])
    return torch.empty(shape, dtype=torch.float32, device=device)


class Convolved(Learned):
    """Section 3.5: weight float[K, C / groups, size, size], bias float[K].

    owners   how many towers have equal shares of the kernels, if all of them read all maps
    """

    layer: Convolution

    def __init__(self, layer: Convolution, shape: Shape, owners: int = 1) -> None:
        kernel = (layer.kernels, shape[0] // layer.groups, layer.size, layer.size)
        super().__init__(layer, shape, kernel, (layer.kernels,))
        self.owners = owners

    def forward(self, x: Tensor, rectified: bool = False) -> Tensor:
        """float[N, C, H, W] -> float[N, K, H', W']; `rectified`: with the rectifier behind it."""
        layer = self.layer
        return convolution(
            x,
            self.weight,
            self.bias,
            stride=layer.stride,
            pad=layer.pad,
            groups=layer.groups,
            rectified=rectified,
            towers=self.owners,
        )

    def towers(self, parts: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The same without the bias, each group's maps by themselves: on a GPU, where more follows."""
        layer = self.layer
        return towers_of_convolution(parts, self.weight, stride=layer.stride, pad=layer.pad, groups=layer.groups)


class LocallyConvolved(Learned):
    """Unshared kernels: weight float[H' * W', K, C * size^2], bias float[K, H', W']."""

    layer: LocallyConnected

    def __init__(self, layer: LocallyConnected, shape: Shape) -> None:
        assert layer.groups == 1 and layer.pad[0] == layer.pad[1]
        kernels, height, width = layer.output(shape)
        weight = (height * width, kernels, shape[0] * layer.size**2)
        super().__init__(layer, shape, weight, (kernels, height, width))

    def forward(self, x: Tensor) -> Tensor:
        """float[N, C, H, W] -> float[N, K, H', W']."""
        layer = self.layer
        patches = F.unfold(x, layer.size, padding=layer.pad[0], stride=layer.stride)  # [N, C * size^2, H' * W']
        maps = torch.bmm(patches.permute(2, 0, 1), self.weight.transpose(1, 2))  # [H' * W', N, K]
        return maps.permute(1, 2, 0).reshape(-1, *self.bias.shape) + self.bias


class Connected(Learned):
    """Section 3.5: weight float[outputs, inputs], bias float[outputs].

    owners   how many towers have equal shares of the outputs
    """

    def __init__(self, layer: FullyConnected, shape: Shape, owners: int = 1) -> None:
        inputs = layer.fan_in(shape)
        super().__init__(layer, shape, (layer.outputs, inputs), (layer.outputs,))
        self.owners = owners

    def forward(self, x: Tensor) -> Tensor:
        """float[N, ...] -> float[N, outputs]."""
        return fully_connected(x.flatten(1), self.weight, self.bias, self.owners)


class Met(Described):
    """Section 3.2: what the other towers computed laid beside what this one did."""

    layer: Meeting

    def __init__(self, layer: Meeting) -> None:
        super().__init__(layer)
        self.meet: Callable[[Tensor, bool], Tensor] = _alone

    def forward(self, x: Tensor) -> Tensor:
        """float[N, C, ...] -> float[N, towers * C, ...]."""
        return self.meet(x, self.layer.added)


def _alone(x: Tensor, *_: object) -> Tensor:
    raise RuntimeError("a tower by itself has nobody to meet; Towers.network gives it the others")


class Gathered(Described):
    """The other processes' images and this one's laid end to end."""

    def __init__(self, layer: Gathering) -> None:
        super().__init__(layer)
        self.gather: Callable[[Tensor, tuple[int, ...]], Tensor] = _alone

    def forward(self, x: Tensor, counts: tuple[int, ...] = ()) -> Tensor:
        """float[N, ...] -> float[sum of counts, ...].

        counts   how many of each process's images count, in order of rank; none: all have the same images
        """
        return self.gather(x, counts) if counts else x


class Here(NamedTuple):
    """Where in a run this is, and which part of the batch and of the network is here.

    seeds    int64[dropouts]: what each mask is counted from (AlexNet.masks); without them PyTorch's own generator
             draws some
    row      the first image that is here, in the batch; in a hybrid, that the processes have between them
    tower    which equal share of the activities is here
    weight   what share of the whole batch the images are that are here; 0 where they do not count. Who says it takes
             batch normalization's moments into its averages (`BatchNormalized.settle`)
    counts   in a hybrid, how many images each process has of those that are computed together
    shares   how many images each share of the batch has at this time, where there are several
    """

    seeds: Tensor | None = None
    row: int = 0
    tower: int = 0
    weight: float | None = None
    counts: tuple[int, ...] = ()
    shares: tuple[int, ...] = ()


class DroppedOut(Described):
    """Section 4.2: each activity silenced with probability 1 - keep while training."""

    layer: Dropout

    def __init__(self, layer: Dropout) -> None:
        super().__init__(layer)
        self.divided = True  # whether a tower has its share of the activities, or all of them

    def forward(self, x: Tensor, seed: Tensor | None = None, row: int = 0, tower: int = 0) -> Tensor:
        """float[N, ...] -> the same; the mask is a function of `seed`, int64[], which PyTorch's own generator draws if
        need be, and what is here is the part of it from `row` on, in the `tower`th share of the columns."""
        keep = self.layer.keep
        if not self.training:
            return x if self.layer.rescaled else x * keep
        if seed is None:
            seed = torch.randint(2**62, (), device=x.device)
        scale = 1 / keep if self.layer.rescaled else 1.0
        column = tower * x[0].numel() if self.divided else 0
        return dropped(x, keep=keep, scale=scale, seed=seed, row=row, column=column)


def operation(layer: Layer, shape: Shape, towers: int = 1) -> nn.Module:
    """What computes `layer`, one of a network of so many towers, when maps of `shape` enter."""
    match layer:
        case LocallyConnected():
            return LocallyConvolved(layer, shape)
        case Convolution():
            return Convolved(layer, shape, towers if layer.groups == 1 and layer.kernels % towers == 0 else 1)
        case FullyConnected():
            return Connected(layer, shape, towers if layer.outputs % towers == 0 else 1)
        case Dropout():
            return DroppedOut(layer)
        case BatchNorm():
            return BatchNormalized(layer, shape)
        case Meeting():
            return Met(layer)
        case Gathering():
            return Gathered(layer)
        case _:
            return Operation(layer)
