"""Section 3.5 and its descendants: every historical variant of the network, layer by layer.

Read `PAPER` beside the paper; the others are written as what differs. Facts and their sources: docs/disagreements.md.
"""

from dataclasses import dataclass, replace

from alexnet.network.cifar import CIFAR_11, CIFAR_13, CIFAR_18, CIFAR_80
from alexnet.network.layers import (
    BatchNorm,
    Convolution,
    Dropout,
    FanIn,
    FullyConnected,
    Layer,
    MaxPool,
    NormAcrossMaps,
    Normal,
    NormWithinMap,
    Rectifier,
    Row,
    Shape,
    table,
    with_classes,
)
from alexnet.runtime.errors import UsageError
from alexnet.runtime.suggestions import did_you_mean


@dataclass(frozen=True)
class Lineage:
    """A named historical variant of the network.

    `towers` is how many shares the kernels of the early layers are split into, and how Figure 3 groups them.
    """

    name: str
    summary: str
    side: int  # of the square image that enters, in pixels
    towers: int
    layers: tuple[Layer, ...]
    code: str  # the last hidden layer: the activities that section 6.1 compares images by

    @property
    def input(self) -> Shape:
        """What enters: maps, height, width."""
        return 3, self.side, self.side

    @property
    def group(self) -> int:
        """How many images of a batch are computed together: 1, but for batch normalization."""
        return max([1, *(layer.images for layer in self.layers if isinstance(layer, BatchNorm))])

    @property
    def classes(self) -> int:
        """How many classes it was made for."""
        return self.table()[-1].output[0]

    def table(self) -> list[Row]:
        """The layer table."""
        return table(self.layers, self.input)

    def with_classes(self, classes: int) -> "Lineage":
        """The same network for another number of classes."""
        return replace(self, layers=with_classes(self.layers, classes))

    def replacing(self, name: str, summary: str, **layers: Layer | tuple[Layer, ...]) -> "Lineage":
        """A descendant: for each named layer, what stands in its place."""
        assert set(layers) <= {layer.name for layer in self.layers}, layers
        changed: list[Layer] = []
        for layer in self.layers:
            instead = layers.get(layer.name, layer)
            changed.extend(instead if isinstance(instead, tuple) else (instead,))
        return replace(self, name=name, summary=summary, layers=tuple(changed))


# 224 becomes 55 with three zero rows and columns at the bottom and right: in 2012 the number of windows was rounded up
# and the last one hung over the edge. The paper gives neither the padding nor a size that fits; this is its program's.
OVERHANG = (0, 3)

PAPER = Lineage(
    "paper",
    "the text of 2012 read literally",
    side=224,
    towers=2,
    code="relu7",
    layers=(
        Convolution("conv1", kernels=96, size=11, stride=4, pad=OVERHANG),
        Rectifier("relu1"),
        NormAcrossMaps("norm1"),
        MaxPool("pool1"),
        Convolution("conv2", kernels=256, size=5, pad=(2, 2), groups=2, bias=1),
        Rectifier("relu2"),
        NormAcrossMaps("norm2"),
        MaxPool("pool2"),
        Convolution("conv3", kernels=384, size=3, pad=(1, 1)),  # reads both towers
        Rectifier("relu3"),
        Convolution("conv4", kernels=384, size=3, pad=(1, 1), groups=2, bias=1),
        Rectifier("relu4"),
        Convolution("conv5", kernels=256, size=3, pad=(1, 1), groups=2, bias=1),
        Rectifier("relu5"),
        MaxPool("pool5"),
        FullyConnected("fc6", 4096, bias=1),
        Rectifier("relu6"),
        Dropout("drop6"),
        FullyConnected("fc7", 4096, bias=1),
        Rectifier("relu7"),
        Dropout("drop7"),
        FullyConnected("fc8", 1000),
    ),
)

