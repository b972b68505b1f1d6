"""The author's CIFAR-10 networks, as shipped with his program: three convolutional layers, or two and two local ones.

Sizes round up as everywhere in that program. `alpha` is his scale divided by the number of activities in the window.
"""

from alexnet.network.layers import (
    AveragePool,
    Convolution,
    FullyConnected,
    Layer,
    LocallyConnected,
    MaxPool,
    NormAcrossMaps,
    Normal,
    NormWithinMap,
    Rectifier,
)

PAD = (2, 2)

CIFAR_80: tuple[Layer, ...] = (
    Convolution("conv1", 32, 5, pad=PAD, weight=Normal(0.0001)),
    MaxPool("pool1"),
    Rectifier("relu1"),
    Convolution("conv2", 32, 5, pad=PAD),
    Rectifier("relu2"),
    AveragePool("pool2"),
    Convolution("conv3", 64, 5, pad=PAD),
    Rectifier("relu3"),
    AveragePool("pool3"),
    FullyConnected("fc64", 64, weight=Normal(0.1)),
    Rectifier("relu4"),
    FullyConnected("fc10", 10, weight=Normal(0.1)),
)

CIFAR_18: tuple[Layer, ...] = (
    Convolution("conv1", 32, 5, pad=PAD, weight=Normal(0.0001)),
    MaxPool("pool1"),
    Rectifier("relu1"),
    NormWithinMap("norm1", size=3, alpha=5e-5 / 9),
    Convolution("conv2", 32, 5, pad=PAD),
    Rectifier("relu2"),
    AveragePool("pool2"),
    NormWithinMap("norm2", size=3, alpha=5e-5 / 9),
    Convolution("conv3", 64, 5, pad=PAD),
    Rectifier("relu3"),
    AveragePool("pool3"),
    FullyConnected("fc10", 10),
)

CIFAR_13: tuple[Layer, ...] = (
    Convolution("conv1", 64, 5, pad=PAD, weight=Normal(0.0001)),
    Rectifier("relu1"),
    MaxPool("pool1"),
    Convolution("conv2", 64, 5, pad=PAD),
    Rectifier("relu2"),
    MaxPool("pool2"),
    LocallyConnected("local3", 32, 3, pad=(1, 1), weight=Normal(0.04)),
    Rectifier("relu3"),
    LocallyConnected("local4", 32, 3, pad=(1, 1), weight=Normal(0.04)),
    Rectifier("relu4"),
    FullyConnected("fc10", 10),
)

CIFAR_11: tuple[Layer, ...] = (
    Convolution("conv1", 64, 5, pad=PAD, weight=Normal(0.0001)),
    Rectifier("relu1"),
    MaxPool("pool1"),
    NormAcrossMaps("norm1", n=9, k=1, alpha=0.001 / 9, towers=1),
    Convolution("conv2", 64, 5, pad=PAD),
    Rectifier("relu2"),
    NormAcrossMaps("norm2", n=9, k=1, alpha=0.001 / 9, towers=1),
    MaxPool("pool2"),
    LocallyConnected("local3", 64, 3, pad=(1, 1), weight=Normal(0.04)),
    Rectifier("relu3"),
    LocallyConnected("local4", 32, 3, pad=(1, 1), weight=Normal(0.04)),
    Rectifier("relu4"),
    FullyConnected("fc10", 10),
)
