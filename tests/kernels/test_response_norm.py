"""Section 3.3: normalization against slow loops, in value and in gradient, and against the 2012 program's numbers."""

from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from alexnet.kernels.response_norm import across_maps, within_map
from alexnet.network.layers import NormAcrossMaps, NormWithinMap
from alexnet.network.lineages import LINEAGES

# What a layer is given in each lineage: activities of mean-subtracted pixels reach hundreds.
ACROSS = sorted(
    {
        (layer.towers, layer.n, layer.k, layer.alpha, layer.beta)
        for lineage in LINEAGES.values()
        for layer in lineage.layers
        if isinstance(layer, NormAcrossMaps)
    }
)
WITHIN = sorted(
    {
        (layer.size, layer.k, layer.alpha, layer.beta)
        for lineage in LINEAGES.values()
        for layer in lineage.layers
        if isinstance(layer, NormWithinMap)
    }
)


def activities(*shape: int, size: float = 100, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * size


def across_maps_slowly(x: Tensor, towers: int, n: int, k: float, alpha: float, beta: float) -> Tensor:
    """The formula of section 3.3, one map at a time; the window starts floor(n / 2) below and stops at the edges."""
    given, result = x.numpy(), np.empty(x.shape)
    share = given.shape[1] // towers
    for image, tower, i in product(range(len(given)), range(towers), range(share)):
        maps = given[image, tower * share : (tower + 1) * share]
        energy = sum(maps[j] ** 2 for j in range(i - n // 2, i - n // 2 + n) if 0 <= j < share)
        result[image, tower * share + i] = maps[i] / (k + alpha * energy) ** beta
    return torch.from_numpy(result)


def within_map_slowly(x: Tensor, size: int, k: float, alpha: float, beta: float) -> Tensor:
    """One activity at a time, the patch around it clipped to the map."""
    given, result, reach = x.numpy(), np.empty(x.shape), size // 2
    images, maps, height, width = given.shape
    for image, one, row, column in product(range(images), range(maps), range(height), range(width)):
        rows = slice(max(0, row - reach), row + reach + 1)
        columns = slice(max(0, column - reach), column + reach + 1)
        energy = (given[image, one, rows, columns] ** 2).sum()
        result[image, one, row, column] = given[image, one, row, column] / (k + alpha * energy) ** beta
    return torch.from_numpy(result)


def in_many_layouts(x: Tensor) -> dict[str, Tensor]:
    """The same values, lying differently in memory."""
    spread = torch.zeros(*x.shape[:-1], 2 * x.shape[-1], dtype=x.dtype)
    spread[..., ::2] = x
    return {
        "contiguous": x.contiguous(),
        "channels last": x.contiguous(memory_format=torch.channels_last),
        "every second number": spread[..., ::2],
        "rows and columns exchanged": x.transpose(2, 3).contiguous().transpose(2, 3),
    }


@pytest.mark.parametrize(("towers", "n", "k", "alpha", "beta"), ACROSS)
@pytest.mark.parametrize("maps", [8, 10, 96])
def test_every_lineages_norm_across_maps_is_the_papers_formula(towers, n, k, alpha, beta, maps):
    x = activities(2, maps, 3, 4)
    result = across_maps(x, towers=towers, n=n, k=k, alpha=alpha, beta=beta)
    torch.testing.assert_close(result, across_maps_slowly(x, towers, n, k, alpha, beta), rtol=1e-13, atol=0)


@pytest.mark.parametrize("towers", [1, 2])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6, 9, 30])
@pytest.mark.parametrize("beta", [0.75, 0.5, 1.0])
def test_odd_and_even_windows_and_windows_wider_than_the_tower_follow_the_formula(towers, n, beta):
    x = activities(2, 12, 2, 3)
    result = across_maps(x, towers=towers, n=n, k=2, alpha=1e-4, beta=beta)
    torch.testing.assert_close(result, across_maps_slowly(x, towers, n, 2, 1e-4, beta), rtol=1e-13, atol=0)


def test_an_even_window_reaches_two_maps_down_and_one_up():
    x = torch.zeros(1, 9, 1, 1, dtype=torch.float64)
    x[0, 4] = 10
    x[0, [2, 3, 5, 6]] = 1e-9  # too small to count in any sum, large enough to show who feels map 4
    result = across_maps(x, towers=1, n=4, k=1, alpha=1, beta=1)
    felt = [i for i in (2, 3, 5, 6) if result[0, i] < x[0, i] / 50]
    assert felt == [3, 5, 6]  # map i covers i - 2 to i + 1


@pytest.mark.parametrize("layout", ["contiguous", "channels last", "every second number", "rows and columns exchanged"])
def test_the_layout_in_memory_changes_nothing(layout):
    x = activities(3, 8, 5, 6)
    given = in_many_layouts(x)[layout]
    across = across_maps(given, towers=2, n=5, k=2, alpha=1e-4, beta=0.75)
    torch.testing.assert_close(across, across_maps_slowly(x, 2, 5, 2, 1e-4, 0.75), rtol=1e-13, atol=0)
    within = within_map(given, size=5, k=1, alpha=4e-5, beta=0.75)
    torch.testing.assert_close(within, within_map_slowly(x, 5, 1, 4e-5, 0.75), rtol=1e-12, atol=0)
    torch.testing.assert_close(given, x, rtol=0, atol=0)  # what was given keeps its values


@pytest.mark.parametrize("layout", ["channels last", "every second number", "rows and columns exchanged"])
def test_the_layout_in_memory_does_not_change_the_gradient(layout):
    x, g = activities(3, 8, 5, 6), activities(3, 8, 5, 6, size=1, seed=1)
    for normalize in (
        lambda y: across_maps(y, towers=2, n=4, k=2, alpha=1e-4, beta=0.75),
        lambda y: within_map(y, size=5, k=1, alpha=4e-5, beta=0.75),
    ):
        plain, other = x.clone().requires_grad_(), in_many_layouts(x)[layout].detach().requires_grad_()
        normalize(plain).backward(g)
        normalize(other).backward(in_many_layouts(g)[layout])
        torch.testing.assert_close(other.grad, plain.grad, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 1, 3, 3), (1, 2, 1, 1), (1, 96, 1, 1), (4, 1, 2, 5)])
