"""LARS: the published rule, number by number; and whole norms where a process holds a part."""

from dataclasses import replace

import pytest
import torch

from alexnet.network.alexnet import AlexNet
from alexnet.network.lineages import lineage
from alexnet.network.towers import Towers
from alexnet.training.recipe import Learning
from alexnet.training.recipes import RECIPES
from alexnet.training.schedule import rate
from alexnet.training.update import Update
from company import laid_together, small, together

LEARNING = Learning(trust=0.001, decay=0.01, layer_decay=(("fc10", 0.1),))
RATES = (4.0, 20.0, 8.0)


def begun(which=None, seed=3):
    return AlexNet(which or lineage("cifar-80sec"), seed=seed).double()


def set_gradients(network, step):
    """A function of the whole parameter's name and of the step."""
    for name, parameter in network.named_parameters():
        generator = torch.Generator().manual_seed(step * 1000 + len(name))
        parameter.grad = torch.randn(parameter.shape, dtype=parameter.dtype, generator=generator)


def test_each_parameters_rate_is_the_trust_times_its_weights_over_its_gradient():
    network = begun()
    with torch.no_grad():  # where biases are 0 there is nothing to take a share of: see the next test
        for parameter in network.parameters():
            parameter.add_(0.3)
    update = Update(network, LEARNING)
    expected = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    speeds = {name: torch.zeros_like(each) for name, each in expected.items()}
    for step, now in enumerate(RATES):
        set_gradients(network, step)
        update.step(lambda layer, bias, now=now: now)
        for name, parameter in network.named_parameters():
            decay = 0.1 if name.startswith("fc10") else 0.01
            w, g = expected[name], parameter.grad
            size, slope = (float(x.square().sum()) ** 0.5 for x in (w, g))
            local = now * 0.001 * size / (slope + decay * size)
            speeds[name] = 0.9 * speeds[name] - local * (g + decay * w)
            expected[name] = w + speeds[name]
            torch.testing.assert_close(parameter.detach(), expected[name], rtol=1e-12, atol=0)


def test_a_step_is_a_share_of_the_weights_however_large_the_gradient():
    moved = []
    for scale in (1.0, 1e6):
        network = begun()
        before = network.conv2.weight.detach().clone()
        set_gradients(network, 0)
        for parameter in network.parameters():
            parameter.grad *= scale
        Update(network, replace(LEARNING, decay=0.0)).step(lambda layer, bias: 10.0)
        moved.append(float((network.conv2.weight.detach() - before).norm() / before.norm()))
    assert moved == pytest.approx([0.01, 0.01])


def test_without_weights_or_gradient_the_trust_alone_counts():
    network = begun()
    set_gradients(network, 0)
    network.conv2.weight.grad.zero_()
    before = network.conv2.weight.detach().clone()
    Update(network, LEARNING).step(lambda layer, bias: 2.0)
    assert torch.equal(network.conv1.bias.detach(), -0.002 * network.conv1.bias.grad), "biases began at 0"
    torch.testing.assert_close(network.conv2.weight.detach(), before * (1 - 0.002 * 0.01))


def test_a_rate_is_what_python_makes_of_the_norms_to_the_bit():
    """In float64, also where weights are float32."""
    network = begun().float()
    set_gradients(network, 0)
    network.conv3.weight.grad = None
    update = Update(network, LEARNING)
    names, numbers = update.moving(lambda layer, bias: 1.0)
    expected = []
    for name, decay in zip(names, numbers[:, 0].tolist(), strict=True):
        parameter = network.get_parameter(name).detach()
        slope = network.get_parameter(name).grad
        w, g = (
            float(torch.linalg.vector_norm(x).square().sqrt()) if x is not None else 0.0 for x in (parameter, slope)
        )
        expected.append(0.001 * (w / (g + decay * w) if w and g else 1.0))
    assert update._trusted(names, numbers[:, 0]).tolist() == expected
    before = network.conv3.weight.detach().clone()
    update.move(names, numbers, {})
    assert torch.equal(network.conv3.weight, before), "nothing came back to it"


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_a_gradient_that_is_not_finite_is_not_passed_over(value):
    """The weights are no longer finite then, which the loop finds; a layer left as it was would hide it."""
    network = begun()
    set_gradients(network, 0)
    network.conv2.weight.grad[0, 0, 0, 0] = value
    Update(network, LEARNING).step(lambda layer, bias: 10.0)
    assert not network.conv2.weight.isfinite().all()


def moved_by_a_tower(ranks, learning):
    """What two towers make of one gradient, laid together on rank 0."""
    towers = Towers(small("large-batch"), ranks.divided(2))
    network = towers.network(seed=3).double()
    whole = begun(towers.lineage)
    set_gradients(whole, 0)
    for name, parameter in network.named_parameters():
        gradient = whole.get_parameter(name).grad
        parameter.grad = gradient.chunk(2)[ranks.rank].clone() if towers.divides(name) else gradient
    update = Update(network, learning, summed=towers.summed)
    update.step(lambda layer, bias: 10.0)
    return laid_together(towers, update.weights)


def test_two_towers_use_the_whole_tensors_norms():
    """Seven classes are not divided: both towers hold the last layer."""
    expected = begun(small("large-batch"))
    set_gradients(expected, 0)
    Update(expected, LEARNING).step(lambda layer, bias: 10.0)
    found = together(2, moved_by_a_tower, LEARNING)[0]
    assert set(found) == set(expected.state_dict())
    for name, tensor in expected.state_dict().items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-12, atol=1e-15)


def summed(ranks):
    towers = Towers(small("large-batch"), ranks.divided(2))
    return towers.summed({name: torch.full((2,), 1.0 + ranks.rank) for name in ("conv1.weight", "fc8.weight")})


def test_what_every_tower_holds_is_counted_once():
    for found in together(2, summed):
        assert [each.tolist() for each in found.values()] == [[3, 3], [1, 1]]


def test_the_large_batch_recipe_has_its_sources_numbers():
    recipe = RECIPES["large-batch"]
    learning, images = recipe.learning, recipe.images
    assert (learning.batch, learning.rate, learning.trust, learning.epochs) == (32768, 32, 0.001, 100)
    assert (learning.momentum, learning.decay, learning.bias_rate, learning.bias_decay) == (0.9, 0.0005, 1, True)
    assert (learning.power, learning.warm_up, images.scale, images.patch) == (2, 10, 1 / 256, 227)


@pytest.mark.parametrize(("batch", "top"), [(32768, 32), (8192, 8), (1024, 1)])
def test_the_rate_rises_for_ten_epochs_to_what_is_in_proportion_to_the_batch_and_falls_as_a_square(batch, top):
    learning = replace(RECIPES["large-batch"].learning, batch=batch)
    steps = 40

    def at(step):
        return rate(learning, "fc8", bias=False, step=step, steps_an_epoch=steps, errors=())

    for step in (0, 1, 200, 399):
        assert at(step) == pytest.approx(top * (step + 1) / 400 * (1 - step / 4000) ** 2)
    for step in (400, 2000, 3999):
        assert at(step) == pytest.approx(top * (1 - step / 4000) ** 2)


def test_the_warm_up_stretches_with_the_run():
    learning = replace(RECIPES["large-batch"].learning, epochs=10)
    rates = [rate(learning, "fc8", bias=False, step=step, steps_an_epoch=40, errors=()) for step in range(400)]
    assert max(range(400), key=rates.__getitem__) == 39
