"""What each layer computes: pooling, convolutions, dropout and initial values, against slow loops and plain counts."""

from itertools import product
from math import ceil, sqrt

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck
from torch.func import functional_call

from alexnet.network.alexnet import AlexNet
from alexnet.network.layers import (
    AveragePool,
    Convolution,
    Dropout,
    FanIn,
    FullyConnected,
    LocallyConnected,
    MaxPool,
    Normal,
    Rectifier,
)
from alexnet.network.lineages import PAPER, SOURCE_2012, Lineage
from alexnet.network.operations import Here, operation

# height, width, window, stride: exact fits, windows that hang over on one or both sides, maps below a window's size
HANGING = [
    (5, 5, 3, 2),
    (6, 6, 3, 2),
    (6, 5, 3, 2),
    (4, 7, 3, 2),
    (13, 12, 3, 2),
    (7, 7, 2, 2),
    (8, 5, 2, 2),
    (8, 8, 3, 3),
    (7, 6, 3, 1),
    (2, 3, 3, 2),
    (2, 2, 3, 2),
]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def pooled_slowly(x: Tensor, size: int, stride: int, summary) -> Tensor:
    """One window at a time, as many as start inside after rounding up, each clipped to the map."""
    given = x.numpy()
    images, maps, height, width = given.shape
    rows, columns = (1 + ceil((side - size) / stride) for side in (height, width))
    result = np.empty((images, maps, rows, columns))
    for image, one, row, column in product(range(images), range(maps), range(rows), range(columns)):
        top, left = row * stride, column * stride
        window = [
            given[image, one, r, c]
            for r in range(top, top + size)
            for c in range(left, left + size)
            if r < height and c < width
        ]
        result[image, one, row, column] = summary(window)
    return torch.from_numpy(result)


def convolved_slowly(x: Tensor, kernel_at, bias_at, layer: Convolution) -> Tensor:
    """One unit at a time; whatever lies outside the image is 0. Map, row, column -> `kernel_at` and `bias_at` it."""
    given, before = x.numpy(), layer.pad[0]
    images, maps, height, width = given.shape
    share, result = maps // layer.groups, np.empty((images, *layer.output((maps, height, width))))
    for image, k, row, column in np.ndindex(*result.shape):
        first = k // (layer.kernels // layer.groups) * share
        window = np.zeros((share, layer.size, layer.size))
        for r, c in product(range(layer.size), repeat=2):
            y, z = row * layer.stride - before + r, column * layer.stride - before + c
            if 0 <= y < height and 0 <= z < width:
                window[:, r, c] = given[image, first : first + share, y, z]
        result[image, k, row, column] = (window * kernel_at(k, row, column)).sum() + bias_at(k, row, column)
    return torch.from_numpy(result)


