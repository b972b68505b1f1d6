"""Layers that are computed together otherwise, and that somebody watches or has replaced."""

import warnings

import pytest
import torch
from test_alexnet import images_for, small
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.modules.module import register_module_forward_hook

from alexnet.network.alexnet import AlexNet
from alexnet.network.operations import Here
from gradients import assert_near, numbers


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
def test_a_normalizing_networks_gradients_are_differentiated_again(which):
    """By PyTorch's own operations throughout: what torch.func sees."""
    network = AlexNet(which, classes=3).double().eval()
    side = network.lineage.side
    images, direction = (numbers(2, 3, side, side, seed=seed) * 60 for seed in (4, 5))
    parameters = {name: each.detach() for name, each in network.named_parameters()}

    def loss(images, parameters):
        return torch.func.functional_call(network, parameters, (images,)).square().sum()

    def along(images):
        return (torch.func.grad(loss)(images, parameters) * direction).sum()

    expected = torch.func.grad(along)(images)
    images.requires_grad_()
    (gradient,) = torch.autograd.grad(network(images).square().sum(), images, create_graph=True)
    (own,) = torch.autograd.grad((gradient * direction).sum(), images)
    assert expected.norm() > 0
    assert_near([own], [expected], 1e-10)
    _, product = torch.autograd.functional.hvp(lambda x: network(x).square().sum(), images.detach(), direction)
    assert_near([product], [expected], 1e-10)


def test_gradients_of_each_image_and_forward_derivatives():
    network = AlexNet("cifar-18pct", classes=3).double().eval()
    parameters = {name: each.detach() for name, each in network.named_parameters()}
    images, direction = numbers(3, 3, 32, 32) * 60, numbers(3, 3, 32, 32, seed=1)

    def loss(parameters, image):
        return torch.func.functional_call(network, parameters, (image[None],)).square().sum()

    found = torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, images)
    network(images).square().sum().backward()
    assert_near([each.sum(0) for each in found.values()], [each.grad for each in network.parameters()], 1e-10)
    _, slope = torch.func.jvp(network, (images,), (direction,))
    steps = [network(images + sign * 1e-4 * direction) for sign in (1, -1)]
    assert_near([slope], [(steps[0] - steps[1]) / 2e-4], 1e-6)


def test_many_gradients_at_once():
    network, images = AlexNet("cifar-11pct", classes=3).double().train(), numbers(2, 3, 24, 24) * 60
    y = network(images.requires_grad_(), Here(network.masks(0, 0)))[0]
    (found,) = torch.autograd.grad(y, images, torch.eye(3).double(), retain_graph=True, is_grads_batched=True)
    for one, own in zip(y, found, strict=True):
        assert_near([own], torch.autograd.grad(one, images, retain_graph=True), 1e-10)


def test_what_is_traced_is_pytorchs_operations():
    """Not memory that a kernel fills, which nobody sees. And nothing of it stays."""
    network, images = AlexNet("cifar-11pct", classes=3).eval(), numbers(2, 3, 24, 24).float() * 60
    expected = network(images)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(network, images)
    torch.testing.assert_close(traced(images / 2), network(images / 2))
    for early in (False, True):
        graph = make_fx(network, pre_dispatch=early)(images)
        torch.testing.assert_close(graph(images / 2), network(images / 2))
    torch.export.export(network, (images,))
    again = torch.func.grad(lambda x: network(x).sum())(images)
    assert type(again) is torch.Tensor
    assert torch.equal(network(images), expected)


def test_counting_on_the_meta_device_needs_no_numbers():
    with torch.device("meta"):
        assert AlexNet("cifar-11pct")(torch.zeros(2, 3, 24, 24)).shape == (2, 10)


def test_layers_that_judge_while_others_learn_still_do_after_activities_were_asked_for():
    network = AlexNet("cifar-11pct").train()
    network.norm1.eval()
    network.activations(torch.zeros(1, 3, 24, 24), "conv1")
    assert network.training and network.conv1.training and not network.norm1.training


def test_saved_activities_may_come_back_in_another_layout():
    network, images = AlexNet("cifar-11pct", classes=3).train(), numbers(4, 3, 24, 24).float() * 60
    with torch.autograd.graph.saved_tensors_hooks(torch.Tensor.contiguous, lambda x: x):
        network(images, Here(network.masks(0, 0))).sum().backward()
    own = [each.grad for each in network.parameters()]
    network.zero_grad()
    network(images, Here(network.masks(0, 0))).sum().backward()
    assert_near(own, [each.grad for each in network.parameters()], 1e-5)


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
