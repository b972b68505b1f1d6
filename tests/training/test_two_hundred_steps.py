"""Two hundred steps of the paper's network, in full size, lie over processes without changing its losses.

In float64; in float32 two towers have the very same losses, where they add up in the same order as one process: in
batches of eight images and more, with the paper's thousand classes. Any two other orders part within fifty steps of
float32 (docs/notebook.md). It takes half an hour:

    ALEXNET_FULL_SIZE=1 ALEXNET_TEST_LIMIT=3000 pytest FILE
"""

import os
from dataclasses import replace

import pytest
import torch
from resuming import Watching, begin, stopped

from alexnet.data.sources import open_dataset
from alexnet.kernels.compiled import AVAILABLE
from alexnet.runtime.devices import Machine
from alexnet.runtime.ranks import ALONE
from alexnet.runtime.run_folder import RunFolder
from alexnet.training.loop import Training
from alexnet.training.recipes import default_recipe
from company import together

STEPS = 200
LAYOUTS = {"two towers": (2, 2, 1), "two shares": (2, 1, 1), "two by two": (4, 2, 1), "hybrid": (2, 1, 2)}

pytestmark = pytest.mark.skipif(not os.environ.get("ALEXNET_FULL_SIZE"), reason="asked for by ALEXNET_FULL_SIZE=1")


def learned(ranks, path, towers, connected, classes=10, batch=8, kind=torch.float64):
    """The losses of `STEPS` steps, in means of a few."""
    digits = replace(open_dataset("digits"), classes=tuple(map(str, range(classes))))
    machine = Machine(torch.device("cpu"), kind, "for comparison")
    Training._save = lambda self, needed=False: None  # the weights are a gigabyte, and nobody asks for them
    recipe = default_recipe(1000, reflects=False).altered({
        "learning.batch": str(batch), "learning.epochs": "2", "parallel.connected": str(connected),
    })  # fmt: skip
    run = begin(recipe, digits, path, Watching(STEPS), None, ranks.divided(towers * connected), machine)
    run.line_every = 5
    assert stopped(run)
    return [event["loss"] for event in RunFolder(path).events() if event["event"] == "training"] if ranks.first else []


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    losses = learned(ALONE, tmp_path_factory.mktemp("alone") / "run", 1, 1)
    assert len(losses) >= STEPS // 5 and losses[-1] < 0.8 * losses[0], "it learns"
    return losses


@pytest.mark.parametrize("layout", LAYOUTS)
def test_two_hundred_steps_have_the_same_losses(alone, tmp_path, layout):
    world, towers, connected = LAYOUTS[layout]
    losses, *_ = together(world, learned, tmp_path / "run", towers, connected)
    apart = [abs(one - other) / one for one, other in zip(alone, losses, strict=True)]
    print(layout, [f"{each:.0e}" for each in apart])
    assert max(apart) < 1e-9


@pytest.mark.skipif(not AVAILABLE, reason="without Numba convolutions add up in another order")
def test_two_towers_have_the_same_losses_in_float32(tmp_path):
    given = 1000, 14, torch.float32  # no batch is smaller
    alone = learned(ALONE, tmp_path / "alone", 1, 1, *given)
    towers, *_ = together(2, learned, tmp_path / "towers", 2, 1, *given)
    assert len(alone) >= STEPS // 5 and alone[-1] < 0.8 * alone[0], "it learns"
    assert towers == alone