def begun(module: nn.Module, seed: int = 0) -> nn.Module:
    """In float64, with weights and biases from N(0, 1): every one counts."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.double().parameters():
        nn.init.normal_(parameter, generator=generator)
    return module


@pytest.mark.parametrize(("height", "width", "size", "stride"), HANGING)
@pytest.mark.parametrize(("kind", "summary"), [(MaxPool, max), (AveragePool, np.mean)])
def test_pooling_clips_the_windows_that_hang_over(kind, summary, height, width, size, stride):
    x = normal(2, 3, height, width) - 5  # negative throughout: a zero from outside would win or weigh
    layer = kind("pool", size=size, stride=stride)
    result = operation(layer, (3, height, width))(x)
    torch.testing.assert_close(result, pooled_slowly(x, size, stride, summary), rtol=1e-14, atol=1e-14)
    assert result.shape[1:] == layer.output((3, height, width))


@pytest.mark.parametrize("kind", [MaxPool, AveragePool])
@pytest.mark.parametrize(("height", "width", "size", "stride"), [(6, 5, 3, 2), (7, 7, 2, 2), (2, 3, 3, 2)])
def test_poolings_gradient_is_its_own(kind, height, width, size, stride):
    module = operation(kind("pool", size=size, stride=stride), (2, height, width))
    assert gradcheck(module, normal(2, 2, height, width).requires_grad_())


def test_average_pooling_divides_by_the_pixels_really_inside():
    x = torch.zeros(1, 1, 4, 4)
    x[0, 0, 0, 0] = x[0, 0, 0, 3] = x[0, 0, 3, 0] = x[0, 0, 3, 3] = 36
    result = operation(AveragePool("pool"), (1, 4, 4))(x)
    assert result.flatten().tolist() == [36 / 9, 36 / 6, 36 / 6, 36 / 4]


def test_224_becomes_55_by_zeros_at_the_bottom_and_right_only():
    layer = Convolution("conv1", kernels=2, size=11, stride=4, pad=PAPER.layers[0].pad)
    module, x = begun(operation(layer, (3, 224, 224))), normal(1, 3, 224, 224)
    filled = np.zeros((3, 227, 227))
    filled[:, :224, :224] = x[0].numpy()
    weight, bias = (each.detach().numpy() for each in (module.weight, module.bias))
    witness = np.empty((2, 55, 55))
    for k, row, column in np.ndindex(2, 55, 55):
        top, left = 4 * row, 4 * column
        witness[k, row, column] = (filled[:, top : top + 11, left : left + 11] * weight[k]).sum() + bias[k]
    torch.testing.assert_close(module(x)[0].detach(), torch.from_numpy(witness), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (Convolution("conv", 4, 3, pad=(1, 1)), (2, 4, 5)),
        (Convolution("conv", 6, 3, pad=(1, 1), groups=2), (4, 4, 5)),
        (Convolution("conv", 4, 3, stride=2, pad=(0, 1), groups=2), (4, 6, 8)),
        (Convolution("conv", 2, 5, stride=3), (1, 9, 11)),
    ],
)
def test_a_convolution_is_a_sum_over_its_own_share_of_the_maps(layer, shape):
    module, x = begun(operation(layer, shape)), normal(2, *shape)
    weight, bias = (each.detach().numpy() for each in (module.weight, module.bias))
    witness = convolved_slowly(x, lambda k, r, c: weight[k], lambda k, r, c: bias[k], layer)
    torch.testing.assert_close(module(x).detach(), witness, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [(LocallyConnected("local", 3, 3, pad=(1, 1)), (2, 4, 5)), (LocallyConnected("local", 2, 2, stride=2), (3, 4, 6))],
)
def test_an_unshared_convolution_has_a_kernel_and_a_bias_for_every_position(layer, shape):
    module, x = begun(operation(layer, shape)), normal(2, *shape)
    kernels, height, width = layer.output(shape)
    weight = module.weight.detach().numpy().reshape(height, width, kernels, shape[0], layer.size, layer.size)
    bias = module.bias.detach().numpy()
    witness = convolved_slowly(x, lambda k, r, c: weight[r, c, k], lambda k, r, c: bias[k, r, c], layer)
    torch.testing.assert_close(module(x).detach(), witness, rtol=1e-12, atol=1e-12)


def test_an_unshared_convolutions_gradient_is_its_own():
    module = begun(operation(LocallyConnected("local", 2, 3, pad=(1, 1)), (2, 3, 2)))

    def call(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return functional_call(module, {"weight": weight, "bias": bias}, x)

    leaves = (each.detach().requires_grad_() for each in (module.weight, module.bias))
    assert gradcheck(call, (normal(2, 2, 3, 2).requires_grad_(), *leaves))


def test_every_connected_unit_reads_every_activity_map_by_map():
    module, x = begun(operation(FullyConnected("fc6", 3), (2, 2, 2))), normal(2, 2, 2, 2)
    weight, bias = module.weight.detach().numpy().reshape(3, 2, 2, 2), module.bias.detach().numpy()
    witness = np.array([[(image * weight[unit]).sum() + bias[unit] for unit in range(3)] for image in x.numpy()])
    torch.testing.assert_close(module(x).detach(), torch.from_numpy(witness))


def test_a_rectifier_leaves_what_it_was_given_untouched():
    x = normal(2, 3, 4, 4)
    before = x.clone()
    result = operation(Rectifier("relu"), (3, 4, 4))(x)
    assert result.flatten().tolist() == [max(0.0, each) for each in before.flatten().tolist()]
    assert torch.equal(x, before)


@pytest.mark.parametrize(("rescaled", "survivor", "at_test"), [(False, 3.0, 3.0 * 0.75), (True, 4.0, 3.0)])
def test_dropout_as_printed_shrinks_the_test_and_as_later_programs_enlarges_training(rescaled, survivor, at_test):
    module, x = operation(Dropout("drop", keep=0.75, rescaled=rescaled), (100, 1, 1)), torch.full((400, 100), 3.0)
    result = module.train()(x, torch.tensor(1))
    assert sorted(set(result.flatten().tolist())) == [0.0, survivor]
    assert abs((result > 0).float().mean() - 0.75) < 5 * sqrt(0.75 * 0.25 / result.numel())
    assert torch.equal(module.eval()(x), torch.full_like(x, at_test))


def test_dropout_silences_the_gradient_where_it_silenced_the_activity():
    x = torch.ones(8, 50, requires_grad=True)
    result = operation(Dropout("drop"), (50, 1, 1)).train()(x, torch.tensor(1))
    result.sum().backward()
    assert torch.equal(x.grad, result.detach())


def dropping_network() -> AlexNet:
    """Two dropout layers around layers that pass their input on: the masks can be read off."""
    layers = (Dropout("drop1"), Rectifier("relu1"), Dropout("drop2"), FullyConnected("fc", 64, bias=0))
    network = AlexNet(Lineage("tiny", "", side=4, towers=1, layers=layers, code="drop2"))
    network.fc.weight.data = torch.eye(64)[:, :48]
    return network.train()


def test_a_dropout_mask_is_a_function_of_seed_and_step():
    network, x = dropping_network(), torch.ones(16, 3, 4, 4)
    first = network(x, Here(network.masks(3, 7)))
    torch.rand(5)  # PyTorch's own generator has no part in it
    assert torch.equal(network(x, Here(network.masks(3, 7))), first)
    assert not torch.equal(network(x, Here(network.masks(3, 8))), first)
    assert not torch.equal(network(x, Here(network.masks(4, 7))), first)
    assert not torch.equal(network(x, Here(network.masks(7, 3))), first)
    assert torch.equal(network.eval()(x, Here(network.masks(3, 7))), network(x))


def test_dropout_alone_may_learn_while_the_network_judges():
    """To see how sure a network is, many masks are averaged; a run's masks count there too."""
    network, x = dropping_network().eval(), torch.ones(16, 3, 4, 4)
    network.drop1.train()
    first = network(x, Here(network.masks(0, 0)))
    assert torch.equal(network(x, Here(network.masks(0, 0))), first)
    assert not torch.equal(network(x, Here(network.masks(0, 1))), first)


