"""What a program around the network sets for its own new tensors, their kind and device, is not for the network's."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from alexnet.kernels.dropout import dropped
from alexnet.network.alexnet import AlexNet
from alexnet.network.layers import FullyConnected
from alexnet.network.lineages import lineage
from alexnet.network.operations import Here
from company import small

BATCH = 8  # images: enough for minimal filtering


@contextmanager
def kind(of_new_ones: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(of_new_ones)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@pytest.fixture(scope="module")
def network() -> AlexNet:
    """The paper's convolutions in full size, which all kernels fit; an eighth of its units."""
    paper = lineage("paper")
    layers = [
        replace(layer, outputs=layer.outputs // 8) if isinstance(layer, FullyConnected) else layer
        for layer in paper.layers
    ]
    return AlexNet(replace(paper, layers=tuple(layers)), seed=3)


def learnt(network: AlexNet, x: Tensor, products: torch.dtype, around: AbstractContextManager[object]) -> list[Tensor]:
    """Logits and gradients of a step under those settings."""
    network.zero_grad()
    labels, here = torch.arange(len(x)), Here(network.masks(1, 0))
    with around, torch.autocast("cpu", dtype=torch.bfloat16, enabled=products == torch.bfloat16):
        logits = network.train()(x, here)
        F.cross_entropy(logits.float(), labels).backward()
    return [logits.detach(), *[parameter.grad.clone() for parameter in network.parameters()]]


@pytest.mark.parametrize("products", [torch.float32, torch.bfloat16])
def test_a_step_is_the_same_to_the_bit_under_other_settings_of_the_program_around_it(network, products):
    x = torch.randn(BATCH, *network.lineage.input, generator=torch.Generator().manual_seed(5)) * 60
    expected = learnt(network, x, products, nullcontext())
    for around in (kind(torch.float64), kind(torch.bfloat16), torch.device("meta")):
        assert all(map(torch.equal, learnt(network, x, products, around), expected)), around


def test_initial_values_are_drawn_on_a_processor_wherever_new_tensors_go():
    lineage = small("paper")
    expected = AlexNet(lineage, seed=3).state_dict()
    with kind(torch.float64):
        found = AlexNet(lineage, seed=3).state_dict()
    assert all(torch.equal(found[name].float(), expected[name]) for name in expected)
    with torch.device("meta"):
        assert all(tensor.is_meta for tensor in AlexNet(lineage, seed=3).state_dict().values())


def test_dropout_of_no_images_has_none():
    for device in ("cpu", "meta"):
        nothing = dropped(torch.empty(0, 3, 4, device=device), keep=0.5, scale=2.0, seed=torch.tensor(1))
        assert nothing.shape == (0, 3, 4)
