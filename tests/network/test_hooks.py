"""Layers that are computed together otherwise, and that somebody watches or has replaced."""

import pytest
import torch
from test_alexnet import images_for, small
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from alexnet.network.alexnet import AlexNet
from alexnet.network.operations import Here


def test_a_hooked_or_replaced_layer_is_computed_by_itself():
    """Forward hooks see what passes; backward hooks (Grad-CAM's) see gradients; an ablated layer is really gone."""
    network, seen = small("paper"), []
    images = images_for(network)
    before = network(images)
    for register in ("register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook"):
        handle = getattr(network.norm1, register)(lambda *_, name=register: seen.append(name))
        after = network(images.clone().requires_grad_())
        after.sum().backward()
        handle.remove()
        torch.testing.assert_close(after, before)
    assert seen == ["register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook"]
    network.norm1 = nn.Identity()
    assert not torch.allclose(network(images), before)
    expected = network.activations(images)["fc8"]
    torch.testing.assert_close(network(images), expected)


def test_a_replaced_forward_and_a_global_hook_are_obeyed():
    network, seen = small("paper"), set()
    images = images_for(network)
    with register_module_forward_hook(lambda module, given, result: seen.add(module)):
        before = network(images)
    assert {network.relu1, network.norm1, network.pool1} <= seen
    network.norm1.forward = lambda x: x
    torch.testing.assert_close(network(images), network.activations(images)["fc8"])
    assert not torch.allclose(network(images), before)


@pytest.mark.filterwarnings("default")  # what PyTorch warns itself of
def test_pytorch_compiles_and_exports_the_network():
    network = AlexNet("cifar-18pct").eval()
    images = images_for(network)
    expected = network(images)
    torch.testing.assert_close(torch.compile(network, backend="eager", fullgraph=True)(images), expected)
    any_number = ({0: torch.export.Dim("N", max=64)},)
    exported = torch.export.export(network, (images,), dynamic_shapes=any_number).module()
    torch.testing.assert_close(exported(images), expected)
    torch.testing.assert_close(exported(images[:1]), expected[:1])
    trained = AlexNet("one-weird-trick", classes=3).train()
    here = Here(trained.masks(0, 0))
    assert torch.compile(trained, backend="eager", fullgraph=True)(torch.randn(2, 3, 224, 224), here).shape == (2, 3)


def test_functions_of_the_network_are_differentiated():
    """torch.func sees PyTorch's own operations, with bf16 products too."""
    network = AlexNet("one-weird-trick", classes=3).eval()
    weights = dict(network.named_parameters())
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(4))

    def loss(weights):
        with torch.autocast("cpu", torch.bfloat16):
            return torch.func.functional_call(network, weights, (images,)).float().square().sum()

    gradients = torch.func.grad(loss)(weights)
    loss(weights).backward()
    for name, parameter in weights.items():
        # Of two activities that are nearly equal another may win a pooling where a product is rounded otherwise.
        assert (gradients[name] - parameter.grad).norm() <= 0.2 * parameter.grad.norm(), name


@pytest.mark.parametrize("which", ["cifar-18pct", "cifar-11pct"])
def test_a_normalizing_networks_functions_are_differentiated(which):
    network = AlexNet(which).double().eval()
    weights = {name: each.detach() for name, each in network.named_parameters()}
    side = network.lineage.side
    images = torch.randn(2, 3, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(4)) * 60
    gradients = torch.func.grad(lambda weights: torch.func.functional_call(network, weights, (images,)).square().sum())(
        weights
    )
    network(images).square().sum().backward()
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-9, atol=1e-12)
