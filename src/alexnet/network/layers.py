"""What each kind of layer is, as plain numbers: sizes, parameters, multiply-adds. No torch here.

A lineage is a tuple of these descriptions. `operations.py` turns each into something that computes.

Sizes follow the 2012 program: pooling rounds up and clips its last window; a convolution's padding is written out as
(before, after), because 224 became 55 by three zero rows at the bottom and right only.
"""

from dataclasses import dataclass, replace
from math import ceil, prod

from alexnet.runtime.errors import UsageError

Shape = tuple[int, int, int]  # maps, height, width; a vector has height = width = 1


@dataclass(frozen=True)
class Normal:
    """Initial weights from N(0, deviation^2)."""

    deviation: float

    def __str__(self) -> str:
        return f"N(0, {self.deviation:g}²)"


@dataclass(frozen=True)
class FanIn:
    """PyTorch's own default: weights and biases uniform within 1 / sqrt(inputs of a unit)."""

    def __str__(self) -> str:
        return "uniform within 1/√inputs"


Weights = Normal | FanIn


@dataclass(frozen=True)
class Layer:
    """A named step of the network; its output is available under `name`."""

    name: str

    def output(self, shape: Shape) -> Shape:
        """The shape that leaves, given the shape that enters."""
        return shape

    def weights(self, shape: Shape) -> int:
        """How many weights it learns when `shape` enters."""
        return 0

    def biases(self, shape: Shape) -> int:
        """How many biases it learns when `shape` enters."""
        return 0

    def multiply_adds(self, shape: Shape) -> int:
        """Multiply-adds for one image, zeros outside the image counted; normalization and pooling are left out."""
        return 0

    @property
    def learns(self) -> bool:
        """Whether it has weights."""
        return False


