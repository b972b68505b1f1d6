"""The network as a GPU computes it: towers apart, biases added by what follows. By Triton's interpreter on a processor,
where there is no GPU; against the layers one by one in float64."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from alexnet.kernels import after_convolution, convolution, dropout, fully_connected, within_map
from alexnet.network import alexnet as network_module
from alexnet.network.alexnet import AlexNet
from alexnet.network.lineages import lineage
from alexnet.network.operations import Convolved, Here
from company import small

pytest.importorskip("triton", reason="Triton is there on Linux only")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """Float32 is float32: cuDNN would take fewer digits."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield _as_on_a_gpu(monkeypatch)


def _as_on_a_gpu(monkeypatch):
    if DEVICE == "cpu":
        for module in (after_convolution, convolution, network_module, within_map, dropout, fully_connected):
            monkeypatch.setattr(module, "way", lambda x: "plain" if x.dtype == torch.float64 else "triton")


def little(name):
    """On small images: the interpreter goes through all of a launch's programs in turn."""
    if name.startswith("cifar"):
        return replace(lineage(name), side=16)
    return replace(small(name), side=67)


def gradients(network, images, labels, half=False):
    network.zero_grad()
    with torch.autocast(images.device.type, torch.bfloat16, enabled=half):
        logits = network(images, Here(network.masks(0, 0).to(images.device)))
    F.cross_entropy(logits.to(images.dtype), labels.to(images.device)).backward()
    return [logits.detach(), *(each.grad for each in network.parameters())]


@pytest.mark.parametrize("name", ["paper", "source-2012", "caffenet", "cifar-11pct", "cifar-18pct"])
def test_logits_and_gradients_are_those_of_the_layers_one_by_one(as_on_a_gpu, name):
    network = AlexNet(little(name))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.uniform_(-0.1, 0.1, generator=torch.Generator().manual_seed(parameter.numel()))
    side, classes = network.lineage.side, network.lineage.classes
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0)) * 10
    labels = torch.arange(2) % classes
    exact = gradients(network.double(), images.double(), labels)
    ours = gradients(network.float().to(DEVICE), images.to(DEVICE), labels)
    for one, other in zip(ours, exact, strict=True):
        assert (one.double().cpu() - other).norm() <= 2e-5 * other.norm()
    rounded = gradients(network, images.to(DEVICE), labels, half=True)
    for one, other in zip(rounded, exact, strict=True):
        assert (one.double().cpu() - other).norm() <= 0.25 * other.norm()


def test_what_another_class_computes_is_asked(as_on_a_gpu):
    """Though it is one of ours."""

    class Silent(Convolved):
        def forward(self, x):
            return super().forward(x) * 0

    network = AlexNet(little("paper")).to(DEVICE).eval()
    network.get_submodule(dict(network.steps)["conv2"]).__class__ = Silent
    side = network.lineage.side
    assert not network.stage(0, 4, torch.randn(2, 3, side, side, device=DEVICE)).any()


def test_what_is_hooked_is_computed_by_itself(as_on_a_gpu):
    network, seen = AlexNet(little("paper")).to(DEVICE).eval(), []
    images = torch.randn(2, 3, network.lineage.side, network.lineage.side, device=DEVICE)
    alone = network(images)
    convolved = network.get_submodule(dict(network.steps)["conv2"])
    with torch.no_grad():
        convolved.bias.normal_()
    changed = network(images)
    handle = convolved.register_forward_hook(lambda module, given, result: seen.append(result))
    torch.testing.assert_close(network(images), changed, rtol=1e-4, atol=1e-5)
    handle.remove()
    assert len(seen) == 1 and not torch.allclose(alone, changed)
    biased = convolved(network.activations(images, "pool1")["pool1"])
    torch.testing.assert_close(seen[0], biased, rtol=1e-4, atol=1e-5)
