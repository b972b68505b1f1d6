"""Two hundred steps of the paper's network, in full size, lie over processes without changing its losses.

In float64: in float32 any two orders of sums part within fifty steps, one process with another number of threads among
them (docs/notebook.md). Takes half an hour: `ALEXNET_FULL_SIZE=1 ALEXNET_TEST_LIMIT=3000 pytest FILE`.
"""

import os

import pytest
import torch
from resuming import Watching, begin, stopped

from alexnet.data.sources import open_dataset
from alexnet.runtime.devices import Machine
from alexnet.runtime.ranks import ALONE
from alexnet.runtime.run_folder import RunFolder
from alexnet.training.loop import Training
from alexnet.training.recipes import default_recipe
from company import together

STEPS, BATCH = 200, 8
FLOAT64 = Machine(torch.device("cpu"), torch.float64, "for comparison")
LAYOUTS = {"two towers": (2, 2, 1), "two shares": (2, 1, 1), "two by two": (4, 2, 1), "hybrid": (2, 1, 2)}

pytestmark = pytest.mark.skipif(not os.environ.get("ALEXNET_FULL_SIZE"), reason="asked for by ALEXNET_FULL_SIZE=1")


def learned(ranks, path, towers, connected):
    """The losses of `STEPS` steps, in means of a few."""
    Training._save = lambda self, needed=False: None  # the weights are a gigabyte, and nobody asks for them
    recipe = default_recipe(1000, reflects=False).altered({
        "learning.batch": str(BATCH), "learning.epochs": "2", "parallel.connected": str(connected),
    })  # fmt: skip
    run = begin(recipe, open_dataset("digits"), path, Watching(STEPS), None, ranks.divided(towers * connected), FLOAT64)
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
