"""The network as a whole: plain PyTorch statements of each lineage, two explicit towers, activities by name."""

import doctest
import weakref
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from stated import cifar_stated, local_norm, patch_norm, pool, stated
from torch import Tensor, nn
from torch.nn import functional as F

from alexnet.network import alexnet
from alexnet.network.alexnet import AlexNet
from alexnet.network.layers import FullyConnected, Rectifier
from alexnet.network.lineages import LINEAGES, lineage
from alexnet.runtime.errors import UsageError

IMAGENET = [name for name in LINEAGES if not name.startswith("cifar")]


def small(name: str) -> AlexNet:
    """The lineage on small images, with few fully connected units, in float64, every weight and bias counting.

    A side of 68 leaves conv1's last window hanging over the edge as 224 does; 67 fits exactly as 227 does. Pooling's
    windows hang over too, which they do not at full size.
    """
    lineage = LINEAGES[name]
    if name in IMAGENET:
        layers = tuple(
            replace(layer, outputs=min(layer.outputs, 48)) if isinstance(layer, FullyConnected) else layer
            for layer in lineage.layers
        )
        lineage = replace(lineage, side=67 if lineage.side == 227 else 68, layers=layers)
    network = AlexNet(lineage).double().eval()
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        fan_in = parameter[0].numel() if parameter.dim() > 1 else 4
        nn.init.normal_(parameter, std=fan_in**-0.5, generator=generator)
    for buffer in network.buffers():  # as after some learning
        buffer.uniform_(0.5, 2, generator=generator)
    return network


def images_for(network: AlexNet, count: int = 2) -> Tensor:
    """As mean-subtracted pixels are: up to about a hundred, so that normalization divides by something."""
    generator = torch.Generator().manual_seed(2)
    dtype = next(network.parameters()).dtype
    return torch.randn(count, *network.lineage.input, generator=generator, dtype=torch.float64).to(dtype) * 60


@pytest.mark.parametrize("name", [name for name in IMAGENET if name != "one-weird-trick"])
def test_the_logits_are_those_of_a_plain_statement_in_pytorch(name):
    network = small(name)
    x = images_for(network)
    torch.testing.assert_close(network(x), stated(name, x, network.state_dict()), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["cifar-80sec", "cifar-18pct"])
def test_the_cifar_networks_are_those_of_a_plain_statement_in_pytorch(name):
    network = small(name)
    x = images_for(network)
    torch.testing.assert_close(network(x), cifar_stated(name, x, network.state_dict()), rtol=1e-10, atol=1e-10)


