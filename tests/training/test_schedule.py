"""Section 5: how the rates fall: by hand in 2012, by stalls in the paper, in a straight line by default."""

from dataclasses import replace

import pytest

from alexnet.data.augment import Images
from alexnet.network.lineages import LINEAGES
from alexnet.training.recipe import Change, Learning
from alexnet.training.recipes import RECIPES, default_recipe
from alexnet.training.schedule import has_come, rate, stretched, tenths

STEPS = 10_009  # in an epoch of ILSVRC-2012
OTHERS = ("conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")


def at(learning: Learning, layer: str, bias: bool, step: int, errors=(), steps_an_epoch: int = STEPS) -> float:
    return rate(learning, layer, bias=bias, step=step, steps_an_epoch=steps_an_epoch, errors=errors)


def by_epoch(name: str, layer: str, bias: bool) -> list[tuple[int, float]]:
    """The epochs at which the rate changes and what it changes to, seen at every epoch's first and last step."""
    learning = RECIPES[name].learning
    seen: list[tuple[int, float]] = []
    for epoch in range(learning.epochs):
        first, last = (at(learning, layer, bias, epoch * STEPS + step) for step in (0, STEPS - 1))
        assert first == last
        if not seen or seen[-1][1] != first:
            seen.append((epoch, first))
    return seen


def near(*changes: tuple[int, float]) -> list[tuple[int, object]]:
    return [(epoch, pytest.approx(rate, rel=1e-12)) for epoch, rate in changes]


@pytest.mark.parametrize("layer", OTHERS)
def test_run_145_lowered_its_weights_at_25_51_and_79_and_never_its_biases(layer):
    assert by_epoch("source-2012", layer, bias=False) == near((0, 0.01), (25, 0.001), (51, 0.0001), (79, 0.00001))
    assert by_epoch("source-2012", layer, bias=True) == near((0, 0.02))


def test_run_145_lowered_conv1_at_67_and_froze_it_at_72():
    expected = near((0, 0.01), (25, 0.001), (51, 0.0001), (67, 0.00001), (72, 0))
    assert by_epoch("source-2012", "conv1", bias=False) == expected
    assert by_epoch("source-2012", "conv1", bias=True) == near((0, 0.02), (72, 0))


@pytest.mark.parametrize(
    ("name", "tenth", "hundredth", "low", "frozen", "rest", "stopped"),
    [
        ("source-2012", 25, 51, 67, 72, 79, 91),
        ("source-2012-half", 20, 48, 66, 72, None, 96),
        ("source-2012-no-overlap", 23, 51, None, 79, 79, 90),
        ("source-2012-no-norm", 22, 44, 69, 73, 86, 97),
    ],
)
def test_each_run_of_2012_has_its_own_epochs(name, tenth, hundredth, low, frozen, rest, stopped):
    start = [(0, 0.01), (tenth, 0.001), (hundredth, 0.0001)]
    assert by_epoch(name, "conv1", False) == near(*start, *([(low, 0.00001)] if low else []), (frozen, 0))
    assert by_epoch(name, "fc8", False) == near(*start, *([(rest, 0.00001)] if rest else []))
    assert RECIPES[name].learning.epochs == stopped


def test_the_sixth_layer_follows_the_others():
    assert by_epoch("source-2012-conv6", "conv6", False) == by_epoch("source-2012-conv6", "conv2", False)


def test_every_layer_that_a_fixed_schedule_names_exists():
    for name, recipe in RECIPES.items():
        learned = {layer.name for layer in LINEAGES[name].layers if layer.learns}
        named = {layer for change in recipe.learning.changes for layer in change.layers}
        assert named <= learned | {"conv6"}
        assert {layer for layer, _ in recipe.learning.layer_decay} <= learned


@pytest.mark.parametrize("name", ["caffe", "caffenet"])
def test_caffe_divides_by_ten_every_hundred_thousand_steps(name):
    drops = ((0, 0.01), (20, 0.001), (40, 0.0001), (60, 0.00001), (80, 0.000001))
    assert by_epoch(name, "conv3", bias=False) == near(*drops)
    assert by_epoch(name, "fc6", bias=True) == near(*((epoch, 2 * rate) for epoch, rate in drops))


@pytest.mark.parametrize(
    ("name", "drops", "epochs"),
    [
        ("cifar-80sec", (8,), 10),
        ("cifar-18pct", (120, 130), 140),
        ("cifar-13pct", (140, 150), 160),
        ("cifar-11pct", (500, 510), 520),
    ],
)
def test_the_cifar_networks_drop_where_their_author_dropped_them(name, drops, epochs):
    expected = [(0, 0.001), *((epoch, 0.001 / 10 ** (i + 1)) for i, epoch in enumerate(drops))]
    assert by_epoch(name, "conv1", bias=False) == near(*expected)
    assert by_epoch(name, "fc10", bias=True) == near(*((epoch, 2 * rate) for epoch, rate in expected))
    assert RECIPES[name].learning.epochs == epochs