def test_one_image_one_map_and_one_pixel_follow_the_formula(shape):
    x = activities(*shape)
    towers = 2 if shape[1] % 2 == 0 else 1
    across = across_maps(x, towers=towers, n=5, k=2, alpha=1e-4, beta=0.75)
    torch.testing.assert_close(across, across_maps_slowly(x, towers, 5, 2, 1e-4, 0.75), rtol=1e-13, atol=0)
    within = within_map(x, size=5, k=1, alpha=4e-5, beta=0.75)
    torch.testing.assert_close(within, within_map_slowly(x, 5, 1, 4e-5, 0.75), rtol=1e-12, atol=0)


@pytest.mark.parametrize(("size", "k", "alpha", "beta"), WITHIN)
@pytest.mark.parametrize("sides", [(13, 13), (6, 9), (2, 3)])
def test_every_lineages_norm_within_a_map_is_the_same_formula_over_a_patch(size, k, alpha, beta, sides):
    x = activities(2, 3, *sides)
    result = within_map(x, size=size, k=k, alpha=alpha, beta=beta)
    torch.testing.assert_close(result, within_map_slowly(x, size, k, alpha, beta), rtol=1e-12, atol=0)


@pytest.mark.parametrize(("towers", "n", "k", "alpha", "beta"), [*ACROSS, (2, 4, 1, 0.2, 0.5), (1, 2, 2, 0.3, 0.75)])
def test_the_gradient_across_maps_is_the_formulas_own(towers, n, k, alpha, beta):
    scale = alpha**-0.5  # so that the sum of squares weighs as much as k
    assert gradcheck(
        lambda y: across_maps(y * scale, towers=towers, n=n, k=k, alpha=alpha, beta=beta),
        activities(2, 6, 2, 2, size=1).requires_grad_(),
        rtol=1e-6,
        atol=1e-6 * scale,
    )