@dataclass(frozen=True)
class Convolution(Layer):
    """Section 3.5: `kernels` of size x size over `groups` separate shares of the maps (one share a tower)."""

    kernels: int
    size: int
    stride: int = 1
    pad: tuple[int, int] = (0, 0)
    groups: int = 1
    weight: Weights = Normal(0.01)
    bias: float = 0.0
    stored_as: str = ""

    def output(self, shape: Shape) -> Shape:
        height, width = (1 + (side + sum(self.pad) - self.size) // self.stride for side in shape[1:])
        return self.kernels, height, width

    def fan_in(self, shape: Shape) -> int:
        """Inputs of one unit."""
        return shape[0] // self.groups * self.size**2

    def weights(self, shape: Shape) -> int:
        return self.kernels * self.fan_in(shape)

    def biases(self, shape: Shape) -> int:
        return self.kernels

    def multiply_adds(self, shape: Shape) -> int:
        return prod(self.output(shape)) * self.fan_in(shape)

    @property
    def learns(self) -> bool:
        return True


@dataclass(frozen=True)
class LocallyConnected(Convolution):
    """A convolution whose kernels are not shared: every position has its own (the CIFAR-10 networks)."""

    def weights(self, shape: Shape) -> int:
        return self.multiply_adds(shape)

    def biases(self, shape: Shape) -> int:
        return prod(self.output(shape))


@dataclass(frozen=True)
class FullyConnected(Layer):
    """Section 3.5: every unit reads every activity of the layer below, of both towers."""

    outputs: int
    weight: Weights = Normal(0.01)
    bias: float = 0.0
    stored_as: str = ""

    def output(self, shape: Shape) -> Shape:
        return self.outputs, 1, 1

    def fan_in(self, shape: Shape) -> int:
        """Inputs of one unit."""
        return prod(shape)

    def weights(self, shape: Shape) -> int:
        return self.outputs * self.fan_in(shape)

    def biases(self, shape: Shape) -> int:
        return self.outputs

    def multiply_adds(self, shape: Shape) -> int:
        return self.weights(shape)

    @property
    def learns(self) -> bool:
        return True


@dataclass(frozen=True)
class Rectifier(Layer):
    """Section 3.1: max(0, x)."""


@dataclass(frozen=True)
class NormAcrossMaps(Layer):
    """Section 3.3: divide by (k + alpha * sum of squares over n adjacent maps)^beta, within each of `towers` shares."""

    n: int = 5
    k: float = 2.0
    alpha: float = 1e-4  # multiplies the plain sum; Caffe and PyTorch divide theirs by n first
    beta: float = 0.75
    towers: int = 2

    def output(self, shape: Shape) -> Shape:
        """The same. Raises UsageError where the towers cannot share the maps equally."""
        if shape[0] % self.towers:
            raise UsageError(f"{self.name}: {shape[0]} maps; give as many to each of its {self.towers} towers")
        return shape


@dataclass(frozen=True)
class NormWithinMap(Layer):
    """The same over a size x size patch of the same map; in the 2012 program, not in the paper."""

    size: int = 5
    k: float = 1.0
    alpha: float = 4e-5
    beta: float = 0.75

    def __post_init__(self) -> None:
        if self.size % 2 == 0:
            raise UsageError(f"{self.name}: a patch of {self.size}; an odd one has a middle")


@dataclass(frozen=True)
class BatchNorm(Layer):
    """Each map minus its mean, divided by its deviation: over `images` of a batch, the last of which may be fewer.

    That many stay in one process, so that the numbers do not depend on how a batch lies over processes. Judging uses
    moving averages, of which a step keeps the share `kept`.
    """

    images: int = 64
    kept: float = 0.9
    epsilon: float = 1e-4


@dataclass(frozen=True)
class Pool(Layer):
    """Section 3.4: windows of size x size, `stride` apart, clipped to the image."""

    size: int = 3
    stride: int = 2

    def __post_init__(self) -> None:
        if not 1 <= self.stride <= self.size:
            raise UsageError(f"{self.name}: stride {self.stride}; is between 1 and the window's {self.size}")

    def output(self, shape: Shape) -> Shape:
        height, width = (1 + ceil((side - self.size) / self.stride) for side in shape[1:])
        return shape[0], height, width


@dataclass(frozen=True)
class MaxPool(Pool):
    """The largest activity of each window."""


@dataclass(frozen=True)
class AveragePool(Pool):
    """The mean of the activities really inside each window."""


@dataclass(frozen=True)
class Dropout(Layer):
    """Section 4.2: silence each activity with probability 1 - keep while training.

    As printed (`rescaled` false) the survivors keep their size and everything is multiplied by `keep` at test;
    later programs divide by `keep` while training and leave the test alone.
    """

    keep: float = 0.5
    rescaled: bool = False


@dataclass(frozen=True)
class Meeting(Layer):
    """Section 3.2: the maps of `towers` towers, each in a process of its own, laid side by side.

    added   whether gradients are added up over the towers: not where all of them compute the same from here on
    """

    towers: int = 2
    added: bool = True

    def output(self, shape: Shape) -> Shape:
        return self.towers * shape[0], *shape[1:]


@dataclass(frozen=True)
class Gathering(Layer):
    """The images of `parts` processes, each of which has computed its own up to here, laid end to end.

    From here on each computes its share of the units for all of them: the hybrid of "One weird trick" (2014).
    """

    parts: int = 2


@dataclass(frozen=True)
class Row:
    """One line of the layer table."""

    layer: Layer
    input: Shape
    output: Shape
    weights: int
    biases: int
    multiply_adds: int
    neurons: int

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return self.weights + self.biases


def table(layers: tuple[Layer, ...], shape: Shape) -> list[Row]:
    """Follow `shape` through the layers. Neurons are the units of layers that learn, as the paper counts them."""
    rows = []
    for layer in layers:
        output = layer.output(shape)
        rows.append(
            Row(
                layer,
                shape,
                output,
                layer.weights(shape),
                layer.biases(shape),
                layer.multiply_adds(shape),
                prod(output) if layer.learns else 0,
            )
        )
        shape = output
    return rows


def with_classes(layers: tuple[Layer, ...], classes: int) -> tuple[Layer, ...]:
    """The same network with another number of classes: only its last layer changes."""
    last = layers[-1]
    if not isinstance(last, FullyConnected):
        raise UsageError(f"{last.name}: the last layer is not fully connected; its classes cannot be changed")
    return (*layers[:-1], replace(last, outputs=classes))
