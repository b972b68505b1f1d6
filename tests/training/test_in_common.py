"""Shares of one machine that hold fully connected layers once between them learn what they learn by themselves."""

import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from resuming import Watching, begin, differing, left, stopped

from alexnet.data.augment import Alterations
from alexnet.data.batches import Portion
from alexnet.data.sources import open_dataset
from alexnet.data.statistics import Statistics
from alexnet.kernels.compiled import AVAILABLE
from alexnet.kernels.update_by_factors import fits, move_by_factors
from alexnet.network.layers import FullyConnected
from alexnet.network.towers import Towers
from alexnet.runtime import neighbours
from alexnet.runtime.devices import Machine
from alexnet.training import update
from alexnet.training.recipes import RECIPES
from alexnet.training.step import Step
from company import in_turn, small, together

BATCH, STEPS = 7, 3
RECIPE = RECIPES["paper"].altered({"learning.batch": str(BATCH), "network.initial": "scaled"})
IMAGES = replace(RECIPE.images, side=107, patch=99, positions=9)
KINDS = torch.float32, torch.bfloat16


def table():
    """Small; wide enough that batches of 7 pass all factors. Of fc8's two sixteens one of three processes has none."""
    known = small("paper")
    wide = [
        replace(layer, outputs=256 if layer.outputs == 128 else 32) if isinstance(layer, FullyConnected) else layer
        for layer in known.layers
    ]
    return replace(known, layers=tuple(wide))


def dawdling(step):
    """Make a process late: with the gradient for what enters fc6, and with its part of the update."""

    def wait(*given):
        time.sleep(0.1)
        return move_by_factors(*given)

    update.move_by_factors = wait
    fc6 = step.network.get_submodule("fc6")
    fc6.register_forward_hook(lambda layer, given, y: y.register_hook(lambda g: time.sleep(0.25)) and None)


def learned(ranks, towers, products, places, trust, late=False):
    """Weights and velocity after some steps, and whose rows are moved here; the last of the processes may be `late`."""
    neighbours._place = lambda: places[ranks.rank]
    ranks = ranks.divided(towers)
    machine = Machine(torch.device("cpu"), products, "for comparison")
    recipe = replace(RECIPE.altered({"learning.trust": str(trust)}), images=IMAGES)
    measured = Statistics(np.full((107, 107, 3), 128, np.float32), np.ones(3), np.eye(3))
    step = Step(recipe, Towers(table(), ranks), IMAGES, measured, machine)
    if late and ranks.rank == ranks.world - 1:
        dawdling(step)
    shares = np.array_split(np.arange(BATCH), ranks.shares)
    own, random = shares[ranks.share], np.random.default_rng(5)
    patches = random.integers(0, 256, (BATCH, 99, 99, 3), dtype=np.uint8)[own]
    done = Alterations(np.zeros((BATCH, 2), np.int64), random.random(BATCH) < 0.5, np.zeros((BATCH, 3), np.float32))
    batch = Portion(
        torch.from_numpy(patches), done.choose(own), own, random.integers(0, 32, BATCH)[own], int(own[0]), (len(own),),
        len(own) / BATCH, len(own) / BATCH, tuple(map(len, shares)), BATCH, True,
    )  # fmt: skip
    for number in range(STEPS):
        step(batch, number, lambda layer, bias: 0.01)
    for name, copy in step.network.named_parameters():
        assert torch.equal(copy, step.update.weights[name].to(products)), name
    held = step.update.weights, step.update.velocity
    return [{name: each.clone() for name, each in kind.items()} for kind in held], sorted(step.update._rows)


@pytest.mark.parametrize(("world", "towers", "places"), [(2, 1, "aa"), (3, 1, "aaa"), (4, 1, "abab"), (4, 2, "aaaa")])
def test_neighbours_learn_to_the_bit_what_they_learn_by_themselves(world, towers, places):
    asked = [(towers, kind, where, 0.0) for kind in KINDS for where in (places, "abcd")]
    results = in_turn(world, learned, asked)
    moving = [f"{layer}.weight" for layer in ("fc6", "fc7", "fc8")]
    for kind, between, apart in zip(KINDS, results[::2], results[1::2], strict=True):
        for rank in range(world):
            (found, together), (expected, alone) = between[rank], apart[rank]
            many = places.count(places[rank]) > 1 and fits(torch.empty(1, 16, dtype=kind))
            assert (together, alone) == (moving if many else [], [])
            for one, other in zip(found, expected, strict=True):
                assert one.keys() == other.keys()
                for name in one:
                    assert torch.equal(one[name], other[name]), (kind, rank, name)


def test_nobody_moves_what_another_one_reads_nor_reads_what_another_one_moves():
    asked = [(1, torch.float32, where, 0.0, late) for where, late in (("ab", False), ("aa", True), ("ab", True))]
    (expected, _), *others = (result[0] for result in in_turn(2, learned, asked))
    for found, _ in others:
        for one, other in zip(found, expected, strict=True):
            assert all(torch.equal(one[name], other[name]) for name in other)


def test_what_goes_by_the_size_of_gradients_is_not_divided():
    ((one, other),) = in_turn(2, learned, [(1, torch.float32, "aa", 0.001)])
    assert one[1] == other[1] == []
    assert all(torch.equal(one[0][0][name], other[0][0][name]) for name in one[0][0])


def ran(ranks, recipe, source, path, products, stop, apart):
    """Whether a run in `path` was stopped on the way, and how many weights it held in common."""
    if apart:
        neighbours._place = lambda: ""
    divided = max(recipe.parallel.towers, recipe.parallel.connected)
    display, machine = Watching(stop), Machine(torch.device("cpu"), products, "for comparison")
    run = begin(recipe, open_dataset(source), path, display, table(), ranks.divided(divided), machine)
    return stopped(run), len(run.update._rows)


@pytest.mark.skipif(not AVAILABLE, reason="Numba is not installed or switched off")
@pytest.mark.parametrize(
    ("world", "kind", "parallel"),
    [
        (2, torch.bfloat16, {"portion": "2"}),
        (4, torch.float32, {"towers": "2"}),
        (4, torch.float32, {"connected": "2", "portion": "4"}),
    ],
)
def test_whole_runs_and_resumed_ones_end_with_the_bits_of_those_by_themselves(
    pictures, tmp_path, world, kind, parallel
):
    changes = {f"parallel.{name}": number for name, number in parallel.items()}
    recipe = replace(RECIPE.altered({"learning.epochs": "2", **changes}), images=IMAGES)
    ends = [
        together(world, ran, recipe, str(pictures), tmp_path / name, kind, stop, name == "apart")
        for name, stop in (("apart", 0), ("in common", 0), ("stopped", 5), ("stopped", 0))
    ]
    held = 2 if fits(torch.empty(1, 16, dtype=kind)) else 0  # of fc6 and fc7; fc8 has three units here
    assert ends == [[(stop, held * common)] * world for stop, common in ((False, 0), (False, 1), (True, 1), (False, 1))]
    apart = left(tmp_path / "apart")
    assert differing(apart, left(tmp_path / "in common")) == differing(apart, left(tmp_path / "stopped")) == []