def test_the_grouped_network_equals_two_explicit_towers():
    network = small("source-2012")
    x, whole = images_for(network), network.state_dict()
    halves = [{name: tensor.chunk(2)[tower] for name, tensor in whole.items()} for tower in (0, 1)]

    def conv(tower: int, name: str, x: Tensor, pad: int, stride: int = 1) -> Tensor:
        return F.conv2d(x, halves[tower][f"{name}.weight"], halves[tower][f"{name}.bias"], stride, pad)

    towers = []
    for tower in (0, 1):  # each sees the whole image, and after that only its own maps
        y = local_norm(conv(tower, "conv1", F.pad(x, (0, 3, 0, 3)), 0, stride=4), 5, 1e-4, 2)
        y = local_norm(F.relu(conv(tower, "conv2", F.relu(pool(y)), 2)), 5, 1e-4, 2)
        towers.append(pool(patch_norm(y, 5, 0.001)))
    both = torch.cat(towers, 1)  # conv3 reads both towers
    towers = [F.relu(conv(tower, "conv3", both, 1)) for tower in (0, 1)]
    towers = [F.relu(conv(tower, "conv4", towers[tower], 1)) for tower in (0, 1)]
    both = torch.cat([F.relu(pool(conv(tower, "conv5", towers[tower], 1))) for tower in (0, 1)], 1).flatten(1)
    for layer in ("fc6", "fc7"):  # both halves of the units read both halves below
        units = [F.relu(F.linear(both, half[f"{layer}.weight"], half[f"{layer}.bias"])) for half in halves]
        both = 0.5 * torch.cat(units, 1)
    logits = F.linear(both, whole["fc8.weight"], whole["fc8.bias"])
    torch.testing.assert_close(network(x), logits, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", LINEAGES)
def test_every_activity_follows_from_the_one_before_it(name):
    network = small(name)
    x = images_for(network)
    activities = network.activations(x)
    assert list(activities) == [layer.name for layer in network.lineage.layers]
    below = x
    for step, place in network.steps:  # an operation that worked in place would have spoilt its input
        torch.testing.assert_close(activities[step], network.get_submodule(place)(below), rtol=0, atol=0)
        below = activities[step]
    torch.testing.assert_close(network(x), below, rtol=0, atol=0)


@pytest.mark.parametrize("name", LINEAGES)
def test_an_activity_before_its_rectifier_keeps_its_negative_values(name):
    network = small(name)
    layers = network.lineage.layers
    activities = network.activations(images_for(network))
    for before, after in pairwise(layers):
        if isinstance(after, Rectifier):
            assert (activities[before.name] < 0).any(), before.name
            assert torch.equal(activities[after.name], activities[before.name].clamp(min=0)), after.name


def test_conv1_is_recomputed_from_the_image_and_its_own_kernels():
    network = small("paper")
    x, w = images_for(network), network.state_dict()
    given = x.clone()
    found = network.activations(x, "relu1", "conv1")
    assert list(found) == ["conv1", "relu1"]  # in the network's order, and no others
    conv1 = F.conv2d(F.pad(x, (0, 3, 0, 3)), w["conv1.weight"], w["conv1.bias"], stride=4)
    torch.testing.assert_close(found["conv1"], conv1)
    torch.testing.assert_close(found["relu1"], conv1.clamp(min=0))
    assert torch.equal(x, given)


def test_an_unknown_layer_is_refused_with_the_nearest_one():
    network = AlexNet("cifar-18pct")
    with pytest.raises(UsageError, match=r"^poool1: no such layer in cifar-18pct; did you mean pool1\?$"):
        network.activations(torch.zeros(1, 3, 32, 32), "conv1", "poool1")


def test_the_name_of_a_lineage_is_checked():
    with pytest.raises(UsageError, match=r"^papper: no such lineage; did you mean paper\?$"):
        AlexNet("papper")
    with pytest.raises(UsageError, match=r"^classes: 0; there is at least 1$"):
        AlexNet("cifar-18pct", classes=0)


@pytest.mark.parametrize("name", LINEAGES)
def test_every_parameter_receives_a_gradient(name):
    network = small(name)
    network(images_for(network)).square().sum().backward()
    for parameter_name, parameter in network.named_parameters():
        assert parameter.grad.isfinite().all(), parameter_name
        assert (parameter.grad != 0).any(), parameter_name


@pytest.mark.parametrize("name", ["source-2012", "cifar-18pct", "cifar-13pct"])
def test_channels_last_computes_the_same(name):
    network = small(name)
    x = images_for(network)
    before = network(x)
    after = network.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(after, before, rtol=1e-10, atol=1e-10)


def test_the_paper_at_full_size_gives_a_thousand_logits():
    network = AlexNet("paper").eval()
    with torch.no_grad():
        activities = network.activations(images_for(network, 1))
    assert sum(parameter.numel() for parameter in network.parameters()) == 60_965_224
    assert {name: tuple(activity.shape[1:]) for name, activity in activities.items() if "pool" in name} == {
        "pool1": (96, 27, 27),
        "pool2": (256, 13, 13),
        "pool5": (256, 6, 6),
    }
    assert activities["fc8"].shape == (1, 1000)


def test_the_one_weird_trick_is_interchangeable_with_torchvisions_network():
    stock = nn.Module()  # its layers at its places, written out
    with torch.device("meta"):  # without values: ours are loaded
        stock.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
        )  # fmt: skip
        stock.avgpool = nn.AdaptiveAvgPool2d(6)
        stock.classifier = nn.Sequential(
            nn.Dropout(), nn.Linear(9216, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(),
            nn.Linear(4096, 1000),
        )  # fmt: skip
    stock.eval()
    network = AlexNet("one-weird-trick").eval()
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    assert shapes == {
        "features.0.weight": (64, 3, 11, 11), "features.0.bias": (64,),
        "features.3.weight": (192, 64, 5, 5), "features.3.bias": (192,),
        "features.6.weight": (384, 192, 3, 3), "features.6.bias": (384,),
        "features.8.weight": (256, 384, 3, 3), "features.8.bias": (256,),
        "features.10.weight": (256, 256, 3, 3), "features.10.bias": (256,),
        "classifier.1.weight": (4096, 9216), "classifier.1.bias": (4096,),
        "classifier.4.weight": (4096, 4096), "classifier.4.bias": (4096,),
        "classifier.6.weight": (1000, 4096), "classifier.6.bias": (1000,),
    }  # fmt: skip
    stock.load_state_dict(network.state_dict(), assign=True)
    network.load_state_dict(stock.state_dict())
    x = images_for(network) / 60
    with torch.no_grad():
        logits = stock.classifier(stock.avgpool(stock.features(x)).flatten(1))
        torch.testing.assert_close(network(x), logits, rtol=1e-5, atol=1e-6)
    assert logits.std() > 1e-3


def test_another_number_of_classes_changes_the_logits_only():
    network, known = AlexNet("cifar-18pct", classes=7), AlexNet("cifar-18pct")
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 7)
    assert network.lineage.classes == 7
    ours, theirs = network.state_dict(), known.state_dict()
    assert {name for name in ours if ours[name].shape != theirs[name].shape} == {"fc10.weight", "fc10.bias"}