# Run 145, whose log holds the paper's numbers. alpha was divided by the window's size when the file was read.
AS_RUN = NormAcrossMaps("norm1", alpha=1e-4 / 5)
SOURCE_2012 = Lineage(
    "source-2012",
    "the configuration that made the paper's numbers (run 145)",
    side=224,
    towers=2,
    code="relu7",
    layers=(
        Convolution("conv1", kernels=96, size=11, stride=4, pad=OVERHANG),
        AS_RUN,  # before the rectifier: it sees signed activities
        MaxPool("pool1"),
        Rectifier("relu1"),
        Convolution("conv2", kernels=256, size=5, pad=(2, 2), groups=2, bias=1),
        Rectifier("relu2"),
        replace(AS_RUN, name="norm2"),
        NormWithinMap("norm2b"),
        MaxPool("pool2"),
        Convolution("conv3", kernels=384, size=3, pad=(1, 1), weight=Normal(0.03)),
        Rectifier("relu3"),
        Convolution("conv4", kernels=384, size=3, pad=(1, 1), groups=2, weight=Normal(0.03), bias=1),
        Rectifier("relu4"),
        Convolution("conv5", kernels=256, size=3, pad=(1, 1), groups=2, weight=Normal(0.03), bias=1),
        MaxPool("pool5"),
        Rectifier("relu5"),
        FullyConnected("fc6", 4096, bias=1),
        Rectifier("relu6"),
        Dropout("drop6"),
        FullyConnected("fc7", 4096, bias=1),
        Rectifier("relu7"),
        Dropout("drop7"),
        FullyConnected("fc8", 1000),
    ),
)

ONE_TOWER = replace(AS_RUN, towers=1)
SOURCE_2012_HALF = replace(
    SOURCE_2012.replacing(
        "source-2012-half",
        "one tower: half the kernels in conv1 to conv4, the last layers at full width (run 145-half)",
        conv1=Convolution("conv1", kernels=48, size=11, stride=4, pad=OVERHANG),
        norm1=ONE_TOWER,
        conv2=Convolution("conv2", kernels=128, size=5, pad=(2, 2), bias=1),
        norm2=replace(ONE_TOWER, name="norm2"),
        conv3=Convolution("conv3", kernels=192, size=3, pad=(1, 1), weight=Normal(0.03)),
        conv4=Convolution("conv4", kernels=192, size=3, pad=(1, 1), weight=Normal(0.03), bias=1),
        conv5=Convolution("conv5", kernels=256, size=3, pad=(1, 1), weight=Normal(0.03), bias=1),
    ),
    towers=1,
)

SOURCE_2012_CONV6 = SOURCE_2012.replacing(
    "source-2012-conv6",
    "a sixth convolutional layer over both towers, for pre-training (run 146)",
    relu5=(
        Rectifier("relu5"),
        Convolution("conv6", kernels=256, size=3, pad=(1, 1), weight=Normal(0.03), bias=1),
        Rectifier("relu_conv6"),
    ),
)

SOURCE_2012_NO_OVERLAP = SOURCE_2012.replacing(
    "source-2012-no-overlap",
    "pooling windows of 2 x 2, two apart (run 147)",
    pool1=MaxPool("pool1", size=2),
    conv2=Convolution("conv2", kernels=256, size=5, pad=(1, 1), groups=2, bias=1),
    pool2=MaxPool("pool2", size=2),
    conv4=Convolution("conv4", kernels=384, size=3, groups=2, weight=Normal(0.03), bias=1),
    pool5=MaxPool("pool5", size=2),
)

SOURCE_2012_NO_NORM = SOURCE_2012.replacing(
    "source-2012-no-norm", "no normalization at all (run 148)", norm1=(), norm2=(), norm2b=()
)

CAFFE_NORM = NormAcrossMaps("norm1", k=1, alpha=1e-4 / 5, towers=1)  # across all maps, whatever their tower
LATER_DROPOUT = Dropout("drop6", rescaled=True)
CAFFE = replace(
    PAPER.replacing(
        "caffe",
        "bvlc_alexnet, the weights ten years of papers used",
        conv1=Convolution("conv1", kernels=96, size=11, stride=4),
        norm1=CAFFE_NORM,
        conv2=Convolution("conv2", kernels=256, size=5, pad=(2, 2), groups=2, bias=0.1),
        norm2=replace(CAFFE_NORM, name="norm2"),
        conv4=Convolution("conv4", kernels=384, size=3, pad=(1, 1), groups=2, bias=0.1),
        conv5=Convolution("conv5", kernels=256, size=3, pad=(1, 1), groups=2, bias=0.1),
        fc6=FullyConnected("fc6", 4096, weight=Normal(0.005), bias=0.1),
        drop6=LATER_DROPOUT,
        fc7=FullyConnected("fc7", 4096, weight=Normal(0.005), bias=0.1),
        drop7=replace(LATER_DROPOUT, name="drop7"),
    ),
    side=227,
)

CAFFENET = CAFFE.replacing(
    "caffenet",
    "bvlc_reference_caffenet: pooling before normalization, biases of 1",
    norm1=MaxPool("pool1"),
    pool1=CAFFE_NORM,
    conv2=Convolution("conv2", kernels=256, size=5, pad=(2, 2), groups=2, bias=1),
    norm2=MaxPool("pool2"),
    pool2=replace(CAFFE_NORM, name="norm2"),
    conv4=Convolution("conv4", kernels=384, size=3, pad=(1, 1), groups=2, bias=1),
    conv5=Convolution("conv5", kernels=256, size=3, pad=(1, 1), groups=2, bias=1),
    fc6=FullyConnected("fc6", 4096, weight=Normal(0.005), bias=1),
    fc7=FullyConnected("fc7", 4096, weight=Normal(0.005), bias=1),
)

