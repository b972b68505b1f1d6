"""Section 5: the update rule, one number at a time, against the 2012 program's numbers and against PyTorch's SGD."""

import pytest
import torch

from alexnet.network.alexnet import AlexNet
from alexnet.network.layers import Convolution, FullyConnected, Rectifier
from alexnet.network.lineages import Lineage
from alexnet.training.recipe import Learning
from alexnet.training.schedule import rate
from alexnet.training.update import Update

LAYERS = (
    Convolution("conv1", 4, 2, stored_as="features.0", bias=1),
    Rectifier("relu1"),
    FullyConnected("fc2", 5, bias=1),
    FullyConnected("fc3", 3, stored_as="classifier.6"),
)
PLACES = {"features.0": "conv1", "fc2": "fc2", "classifier.6": "fc3"}
RATES = (0.01, 0.01, 0.001, 0.05, 0.002, 0.01)
PRINTED = Learning()


def begun() -> AlexNet:
    """A small network in float64 whose weights are large enough for decay to show."""
    network = AlexNet(Lineage("tiny", "", side=4, towers=1, layers=LAYERS, code="fc2"), seed=3).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(50).add_(0.5)
    return network


def set_gradients(network: AlexNet, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for parameter in network.parameters():
        parameter.grad = torch.randn(parameter.shape, dtype=parameter.dtype, generator=generator)


def moved_slowly(values: list[float], speeds: list[float], slopes: list[float], rate: float, decay: float) -> None:
    """v <- 0.9 v - decay rate w - rate g;  w <- w + v, number by number."""
    for i, slope in enumerate(slopes):
        speeds[i] = 0.9 * speeds[i] - decay * rate * values[i] - rate * slope
        values[i] = values[i] + speeds[i]


def check_against_the_slow_rule(learning: Learning, rate_of, decay_of) -> None:
    """Six steps of changing rates; `rate_of(layer, bias, step)` and `decay_of(layer, bias)` say what is expected."""
    network = begun()
    update = Update(network, learning)
    values = {name: parameter.flatten().tolist() for name, parameter in network.named_parameters()}
    speeds = {name: [0.0] * len(numbers) for name, numbers in values.items()}
    for step in range(len(RATES)):
        set_gradients(network, step)
        update.step(lambda layer, bias, step=step: rate_of(layer, bias, step))
        for name, parameter in network.named_parameters():
            place, _, kind = name.rpartition(".")
            layer, bias = PLACES[place], kind == "bias"
            slopes = parameter.grad.flatten().tolist()
            moved_slowly(values[name], speeds[name], slopes, rate_of(layer, bias, step), decay_of(layer, bias))
            assert parameter.flatten().tolist() == pytest.approx(values[name], rel=1e-13), (name, step)
            assert update.velocity[name].flatten().tolist() == pytest.approx(speeds[name], rel=1e-12), (name, step)


def test_the_rule_is_the_papers_number_by_number_while_rates_change():
    check_against_the_slow_rule(PRINTED, lambda layer, bias, step: RATES[step], lambda layer, bias: 0.0005)


def test_every_layer_and_its_biases_have_their_own_rate():
    factors = {"conv1": 0.1, "fc2": 1.0, "fc3": 3.0}
    check_against_the_slow_rule(
        PRINTED,
        lambda layer, bias, step: RATES[step] * factors[layer] * (2 if bias else 1),
        lambda layer, bias: 0.0005,
    )


def test_biases_do_not_decay_when_they_are_told_not_to():
    check_against_the_slow_rule(
        Learning(bias_decay=False, decay=0.1),
        lambda layer, bias, step: RATES[step],
        lambda layer, bias: 0 if bias else 0.1,
    )


def test_a_layers_own_decay_replaces_the_common_one():
    check_against_the_slow_rule(
        Learning(layer_decay=(("fc3", 0.5), ("conv1", 0.0)), bias_decay=False, decay=0.1),
        lambda layer, bias, step: RATES[step],
        lambda layer, bias: 0 if bias else {"fc3": 0.5, "conv1": 0, "fc2": 0.1}[layer],
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_weight_of_one_goes_where_the_2012_program_moved_it(dtype):
    tiny = Lineage("tiny", "", side=1, towers=1, layers=(FullyConnected("fc", 1),), code="fc")
    network = AlexNet(tiny).to(dtype)
    update, weight = Update(network, PRINTED), network.fc.weight
    with torch.no_grad():
        weight.fill_(1)
    places = []
    for _ in range(3):
        weight.grad = torch.full_like(weight, 0.5)
        update.step(lambda layer, bias: 0.01)
        places.append(weight[0, 0].item())
    exact = dtype == torch.float64
    assert places == pytest.approx([0.994995, 0.985485525025, 0.9719220701198749], rel=1e-15 if exact else 2e-7)


def both_rules(rates: tuple[float, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Where ours and PyTorch's SGD bring the same network."""
    ours, theirs = begun(), begun()
    update = Update(ours, PRINTED)
    sgd = torch.optim.SGD(theirs.parameters(), lr=1, momentum=0.9, weight_decay=0.0005)
    for step, now in enumerate(rates):
        sgd.param_groups[0]["lr"] = now
        set_gradients(ours, step)
        set_gradients(theirs, step)
        update.step(lambda layer, bias, now=now: now)
        sgd.step()
    return tuple(torch.cat([each.detach().flatten() for each in net.parameters()]) for net in (ours, theirs))


def test_at_a_constant_rate_pytorchs_sgd_does_the_same():
    ours, theirs = both_rules((0.01,) * 8)
    torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=1e-13)


def test_after_a_drop_the_old_velocity_keeps_its_size_and_pytorchs_sgd_differs():
    together, apart = both_rules((0.01,) * 4), both_rules((0.01, 0.01, 0.01, 0.01, 0.001))
    torch.testing.assert_close(*together)
    # PyTorch multiplies the whole velocity by the new rate: a tenth of the 0.9 v that the paper's rule keeps.
    before = both_rules((0.01,) * 3)[0]
    velocity = together[0] - before
    torch.testing.assert_close(apart[0] - apart[1], 0.9 * velocity * (1 - 0.1), rtol=1e-9, atol=1e-12)
    assert (apart[0] - apart[1]).abs().max() > 1e-3


@pytest.mark.parametrize("frozen", [("conv1", False), ("conv1", True), ("fc3", False)])
def test_a_frozen_layer_does_not_move_at_all_and_keeps_its_velocity(frozen):
    network = begun()
    update = Update(network, PRINTED)
    for step in range(2):
        set_gradients(network, step)
        update.step(lambda layer, bias: 0.01)
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    speeds = {name: velocity.clone() for name, velocity in update.velocity.items()}
    for step in range(2, 5):
        set_gradients(network, step)
        update.step(lambda layer, bias: 0 if (layer, bias) == frozen else 0.01)
    still = {name for name, parameter in network.named_parameters() if torch.equal(parameter, before[name])}
    kept = {name for name, velocity in update.velocity.items() if torch.equal(velocity, speeds[name])}
    place = next(place for place, layer in PLACES.items() if layer == frozen[0])
    assert still == kept == {f"{place}.{'bias' if frozen[1] else 'weight'}"}


def test_a_step_asks_for_each_layers_rate_by_its_name():
    network, asked = begun(), []
    set_gradients(network, 0)
    Update(network, PRINTED).step(lambda layer, bias: asked.append((layer, bias)) or 0.01)
    assert asked == [(layer, bias) for layer in ("conv1", "fc2", "fc3") for bias in (False, True)]


def test_the_schedule_of_2012_moves_biases_twice_as_fast():
    learning = Learning(bias_rate=2, bias_decay=False, momentum=0)
    network = begun()
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    Update(network, learning).step(
        lambda layer, bias: rate(learning, layer, bias=bias, step=0, steps_an_epoch=1, errors=[])
    )
    for name, parameter in network.named_parameters():
        expected = before[name] - 0.02 if name.endswith("bias") else before[name] * (1 - 0.01 * 0.0005) - 0.01
        torch.testing.assert_close(parameter.detach(), expected, rtol=1e-14, atol=1e-14)


def test_a_layer_without_a_gradient_stays_as_it_is():
    network = begun()
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    Update(network, PRINTED).step(lambda layer, bias: 0.01)
    assert all(torch.equal(parameter, before[name]) for name, parameter in network.named_parameters())


def test_the_layout_in_memory_changes_nothing():
    ours, channels_last = begun(), begun().to(memory_format=torch.channels_last)
    x = torch.randn(6, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    for network, images in ((ours, x), (channels_last, x.contiguous(memory_format=torch.channels_last))):
        update = Update(network, PRINTED)
        for now in (0.01, 0.001):
            network.zero_grad()
            network(images).square().mean().backward()
            update.step(lambda layer, bias, now=now: now)
    for (name, one), other in zip(ours.named_parameters(), channels_last.parameters(), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-12, atol=1e-12, msg=name)


def test_bf16_products_read_copies_and_the_weights_themselves_stay_float32():
    """Steps of a hundredth of what bf16 can tell apart add up, and a copy is its weight, rounded."""
    network, alone = begun().float(), begun().float()
    update, witness = Update(network, PRINTED, torch.bfloat16), Update(alone, PRINTED)
    before = {name: parameter.clone() for name, parameter in network.named_parameters()}
    for step in range(50):
        set_gradients(network, step)
        for name, parameter in alone.named_parameters():
            parameter.grad = network.get_parameter(name).grad.float()
        for each in (update, witness):
            each.step(lambda layer, bias: 1e-4)
    for name, parameter in network.named_parameters():
        assert parameter.dtype == torch.bfloat16 and update.weights[name].dtype == torch.float32
        assert torch.equal(update.weights[name], alone.get_parameter(name))
        assert torch.equal(parameter, update.weights[name].to(torch.bfloat16))
        assert not torch.equal(update.weights[name], update.weights[name].to(torch.bfloat16).float())
    assert any(not torch.equal(parameter, before[name]) for name, parameter in network.named_parameters())


def test_bf16_copies_go_on_where_they_stopped():
    straight, stopped, resumed = (begun().float() for _ in range(3))
    one, first = (Update(network, PRINTED, torch.bfloat16) for network in (straight, stopped))
    for step in range(6):
        for network, update in ((straight, one), (stopped, first)):
            set_gradients(network, step)
            update.step(lambda layer, bias: 0.01)
        if step == 2:
            kept = first
            stopped, first = resumed, Update(resumed, PRINTED, torch.bfloat16)
            for own, other in ((first.weights, kept.weights), (first.velocity, kept.velocity)):
                for name in own:
                    own[name].copy_(other[name])
            first.renew_copies()
    for name, parameter in straight.named_parameters():
        assert torch.equal(parameter, stopped.get_parameter(name)), name
        assert torch.equal(one.weights[name], first.weights[name]) and torch.equal(
            one.velocity[name], first.velocity[name]
        )


def test_a_backward_from_before_a_step_does_not_go_on_behind_it():
    """It would multiply by the weights as they are now."""
    network = begun()
    loss = network(torch.ones(2, 3, 4, 4, dtype=torch.float64)).square().sum()
    set_gradients(network, 0)
    Update(network, PRINTED).step(lambda layer, bias: 0.01)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