def test_masks_are_counted_from_the_numbers_that_runs_began_with():
    """Other numbers, and a run that was stopped would go on with other masks."""
    network = AlexNet("paper", classes=2)
    assert network.masks(0, 0).tolist() == [5076413721877902402, 674789008817151707]
    assert network.masks(3, 7).tolist() == [3418990781294513278, 1155247139825085888]


def test_without_a_place_in_a_run_pytorchs_generator_draws_the_masks():
    network, x = dropping_network(), torch.ones(16, 3, 4, 4)
    torch.manual_seed(1)
    drawn = [network(x), network(x), network(x, Here(row=4))]
    assert not any(torch.equal(drawn[one], drawn[other]) for one, other in ((0, 1), (0, 2), (1, 2)))
    torch.manual_seed(1)
    assert torch.equal(network(x), drawn[0])


def test_every_image_and_every_dropout_layer_has_a_mask_of_its_own():
    network, x = dropping_network(), torch.ones(64, 3, 4, 4)
    result = network(x, Here(network.masks(0, 0)))
    assert len({tuple(row) for row in result.tolist()}) == 64
    # The same mask twice would let half of the activities through, two masks let a quarter.
    assert abs((result[:, :48] > 0).float().mean() - 0.25) < 5 * sqrt(0.25 * 0.75 / (64 * 48))


@pytest.mark.parametrize("lineage", [PAPER, SOURCE_2012], ids=lambda lineage: lineage.name)
@pytest.mark.parametrize("name", ["conv1", "conv2", "conv3", "conv4", "conv5", "fc8"])
def test_weights_start_normal_and_biases_constant(lineage, name):
    row = next(row for row in lineage.table() if row.layer.name == name)
    module = operation(row.layer, row.input)
    module.set_initial_values(torch.Generator().manual_seed(0))
    deviation, count = row.layer.weight.deviation, module.weight.numel()
    weight = module.weight.detach().double()
    assert abs(weight.mean()) < 5 * deviation / sqrt(count)
    assert abs(weight.std() / deviation - 1) < 5 / sqrt(2 * count)
    assert abs((weight.abs() < deviation).double().mean() - 0.6827) < 5 * sqrt(0.6827 * 0.3173 / count)  # bell-shaped
    assert set(module.bias.tolist()) == {row.layer.bias}


@pytest.mark.parametrize(("deviation", "mean_size", "digits"), [(0.01, 0.00798, 5), (0.03, 0.0239, 4)])
def test_fresh_weights_have_the_mean_size_that_the_programs_log_shows(deviation, mean_size, digits):
    module = operation(FullyConnected("fc8", 1000, weight=Normal(deviation)), (4096, 1, 1))
    module.set_initial_values(torch.Generator().manual_seed(0))
    assert round(module.weight.abs().mean().item(), digits) == mean_size


def test_pytorchs_own_start_is_uniform_within_one_over_the_root_of_the_inputs():
    module = operation(Convolution("conv2", 192, 5, weight=FanIn()), (64, 27, 27))
    module.set_initial_values(torch.Generator().manual_seed(0))
    bound = 1 / sqrt(64 * 25)
    stock = nn.Conv2d(64, 192, 5)
    for ours, pytorchs in ((module.weight, stock.weight), (module.bias, stock.bias)):
        assert ours.shape == pytorchs.shape
        assert 0.97 * bound < ours.max() <= bound
        assert -bound <= ours.min() < -0.97 * bound
        assert ours.std().item() == pytest.approx(bound / sqrt(3), rel=0.1)
        assert pytorchs.abs().max() <= bound


def test_initial_values_are_a_function_of_seed_and_layer():
    layers = tuple(FullyConnected(f"fc{number}", 48) for number in (1, 2))
    tiny = Lineage("tiny", "", side=4, towers=1, layers=layers, code="fc1")
    torch.manual_seed(1)
    first = AlexNet(tiny, seed=5).state_dict()
    torch.manual_seed(2)
    again, other = AlexNet(tiny, seed=5).state_dict(), AlexNet(tiny, seed=6).state_dict()
    assert all(torch.equal(again[name], first[name]) for name in first)
    assert not torch.equal(other["fc1.weight"], first["fc1.weight"])
    assert not torch.equal(first["fc1.weight"], first["fc2.weight"])
