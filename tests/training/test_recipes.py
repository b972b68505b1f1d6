"""Every recipe: its numbers, how they are set and checked, and how it is kept."""

import json
from dataclasses import fields, is_dataclass

import pytest

from alexnet.network.lineages import LINEAGES
from alexnet.runtime.errors import BadInputError, UsageError
from alexnet.training.recipe import Recipe, differences, settable
from alexnet.training.recipes import NAMES, RECIPES, default_recipe, recipe_named

EVERY = pytest.mark.parametrize("recipe", [*RECIPES.values(), default_recipe(1000)], ids=lambda recipe: recipe.name)
PAPER, AS_RUN = RECIPES["paper"], RECIPES["source-2012"]


def value(recipe: Recipe, dotted: str):
    for name in dotted.split("."):
        recipe = getattr(recipe, name)
    return recipe


def refusal(recipe: Recipe, name: str, text: str) -> str:
    with pytest.raises(UsageError) as refused:
        recipe.altered({name: text}).check()
    return str(refused.value)


@EVERY
def test_every_recipe_can_work(recipe):
    assert recipe.check() is recipe


@EVERY
def test_a_recipe_comes_back_from_json_as_it_was(recipe):
    again = Recipe.from_json(json.dumps(recipe.to_dict()), "recipe.json")
    assert again == recipe
    assert differences(again, recipe) == []


def test_what_an_older_version_did_not_write_has_its_default():
    assert Recipe.from_json(json.dumps(without("learning", "trust")), "recipe.json") == PAPER


def test_there_is_a_recipe_for_each_lineage_and_one_for_everyone():
    assert list(NAMES) == ["default", *LINEAGES]
    for name in LINEAGES:
        recipe = recipe_named(name, images=10)
        assert (recipe.name, recipe.network.lineage, recipe.network.initial) == (name, name, "lineage")
    assert recipe_named("default", images=10) == default_recipe(10)


def test_an_unknown_recipe_is_refused_with_the_nearest_one():
    with pytest.raises(UsageError, match=r"^--recipe: papper: no such recipe; did you mean paper\?$"):
        recipe_named("papper", images=10)


def test_the_papers_recipe_has_the_papers_numbers():
    learning, images = PAPER.learning, PAPER.images
    assert (learning.batch, learning.rate, learning.momentum, learning.decay) == (128, 0.01, 0.9, 0.0005)
    assert (learning.epochs, learning.schedule, learning.bias_rate, learning.bias_decay) == (90, "stall", 1, True)
    assert (images.side, images.patch, images.positions, images.reflections) == (256, 224, 32, True)
    assert (images.colour, images.colour_until, images.mean, images.scale) == ("eigenvalue", 0, "at-patch", 1)


@pytest.mark.parametrize("name", [name for name in LINEAGES if name.startswith("source-2012")])
def test_the_runs_of_2012_were_fed_as_run_145_was(name):
    learning, images = RECIPES[name].learning, RECIPES[name].images
    assert (learning.batch, learning.rate, learning.momentum, learning.decay) == (128, 0.01, 0.9, 0.0005)
    assert (learning.bias_rate, learning.bias_decay, learning.schedule) == (2, False, "fixed")
    assert (images.positions, images.patch_shared_by, images.order, images.mean) == (33, 32, "fixed", "centre")
    assert images.colour == "deviation"
    ends = {"source-2012-half": 66, "source-2012-no-overlap": 79, "source-2012-no-norm": 69}
    assert images.colour_until == ends.get(name, 67)


def test_caffe_and_the_cifar_networks_were_fed_their_own_way():
    caffe = RECIPES["caffe"]
    assert (caffe.learning.batch, caffe.images.patch, caffe.images.positions) == (256, 227, 30)
    assert (caffe.images.shape, caffe.images.mean, caffe.images.colour) == ("squashed", "at-patch", "none")
    decays = {
        "cifar-80sec": (0.004, {"fc64": 0.03, "fc10": 0.03}),
        "cifar-18pct": (0.004, {"fc10": 1}),
        "cifar-13pct": (0, {"local3": 0.004, "local4": 0.004, "fc10": 0.004}),
        "cifar-11pct": (0, {"local3": 0.004, "local4": 0.004, "fc10": 0.01}),
    }
    for name, (common, own) in decays.items():
        learning, images = RECIPES[name].learning, RECIPES[name].images
        assert (learning.decay, dict(learning.layer_decay), learning.batch) == (common, own, 128)
        cropped = name in ("cifar-13pct", "cifar-11pct")
        assert (images.side, images.patch, images.positions) == ((32, 24, 9) if cropped else (32, 32, 1))
        assert images.reflections == cropped