@pytest.mark.parametrize(("epochs", "expected"), [(90, (30, 60)), (9, (3, 6)), (45, (15, 30)), (180, (60, 120))])
def test_a_fixed_schedule_stretches_with_the_length_of_the_run(epochs, expected):
    learning = Learning(epochs=epochs, schedule="fixed", changes=(Change(30, 0.1), Change(60, 0.01)), planned_epochs=90)
    first = {epoch for epoch in range(epochs) if has_come(30, learning, epoch * STEPS, STEPS)}
    second = {epoch for epoch in range(epochs) if has_come(60, learning, epoch * STEPS, STEPS)}
    assert (min(first), min(second)) == expected
    rates = [at(learning, "fc8", False, epoch * STEPS) for epoch in range(epochs)]
    assert [rates.count(value) for value in dict.fromkeys(rates)] == [epochs // 3] * 3


@pytest.mark.parametrize("name", [name for name, recipe in RECIPES.items() if recipe.learning.schedule == "fixed"])
def test_in_a_run_of_the_planned_length_every_change_comes_with_its_epochs_first_step(name):
    learning = RECIPES[name].learning
    for change in learning.changes:
        assert has_come(change.epoch, learning, change.epoch * STEPS, STEPS)
        assert not has_come(change.epoch, learning, change.epoch * STEPS - 1, STEPS)


def test_a_run_of_one_epoch_begins_at_its_full_rate():
    learning = replace(RECIPES["source-2012"].learning, epochs=1)
    assert at(learning, "fc8", False, 0) == learning.rate


@pytest.mark.parametrize(("epochs", "until"), [(91, 67), (182, 134), (10, 7), (1, 1)])
def test_colour_shifts_end_where_a_run_of_this_length_has_come_as_far(epochs, until):
    recipe = RECIPES["source-2012"]
    assert stretched(recipe.images, replace(recipe.learning, epochs=epochs)).colour_until == until
    assert stretched(Images(), replace(recipe.learning, epochs=epochs)) == Images()


def test_of_changes_that_concern_a_layer_the_last_one_counts():
    learning = Learning(
        schedule="fixed",
        changes=(
            Change(1, 0.5),
            Change(2, 0.25, ("conv1",)),
            Change(3, 0.125, parameters="biases"),
            Change(4, 0.0, ("conv1", "fc8"), "weights"),
        ),
    )

    def factors(layer: str, bias: bool) -> list[float]:
        return [at(learning, layer, bias, epoch, steps_an_epoch=1) / learning.rate for epoch in range(5)]

    assert factors("conv1", False) == [1, 0.5, 0.25, 0.25, 0]
    assert factors("conv1", True) == [1, 0.5, 0.25, 0.125, 0.125]
    assert factors("fc8", False) == [1, 0.5, 0.5, 0.5, 0]
    assert factors("conv2", True) == [1, 0.5, 0.5, 0.125, 0.125]
    assert factors("conv2", False) == [1, 0.5, 0.5, 0.5, 0.5]


def test_a_falling_schedule_warms_up_and_ends_just_above_nothing():
    learning = Learning(epochs=5, rate=0.01, schedule="falling")
    rates = [at(learning, "fc8", False, step, steps_an_epoch=40) for step in range(200)]
    for step, found in enumerate(rates):
        straight = 0.01 * (200 - step) / 200
        assert found == pytest.approx(straight * (step + 1) / 20 if step < 20 else straight, rel=1e-12)
    assert rates[-1] == pytest.approx(0.01 / 200)
    assert rates.index(max(rates)) == 19


@pytest.mark.parametrize("steps", [1, 2, 7, 19])
def test_a_falling_schedule_shorter_than_its_warm_up_still_learns(steps):
    learning = Learning(epochs=1, rate=0.01, schedule="falling")
    rates = [at(learning, "fc8", False, step, steps_an_epoch=steps) for step in range(steps)]
    assert all(0 < each <= 0.01 for each in rates)


def test_the_default_recipes_biases_fall_with_its_weights():
    learning = default_recipe(1000).learning
    for step in (0, 10, 100):
        assert at(learning, "conv1", True, step) == at(learning, "fc8", False, step)


def drops_at(errors: list[float], patience: int = 3) -> list[int]:
    """After how many epochs the rate is lowered."""
    counts = [tenths(errors[:epochs], patience) for epochs in range(len(errors) + 1)]
    return [epochs for epochs in range(1, len(counts)) if counts[epochs] > counts[epochs - 1]]


def test_an_error_that_never_improves_is_answered_three_times_and_no_more():
    assert drops_at([0.9] * 100) == [4, 7, 10]
    assert tenths([0.9] * 100, patience=3) == 3


def test_an_error_that_always_improves_keeps_the_rate():
    assert drops_at([1 - epoch / 100 for epoch in range(90)]) == []
    assert tenths([], patience=1) == 0


@pytest.mark.parametrize(
    ("errors", "patience", "expected"),
    [
        ([0.9, 0.8, 0.8, 0.8, 0.7, 0.7, 0.7, 0.7, 0.6], 3, [8]),  # an improvement begins the count anew
        ([0.5, 0.9, 0.8, 0.7, 0.6, 0.4, 0.5, 0.5, 0.5], 3, [4, 9]),  # only the best so far counts
        ([0.5, 0.5, 0.4, 0.4], 1, [2, 4]),
        ([0.5, 0.6, 0.6, 0.6, 0.6], 2, [3, 5]),
    ],
)
def test_a_stall_is_so_many_epochs_without_a_new_best(errors, patience, expected):
    assert drops_at(errors, patience) == expected


def test_the_papers_rate_follows_the_stalls_in_every_layer():
    learning = RECIPES["paper"].learning
    for layer in ("conv1", *OTHERS):
        for bias in (False, True):
            found = [at(learning, layer, bias, 5, [0.9] * epochs) for epochs in (0, 4, 7, 10, 90)]
            assert found == pytest.approx([0.01, 0.001, 0.0001, 0.00001, 0.00001], rel=1e-12)