# The network of "One weird trick" (2014) without its normalization, as torchvision has it. `stored_as` are its keys.
ONE_WEIRD_TRICK = Lineage(
    "one-weird-trick",
    "torchvision's network: state dict and logits interchangeable with it",
    side=224,
    towers=1,
    code="relu7",
    layers=(
        Convolution("conv1", 64, 11, stride=4, pad=(2, 2), weight=FanIn(), stored_as="features.0"),
        Rectifier("relu1"),
        MaxPool("pool1"),
        Convolution("conv2", 192, 5, pad=(2, 2), weight=FanIn(), stored_as="features.3"),
        Rectifier("relu2"),
        MaxPool("pool2"),
        Convolution("conv3", 384, 3, pad=(1, 1), weight=FanIn(), stored_as="features.6"),
        Rectifier("relu3"),
        Convolution("conv4", 256, 3, pad=(1, 1), weight=FanIn(), stored_as="features.8"),
        Rectifier("relu4"),
        Convolution("conv5", 256, 3, pad=(1, 1), weight=FanIn(), stored_as="features.10"),
        Rectifier("relu5"),
        MaxPool("pool5"),
        Dropout("drop5", rescaled=True),  # before the layers, not after
        FullyConnected("fc6", 4096, weight=FanIn(), stored_as="classifier.1"),
        Rectifier("relu6"),
        Dropout("drop6", rescaled=True),
        FullyConnected("fc7", 4096, weight=FanIn(), stored_as="classifier.4"),
        Rectifier("relu7"),
        FullyConnected("fc8", 1000, weight=FanIn(), stored_as="classifier.6"),
    ),
)

LARGE_BATCH = CAFFE.replacing(
    "large-batch",
    "AlexNet-BN of the minute-scale runs: batch normalization, no response normalization",
    conv1=Convolution("conv1", kernels=96, size=11, stride=4, bias=0.01),
    norm1=MaxPool("pool1"),
    pool1=BatchNorm("bn2"),
    conv2=Convolution("conv2", kernels=256, size=5, pad=(2, 2), groups=2, bias=0.01),
    norm2=MaxPool("pool2"),
    pool2=BatchNorm("bn3"),
    conv3=Convolution("conv3", kernels=384, size=3, pad=(1, 1), bias=0.01),
    relu3=(Rectifier("relu3"), BatchNorm("bn4")),
    conv4=Convolution("conv4", kernels=384, size=3, pad=(1, 1), groups=2, bias=0.01),
    relu4=(Rectifier("relu4"), BatchNorm("bn5")),
    conv5=Convolution("conv5", kernels=256, size=3, pad=(1, 1), groups=2, bias=0.01),
    fc8=FullyConnected("fc8", 1000, bias=0.01),  # biases above 0, for LARS moves a share of what there is
)


def _cifar(name: str, summary: str, side: int, layers: tuple[Layer, ...], code: str) -> Lineage:
    return Lineage(name, summary, side, towers=1, layers=layers, code=code)


LINEAGES: dict[str, Lineage] = {
    lineage.name: lineage
    for lineage in (
        PAPER,
        SOURCE_2012,
        SOURCE_2012_HALF,
        SOURCE_2012_CONV6,
        SOURCE_2012_NO_OVERLAP,
        SOURCE_2012_NO_NORM,
        CAFFE,
        CAFFENET,
        ONE_WEIRD_TRICK,
        LARGE_BATCH,
        _cifar("cifar-80sec", "CIFAR-10: 26 % error in 80 seconds of 2011", 32, CIFAR_80, "relu4"),
        _cifar("cifar-18pct", "CIFAR-10: 18 % error without any augmentation", 32, CIFAR_18, "pool3"),
        _cifar("cifar-13pct", "CIFAR-10: two convolutional and two locally connected layers", 24, CIFAR_13, "relu4"),
        _cifar("cifar-11pct", "CIFAR-10: the same with normalization, the paper's 11 %", 24, CIFAR_11, "relu4"),
    )
}


def lineage(name: str) -> Lineage:
    """The lineage of that name. Raises UsageError naming the nearest one."""
    if name not in LINEAGES:
        raise UsageError(f"{name}: no such lineage; {did_you_mean(name, LINEAGES)}")
    return LINEAGES[name]