def test_a_lineage_is_taken_as_it_is():
    with_few = LINEAGES["cifar-18pct"].with_classes(3)
    assert AlexNet(with_few).lineage is with_few


def test_the_docstrings_example_holds():
    results = doctest.testmod(alexnet)
    assert (results.failed, results.attempted) == (0, 2)


def test_images_that_are_computed_when_they_are_wanted_are_let_go_behind_the_first_layer():
    network, made, there = small("paper"), [], []

    def images() -> Tensor:
        whole = torch.ones(2, 3, 68, 68, dtype=torch.float64)
        made.append(weakref.ref(whole))
        return whole

    network.get_submodule("fc6").register_forward_pre_hook(lambda *_: there.append(made[-1]() is not None))
    with torch.no_grad():
        assert torch.equal(network.eval()(images), network(images()))
    assert there == [False, True], "whoever calls a network with images holds them until it returns"


def test_activities_are_computed_as_far_as_they_are_asked_for():
    """Also of images of another size: what is convolutional takes them."""
    network, reached = AlexNet("cifar-18pct"), []
    network.conv2.register_forward_hook(lambda *_: reached.append("conv2"))
    assert network.activations(torch.zeros(1, 3, 48, 40), "pool1")["pool1"].shape == (1, 32, 24, 20) and not reached
    network.activations(torch.zeros(1, 3, 32, 32), "conv1", "fc10")
    assert reached == ["conv2"]


@pytest.mark.parametrize("shape", [(3, 32, 32), (2, 3, 33, 32), (2, 1, 32, 32), (2, 3, 31, 31)])
def test_images_of_another_size_are_refused(shape):
    said = " x ".join(map(str, shape))
    with pytest.raises(UsageError, match=f"^images: {said}; cifar-18pct sees N x 3 x 32 x 32$"):
        AlexNet("cifar-18pct")(torch.zeros(shape))


def test_two_layers_of_one_name_are_refused():
    known = lineage("cifar-18pct")
    with pytest.raises(UsageError, match="two layers are called relu2"):
        AlexNet(replace(known, layers=(*known.layers[:6], known.layers[5], *known.layers[6:])))


def test_printed_it_shows_each_layers_numbers():
    shown = str(AlexNet("cifar-18pct"))
    assert "(conv1): Convolved(Convolution(" in shown and "(fc10): Connected(FullyConnected(" in shown