@pytest.mark.parametrize(("size", "k", "alpha", "beta"), [*WITHIN, (3, 1.0, 0.5, 0.5)])
def test_the_gradient_within_a_map_is_the_formulas_own(size, k, alpha, beta):
    scale = alpha**-0.5
    assert gradcheck(
        lambda y: within_map(y * scale, size=size, k=k, alpha=alpha, beta=beta),
        activities(1, 2, 4, 5, size=1).requires_grad_(),
        rtol=1e-6,
        atol=1e-6 * scale,
    )


@pytest.mark.parametrize(("dtype", "unit"), [(torch.bfloat16, 2**-8), (torch.float16, 2**-11)])
@pytest.mark.parametrize("maps", [96, 256])
def test_half_precision_costs_one_rounding_in_value_and_gradient(dtype, unit, maps):
    x = activities(2, maps, 3, 3).to(dtype).requires_grad_()
    g = activities(2, maps, 3, 3, size=1, seed=1).to(dtype)
    wide = x.detach().double().requires_grad_()
    for normalize in (
        lambda y: across_maps(y, towers=2, n=5, k=2, alpha=1e-4, beta=0.75),
        lambda y: within_map(y, size=3, k=1, alpha=4e-5, beta=0.75),
    ):
        x.grad = wide.grad = None
        result, exact = normalize(x), normalize(wide)
        result.backward(g)
        exact.backward(g.double())
        assert result.dtype == x.grad.dtype == dtype
        torch.testing.assert_close(result.double(), exact.detach(), rtol=unit * 1.001, atol=1e-7)
        torch.testing.assert_close(x.grad.double(), wide.grad, rtol=unit * 1.001, atol=1e-6)


def test_autocast_does_not_sum_in_half_precision():
    x = activities(1, 96, 4, 4).float()
    with torch.autocast("cpu", torch.bfloat16):
        across = across_maps(x, towers=2, n=5, k=2, alpha=1e-4, beta=0.75)
        within = within_map(x, size=5, k=1, alpha=4e-5, beta=0.75)
    witness = across_maps_slowly(x.double(), 2, 5, 2, 1e-4, 0.75)
    torch.testing.assert_close(across.double(), witness, rtol=1e-6, atol=0)
    torch.testing.assert_close(within.double(), within_map_slowly(x.double(), 5, 1, 4e-5, 0.75), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("k", "alpha", "value", "edge", "next_to_it", "interior"),
    [
        (2, 1e-4 / 5, 1, 0.5945902, 0.5945857, 0.5945813),  # as run in 2012
        (2, 1e-4 / 5, 100, 48.8393628, 46.1988831, 43.8691338),
        (2, 1e-4, 1, 0.5945367, 0.5945144, 0.5944921),  # as printed
        (2, 1e-4, 100, 29.9069756, 26.0847430, 23.2368080),
        (1, 1e-4 / 5, 1, 0.9999550, 0.9999400, 0.9999250),  # Caffe
        (1, 1e-4 / 5, 100, 70.2926656, 64.3495658, 59.4603558),
    ],
)
def test_equal_maps_give_the_reference_values_to_the_last_printed_digit(k, alpha, value, edge, next_to_it, interior):
    x = torch.full((1, 96, 1, 1), float(value), dtype=torch.float64)
    result = across_maps(x, towers=2, n=5, k=k, alpha=alpha, beta=0.75).flatten().tolist()
    tower = [edge, next_to_it, *[interior] * 44, next_to_it, edge]
    assert [round(each, 7) for each in result] == [*tower, *tower]


@pytest.mark.parametrize(("maps", "border"), [(96, [46, 47, 48, 49]), (256, [126, 127, 128, 129])])
def test_the_norm_stops_at_the_tower_edge(maps, border):
    x = activities(1, maps, 2, 2)
    apart = across_maps(x, towers=2, n=5, k=2, alpha=1e-4, beta=0.75)
    merged = across_maps(x, towers=1, n=5, k=2, alpha=1e-4, beta=0.75)
    assert (apart != merged).any(dim=(2, 3)).any(0).nonzero().flatten().tolist() == border


def test_neither_tower_sends_the_other_a_gradient():
    x = activities(1, 12, 2, 2).requires_grad_()
    across_maps(x, towers=2, n=5, k=2, alpha=1e-4, beta=0.75)[:, :6].sum().backward()
    assert (x.grad[:, :6] != 0).all()
    assert (x.grad[:, 6:] == 0).all()
