"""What differs between two recipes, in words."""

from dataclasses import replace

import pytest

from alexnet.training.comparison import Difference, compare
from alexnet.training.recipes import RECIPES, default_recipe

EVERY = [*RECIPES.values(), default_recipe(1000)]
PAPER, AS_RUN = RECIPES["paper"], RECIPES["source-2012"]


def test_the_paper_and_what_was_run_differ_in_what_is_known():
    found = {difference.what: (difference.one, difference.other) for difference in compare(PAPER, AS_RUN)}
    tenth = "0.1 x eigenvalue, on pixels between 0 and 1"
    as_run = "0.1 x square root of the eigenvalue, on 0 to 255, then divided by 1.1"
    positions = "images: positions of training patches, along each axis"
    key = {
        "norm1: alpha, before the plain sum": ("0.0001", "2e-05"),
        "norm2: alpha, before the plain sum": ("0.0001", "2e-05"),
        **{f"conv{number}: initial weights": ("N(0, 0.01²)", "N(0, 0.03²)") for number in (3, 4, 5)},
        "learning: rate of the biases, in rates of the weights": ("1", "2"),
        "learning: decay of the biases": ("yes", "no"),
        positions: ("32", "33"),
        "images: images that share one patch": ("1", "32"),
        "images: colour shifts": (tenth, as_run),
    }
    assert {what: found[what] for what in key} == key
    assert found["conv1: order of layers"] == (
        "convolution, rectifier, normalization across maps, max pooling",
        "convolution, normalization across maps, max pooling, rectifier",
    )
    assert "normalization within a map" in found["conv2: order of layers"][1]
    assert found["learning: changes of the rate"][1].startswith("epoch 25: all layers, weights x 0.1; epoch 51: ")
    assert (
        "epoch 72: conv1 frozen; epoch 79: conv2 to fc8's weights x 0.001" in found["learning: changes of the rate"][1]
    )
    assert {"learning: schedule", "learning: epochs", "images: order of the images"} <= set(found)
    assert "images: where the mean image is subtracted" in found
    assert not {"parameters", "input", "learning: batch", "learning: momentum", "learning: weight decay"} & set(found)


@pytest.mark.parametrize("recipe", EVERY, ids=lambda recipe: recipe.name)
def test_a_recipe_does_not_differ_from_itself(recipe):
    assert compare(recipe, replace(recipe, seed=5)) == []


@pytest.mark.parametrize("one", RECIPES)
def test_differences_are_the_same_from_both_sides(one):
    for other in RECIPES:
        forth = compare(RECIPES[one], RECIPES[other])
        back = {Difference(each.what, each.other, each.one) for each in compare(RECIPES[other], RECIPES[one])}
        assert set(forth) == back
        assert len(forth) == len(back)
        assert (one == other) == (not forth)
        assert all(each.one != each.other for each in forth)
