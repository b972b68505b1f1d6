"""What views share, done once: against the network on every view by itself, and where nothing can be shared."""

import numpy as np
import pytest
import torch

from alexnet.data.augment import Images
from alexnet.data.statistics import Statistics
from alexnet.evaluation import views as views_module
from alexnet.evaluation.overlapping import front, logits_of_views
from alexnet.evaluation.views import probabilities
from alexnet.network.alexnet import AlexNet
from alexnet.network.layers import Convolution, FullyConnected, MaxPool, NormAcrossMaps, Rectifier
from alexnet.network.lineages import Lineage
from alexnet.runtime.devices import Machine

CPU = Machine(torch.device("cpu"), torch.float32, "for tests")
FIVE = [(0, 0), (0, 32), (16, 16), (32, 0), (32, 32)]
HEAVY = NormAcrossMaps("norm1", alpha=0.3)
ORDERS = {
    "paper": (Rectifier("relu1"), HEAVY, MaxPool("pool1")),
    "caffenet": (Rectifier("relu1"), MaxPool("pool1"), HEAVY),
    "2012": (HEAVY, MaxPool("pool1"), Rectifier("relu1")),
    "no overlap": (Rectifier("relu1"), HEAVY, MaxPool("pool1", size=2)),
}


def tiny(order, pad=(0, 3)) -> AlexNet:
    """The paper's first layers with 8 kernels, weights large enough for every one to count."""
    layers = (
        Convolution("conv1", 8, 11, stride=4, pad=pad), *order,
        Convolution("conv2", 6, 5, pad=(2, 2), groups=2), Rectifier("relu2"), MaxPool("pool2"),
        FullyConnected("fc3", 7),
    )  # fmt: skip
    network = AlexNet(Lineage("tiny", "", side=224, towers=2, layers=layers, code="relu2"), seed=1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(4).add_(0.01)
    return network.double().eval()


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS.keys())
@pytest.mark.parametrize("pad", [(0, 3), (0, 0), (0, 2)])
def test_every_view_has_the_logits_that_it_has_by_itself(order, pad):
    network = tiny(order, pad)
    shared = front(network, 224, FIVE)
    assert shared is not None
    whole = torch.randn(2, 3, 256, 256, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        together = logits_of_views(network, shared, whole, 224, FIVE)
        for (top, left), logits in zip(FIVE, together, strict=True):
            alone = network(whole[:, :, top : top + 224, left : left + 224])
            torch.testing.assert_close(logits, alone, rtol=1e-12, atol=1e-12)
    assert (together[0] - together[4]).abs().max() > 1e-3, "views differ"


@pytest.mark.parametrize("mean", ["at-patch", "centre"])
def test_ten_views_have_the_same_probabilities_shared_or_not(monkeypatch, mean):
    network = tiny(ORDERS["paper"]).float()
    with torch.no_grad():
        for parameter in network.fc3.parameters():
            parameter.mul_(0.5)
    random = np.random.default_rng(3)
    squares = random.integers(0, 256, (3, 256, 256, 3), dtype=np.uint8)
    mean_image = random.uniform(90, 140, (256, 256, 3)).astype(np.float32)
    told = (squares, Images(mean=mean), Statistics(mean_image, np.ones(3), np.eye(3)), CPU, 10)
    used = []
    monkeypatch.setattr(views_module, "logits_of_views", lambda *all: used.append(1) or logits_of_views(*all))
    shared = probabilities(network, *told)
    assert len(used) == (2 if mean == "at-patch" else 0)
    monkeypatch.setattr(views_module, "front", lambda *_: None)
    alone = probabilities(network, *told)
    torch.testing.assert_close(shared, alone, rtol=1e-5, atol=1e-6)
    assert shared.std(0).max() > 1e-3, "pictures differ"


def test_what_cannot_be_shared_is_not():
    assert front(tiny(ORDERS["paper"], (2, 2)), 224, FIVE) is None, "zeros before the first pixel too"
    assert front(tiny(ORDERS["paper"]), 224, [(0, 0), (14, 14)]) is None, "corners between two strides"
    assert front(tiny((Rectifier("relu1"),)), 224, FIVE) is None, "no pooling"
    assert front(AlexNet("cifar-18pct"), 24, FIVE) is None
    assert front(AlexNet("paper"), 224, FIVE) == front(AlexNet("source-2012"), 224, FIVE)
