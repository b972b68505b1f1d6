"""Three hundred steps of learning with the fast kernels and with PyTorch's operations one by one stay together.

In float64 to the last digits. In float32 a rounding now and then lets another of two nearly equal activities win a
window, and from there the two go slightly different ways, as two stock programs with other sums would. In bf16 they do
so from the first steps on: there the fast path may be twice as far from float32's losses as the plain one, at most.
"""

from unittest.mock import patch

import pytest
import torch
from torch.nn import functional as F

from alexnet.kernels import choice
from alexnet.network.alexnet import AlexNet
from alexnet.network.layers import Convolution, Dropout, FullyConnected, MaxPool, NormAcrossMaps, Normal, Rectifier
from alexnet.network.lineages import Lineage
from alexnet.network.operations import Here
from alexnet.training.recipe import Learning
from alexnet.training.update import Update

STEPS, CLASSES = 300, 5
WIDE = Normal(0.05)
SMALL = (  # the paper's order of things, 2 towers, and dropout
    Convolution("conv1", 16, 5, weight=WIDE), Rectifier("relu1"), NormAcrossMaps("norm1"), MaxPool("pool1"),
    Convolution("conv2", 16, 3, groups=2, weight=WIDE), Rectifier("relu2"), NormAcrossMaps("norm2"),
    MaxPool("pool2"), FullyConnected("fc3", 32, weight=WIDE), Rectifier("relu3"), Dropout("drop3"),
    FullyConnected("fc4", CLASSES, weight=WIDE),
)  # fmt: skip


def losses(dtype: torch.dtype, products: torch.dtype = torch.float32, seed: int = 1) -> list[float]:
    """Of a classification that can be learned: which of five patterns a noisy picture holds."""
    network = AlexNet(Lineage("small", "", side=24, towers=2, layers=SMALL, code="fc3"), seed=seed).to(dtype).train()
    network = network.to(memory_format=torch.channels_last)
    update = Update(network, Learning(), products)
    generator = torch.Generator().manual_seed(2)
    patterns = torch.randn(CLASSES, 3, 24, 24, generator=generator, dtype=torch.float64) * 20
    found = []
    for step in range(STEPS):
        labels = torch.randint(CLASSES, (16,), generator=generator)
        noise = torch.randn(16, 3, 24, 24, generator=generator, dtype=torch.float64) * 20
        with torch.autocast("cpu", products, enabled=products == torch.bfloat16):
            logits = network((patterns[labels] + noise).to(dtype), Here(network.masks(0, step)))
        loss = F.cross_entropy(logits.to(dtype), labels)
        network.zero_grad(set_to_none=True)
        loss.backward()
        update.step(lambda layer, bias: 0.002)
        found.append(loss.item())
    return found


def plain(*how) -> list[float]:
    """The same by PyTorch's operations one by one."""
    with patch.object(choice, "AVAILABLE", False), patch.object(choice, "TRITON", False):
        return losses(*how)


def apart(one: list[float], other: list[float]) -> list[float]:
    """Step by step."""
    return [abs(a - b) for a, b in zip(one, other, strict=True)]


needs_numba = pytest.mark.skipif(not choice.AVAILABLE, reason="Numba is not installed or switched off")


@needs_numba
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-9), (torch.float32, 0.1)])
def test_the_fast_and_the_plain_path_stay_together(dtype, bound):
    fast, witness = losses(dtype), plain(dtype)
    assert sum(witness[-20:]) < sum(witness[:20]) / 2  # it learns
    most, on_average = max(apart(fast, witness)), abs(sum(fast) - sum(witness)) / STEPS
    print(f"{dtype}: at most {most:.1e} apart, {on_average:.1e} on average")
    assert 0 < most < bound and on_average < bound / 50


@needs_numba
def test_in_bf16_the_fast_path_is_as_near_to_float32_as_the_plain_one():
    ours = theirs = 0.0
    for seed in range(1, 4):  # one alone may be three times as lucky as the next
        exact = plain(torch.float32, torch.float32, seed)
        fast, usual = (path(torch.float32, torch.bfloat16, seed) for path in (losses, plain))
        assert sum(usual[-20:]) < sum(usual[:20]) / 2  # it learns
        assert max(apart(fast, usual)) < 0.2 and max(apart(fast, exact)) < 0.2
        ours, theirs = ours + sum(apart(fast, exact)), theirs + sum(apart(usual, exact))
    print(f"from float32, on average: fast {ours / 3 / STEPS:.4f}, plain {theirs / 3 / STEPS:.4f}")
    assert 0 < ours < 2 * theirs