@pytest.mark.parametrize(
    ("images", "batch"),
    [(1, 16), (2879, 16), (2880, 32), (5759, 32), (5760, 64), (11_519, 64), (11_520, 128), (1_281_167, 128)],
)
def test_the_default_recipe_takes_a_batch_that_gives_some_ninety_steps_an_epoch(images, batch):
    assert default_recipe(images).learning.batch == batch


def test_the_default_recipe_mirrors_only_what_stays_of_its_class():
    assert recipe_named("default", 1000).images.reflections
    digits = recipe_named("default", 1000, reflects=False)
    assert differences(default_recipe(1000), digits) == ["images.reflections"]
    assert recipe_named("paper", 1000, reflects=False) == PAPER  # a historical recipe stays what it was


def test_every_setting_says_what_it_means_and_every_number_of_a_recipe_can_be_set():
    known = settable()
    asked_for_elsewhere = {"seed", "network.lineage", "learning.epochs", "learning.batch", "learning.rate"}
    assert asked_for_elsewhere | {"learning.momentum", "learning.decay", "parallel.towers"} <= set(known)
    plain = {
        f"{part.name}.{field.name}"
        for part in fields(Recipe)
        if is_dataclass(getattr(PAPER, part.name))
        for field in fields(getattr(PAPER, part.name))
        if not isinstance(getattr(getattr(PAPER, part.name), field.name), tuple)
    }
    assert set(known) == plain | {"seed"}
    assert [name for name, (_, meaning) in known.items() if not meaning] == []


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("seed", "7", 7),
        ("network.lineage", "caffe", "caffe"),
        ("network.initial", "scaled", "scaled"),
        ("images.side", "300", 300),
        ("images.reflections", "no", False),
        ("images.order", "fixed", "fixed"),
        ("images.scale", "0.5", 0.5),
        ("images.colour", "none", "none"),
        ("learning.epochs", "5", 5),
        ("learning.rate", "1e-3", 0.001),
        ("learning.bias_decay", "OFF", False),
        ("learning.schedule", "falling", "falling"),
        ("parallel.towers", "2", 2),
    ],
)
def test_a_number_set_by_its_dotted_name_is_the_only_one_that_changes(name, text, expected):
    altered = PAPER.altered({name: text})
    assert value(altered, name) == expected
    assert type(value(altered, name)) is type(expected)
    assert differences(PAPER, altered) == [name]
    assert value(PAPER, name) != expected  # what it was made from stays as it was


def test_several_numbers_are_set_at_once():
    altered = PAPER.altered({"learning.epochs": "5", "learning.batch": "16", "seed": "1"})
    assert differences(PAPER, altered) == ["seed", "learning.epochs", "learning.batch"]


@pytest.mark.parametrize("text", ["yes", "true", "On", "TRUE"])
def test_yes_may_be_said_in_several_words(text):
    assert RECIPES["cifar-18pct"].altered({"images.reflections": text}).images.reflections is True


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("learning.epochs", "five", "--learning.epochs: 'five' is not a whole number"),
        ("learning.epochs", "5.5", "--learning.epochs: '5.5' is not a whole number"),
        ("learning.rate", "fast", "--learning.rate: 'fast' is not a number"),
        ("learning.rate", "", "--learning.rate: '' is not a number"),
        ("images.reflections", "maybe", "--images.reflections: 'maybe' is not yes or no"),
        ("learning.schedule", "fixd", "--learning.schedule: 'fixd' is not a choice; did you mean fixed?"),
        ("images.colour", "x", "--images.colour: 'x' is not a choice; there are none, eigenvalue, deviation"),
        ("network.lineage", "cafe", "--network.lineage: 'cafe' is no lineage; did you mean caffe?"),
        ("learning.epoch", "5", "--learning.epoch: no such option; did you mean learning.epochs?"),
        ("learning", "5", "--learning: no such option; did you mean learning."),
        ("name", "mine", "--name: no such option; "),
        ("learning.changes", "x", "--learning.changes: no such option; "),
        ("learning.rate.x", "1", "--learning.rate.x: no such option; did you mean learning.rate?"),
    ],
)
def test_a_wrong_setting_is_refused_in_plain_words(name, text, said):
    assert refusal(PAPER, name, text).startswith(said)


@pytest.mark.parametrize(
    ("name", "texts", "rule"),
    [
        ("seed", ["-1"], "is a whole number from 0"),
        ("learning.epochs", ["0", "-3"], "is at least 1"),
        ("learning.batch", ["0", "65537"], "is between 1 and 65536"),
        ("learning.rate", ["0", "-0.1", "nan", "inf"], "is above 0"),
        ("learning.momentum", ["1", "-0.1", "nan"], "is at least 0 and below 1"),
        ("learning.decay", ["-1", "inf", "nan"], "is at least 0"),
        ("learning.bias_rate", ["-1", "nan"], "is at least 0"),
        ("learning.patience", ["0"], "is at least 1"),
        ("learning.planned_epochs", ["0"], "is at least 1"),
        ("learning.rate_for", ["-1"], "is at least 0"),
        ("learning.trust", ["-1", "nan"], "is at least 0"),
        ("learning.power", ["0", "inf"], "is above 0"),
        ("learning.warm_up", ["-1", "90"], "is at least 0, below learning.planned_epochs"),
        ("images.patch", ["227"], "is 224 for the lineage paper"),
        ("images.side", ["223", "4097"], "is at least images.patch, at most 4096"),
        (
            "images.positions",
            ["0", "34"],
            "is images.side - images.patch + 1, all places, or one less, as the paper counts them",
        ),
        ("images.patch_shared_by", ["0", "1" + 20 * "0"], "is at least 1, below 2147483648"),
        ("images.scale", ["0", "-1", "inf"], "is above 0"),
        ("images.colour_until", ["-1"], "is at least 0"),
        ("parallel.towers", ["0"], "is at least 1"),
        ("parallel.connected", ["0"], "is at least 1"),
        ("parallel.portion", ["-1"], "is at least 0"),
    ],
)
def test_a_number_that_cannot_work_is_refused_with_its_rule(name, texts, rule):
    for text in texts:
        expected = value(PAPER.altered({name: text}), name)
        assert refusal(PAPER, name, text) == f"--{name}: {rule}; the recipe paper has {expected}"


@pytest.mark.parametrize(
    ("name", "schedule"),
    [("learning.patience", "stall"), ("learning.warm_up", "falling"), ("learning.power", "falling")],
)
def test_a_number_that_the_schedule_does_not_look_at_is_refused_and_not_passed_over(name, schedule):
    for its in ("stall", "fixed", "falling"):
        recipe = PAPER.altered({"learning.schedule": its, name: "2"})
        if its == schedule:
            assert recipe.check_looked_at([name, "learning.rate"]) is recipe
            continue
        with pytest.raises(
            UsageError, match=f"^--{name}: the schedule {schedule} looks at it, and this run's is {its}"
        ):
            recipe.check_looked_at([name])


def test_a_lineage_of_another_size_needs_patches_of_its_size():
    assert refusal(PAPER, "network.lineage", "cifar-18pct").startswith("--images.patch: is 32 for the lineage cifar")


def without(part: str, name: str) -> dict:
    changed = PAPER.to_dict()
    del changed[part][name]
    return changed


@pytest.mark.parametrize(
    "content",
    [
        "",
        "not JSON",
        "5",
        "null",
        json.dumps(list(PAPER.to_dict())),
        json.dumps(PAPER.to_dict() | {"colour": "red"}),
        json.dumps(PAPER.to_dict() | {"seed": "0"}),
        json.dumps(PAPER.to_dict() | {"seed": True}),
        json.dumps(PAPER.to_dict() | {"seed": 0.5}),
        json.dumps(PAPER.to_dict() | {"network": list(PAPER.to_dict()["network"])}),
        json.dumps(PAPER.to_dict() | {"network": {"lineage": "paper", "initial": "guessed"}}),
        json.dumps(PAPER.to_dict() | {"network": None}),
        json.dumps(AS_RUN.to_dict()).replace('["conv1"]', '"conv1"'),
        json.dumps(AS_RUN.to_dict()).replace('"factor": 0.1', '"factor": "0.1"'),
        json.dumps(AS_RUN.to_dict()).replace('"factor": 0.1', '"factor": NaN'),
        json.dumps(AS_RUN.to_dict()).replace('"factor": 0.1', '"factor": -3'),
        json.dumps(PAPER.to_dict()).replace('"layer_decay": []', '"layer_decay": [["fc6", -1]]'),
        json.dumps(PAPER.to_dict()).replace('"side": 256', '"side": 40'),
        json.dumps(PAPER.to_dict()).replace('"patch": 224', '"patch": 250'),
        json.dumps(PAPER.to_dict()).replace('"scale": 1.0', '"scale": 0'),
        json.dumps(PAPER.to_dict()).replace('"rate": 0.01', '"rate": NaN'),
        json.dumps(PAPER.to_dict() | {"seed": -1}),
        json.dumps(PAPER.to_dict() | {"network": {"lineage": "papper"}}),
    ],
)
def test_what_is_no_recipe_is_refused_by_its_files_name(content):
    with pytest.raises(BadInputError, match=r"^runs/a/recipe\.json: not a recipe of this version \(.+\); train again$"):
        Recipe.from_json(content, "runs/a/recipe.json")
