"""The loop: stopped after any step it ends with the same bits, and it says when learning is not what happens."""

import json
import math
import signal
from dataclasses import replace
from itertools import islice

import pytest
import torch
from resuming import Watching, begin, differing, left, stopped

from alexnet.data.batches import Batches
from alexnet.runtime import checkpoint
from alexnet.runtime.errors import DivergedError
from alexnet.runtime.run_folder import RunFolder
from alexnet.training import loop
from alexnet.training.progress import Display
from alexnet.training.recipe import Change
from alexnet.training.train import train

STEPS = 12  # three epochs of four


def test_an_undisturbed_run_tells_each_step_and_each_epoch_once(undisturbed):
    events = undisturbed["events"]
    assert [event["step"] for event in events if event["event"] == "training"] == list(range(1, STEPS + 1))
    assert [event["epoch"] for event in events if event["event"] == "judging"] == [1, 2, 3]
    assert undisturbed["state"]["step"] == STEPS and undisturbed["checkpoint"] == f"step-{STEPS:09}"
    assert undisturbed["state"]["errors"] == [event["top1_error"] for event in events if event["event"] == "judging"]


def test_the_same_run_again_leaves_the_same_bits_another_seed_others(recipe, dataset, lineage, undisturbed, tmp_path):
    assert not stopped(begin(recipe, dataset, tmp_path / "again", Watching(), lineage))
    assert differing(left(tmp_path / "again"), undisturbed) == []
    assert not stopped(begin(replace(recipe, seed=1), dataset, tmp_path / "other", Watching(), lineage))
    assert "weight conv1.weight" in differing(left(tmp_path / "other"), undisturbed)


@pytest.mark.parametrize("stop", range(1, STEPS + 1))
def test_stopped_after_any_step_and_resumed_it_leaves_its_bits(recipe, dataset, lineage, undisturbed, tmp_path, stop):
    assert stopped(begin(recipe, dataset, tmp_path / "run", Watching(stop), lineage))
    assert left(tmp_path / "run")["state"]["step"] == stop, "the step was finished and saved"
    assert not stopped(begin(recipe, dataset, tmp_path / "run", Watching(), lineage))
    assert differing(left(tmp_path / "run"), undisturbed) == []


def test_stopped_after_every_single_step_it_leaves_the_same_bits(recipe, dataset, lineage, undisturbed, tmp_path):
    for stop in range(1, STEPS + 1):
        assert stopped(begin(recipe, dataset, tmp_path / "run", Watching(stop), lineage))
    assert not stopped(begin(recipe, dataset, tmp_path / "run", Watching(), lineage))
    assert differing(left(tmp_path / "run"), undisturbed) == []


def test_each_step_draws_its_own_dropout_masks_also_after_resuming(recipe, dataset, lineage, tmp_path):
    drawn = []
    for stop in (5, 0):
        run = begin(recipe, dataset, tmp_path / "run", Watching(stop), lineage)
        run.network.register_forward_pre_hook(
            lambda network, given: drawn.append(given[1]) if network.training else None
        )
        assert stopped(run) == bool(stop)
    masks = [run.network.masks(recipe.seed, step) for step in range(STEPS)]
    assert [(here.seeds, here.row, here.tower) for here in drawn] == [(each, 0, 0) for each in masks]
    assert len({int(each) for each in masks}) == STEPS


class Signalled:
    """A step during whose `number`th portion, from 1, a signal comes."""

    def __init__(self, run, number):
        self.run, self.step, self.left = run, run.step, number

    def __call__(self, *what):
        self.left -= 1
        if self.left == 0:
            self.run.interruption.signal_number = signal.SIGTERM
        return self.step(*what)


@pytest.mark.parametrize("number", [1, 2, 5, 8])
def test_stopped_between_portions_it_stands_at_the_last_whole_step(recipe, dataset, lineage, tmp_path, number):
    """Portions of four of a batch of eight are two; what was computed of a batch is forgotten, and computed again."""
    portioned = recipe.altered({"parallel.portion": "4"})
    assert not stopped(begin(portioned, dataset, tmp_path / "undisturbed", Watching(), lineage))
    run = begin(portioned, dataset, tmp_path / "run", Watching(), lineage)
    assert len(run.batches) * 2 == sum(1 for _ in run.batches.epoch(0))
    run.step = Signalled(run, number)
    assert stopped(run)
    assert left(tmp_path / "run")["state"]["step"] == number // 2
    assert not stopped(begin(portioned, dataset, tmp_path / "run", Watching(), lineage))
    assert differing(left(tmp_path / "run"), left(tmp_path / "undisturbed")) == []


def test_what_it_saves_by_the_clock_is_a_step_not_a_portion(recipe, dataset, lineage, tmp_path, monkeypatch):
    """Every portion is late here: each step is saved once, when it is whole."""
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)
    saved = []
    run = begin(recipe.altered({"parallel.portion": "4"}), dataset, tmp_path / "run", Watching(), lineage)
    save = run._save
    run._save = lambda needed=False: saved.append(run.position.step) or save(needed)
    assert not stopped(run)
    assert sorted(set(saved)) == list(range(1, STEPS + 1)) and len(saved) == STEPS + 3, "an epoch's end once more"


class Unseeked(Batches):
    """Begins each epoch at its first batch, wherever the run stands: the mistake that resuming invites."""

    def epoch(self, epoch, first_step=0):
        return islice(super().epoch(epoch), len(self) - first_step)


def test_the_control_shows_that_a_loader_which_does_not_go_to_its_place_is_noticed(
    recipe, dataset, lineage, undisturbed, tmp_path
):
    assert stopped(begin(recipe, dataset, tmp_path / "run", Watching(6), lineage))
    run = begin(recipe, dataset, tmp_path / "run", Watching(), lineage)
    run.batches.__class__ = Unseeked
    assert not stopped(run)
    assert {"events", "velocity conv1.weight", "weight conv1.weight"} <= set(
        differing(left(tmp_path / "run"), undisturbed)
    )


def test_the_control_shows_that_a_forgotten_velocity_is_noticed(recipe, dataset, lineage, undisturbed, tmp_path):
    assert stopped(begin(recipe, dataset, tmp_path / "run", Watching(6), lineage))
    run = begin(recipe, dataset, tmp_path / "run", Watching(), lineage)
    for velocity in run.update.velocity.values():
        velocity.zero_()
    assert not stopped(run)
    assert "weight conv1.weight" in differing(left(tmp_path / "run"), undisturbed)


def test_a_loss_that_is_no_longer_finite_ends_the_run_before_the_step_and_the_last_checkpoint_stays(
    small_recipe, dataset, tmp_path
):
    change = (Change(1, 1e12),)
    learning = replace(small_recipe.learning, epochs=4, changes=change, planned_epochs=4)
    with pytest.raises(
        DivergedError, match=r"the loss is (nan|inf) at step \d+ .*; .*smaller --learning\.rate"
    ) as told:
        train(replace(small_recipe, learning=learning), dataset, tmp_path / "run", Display(quiet=True))
    assert told.value.exit_code == 5
    newest = checkpoint.newest(tmp_path / "run" / "checkpoints")
    assert newest.name == "step-000000004", "the end of the epoch before"
    saved = checkpoint.load(newest)
    assert all(torch.isfinite(tensor).all() for tensor in (*saved.weights.values(), *saved.velocity.values()))
    assert not (tmp_path / "run" / "result.json").exists()


def test_a_network_that_is_no_longer_finite_is_never_saved_and_never_called_faultless(small_recipe, dataset, tmp_path):
    recipe = small_recipe.altered({"learning.batch": "30", "learning.rate": "1e38", "learning.epochs": "1"})
    with pytest.raises(DivergedError, match=r"probabilities: not finite; .*smaller --learning\.rate"):
        train(recipe, dataset, tmp_path / "run", Display(quiet=True))
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []
    assert [event for event in RunFolder(tmp_path / "run").events() if event["event"] == "judging"] == []


def test_a_loss_that_stays_at_chance_is_said_once(small_recipe, dataset, tmp_path):
    tiny = {"learning.rate": "1e-9", "learning.batch": "1", "learning.epochs": "8"}
    recipe = small_recipe.altered(tiny)
    display = Watching(stop_after=loop.FLAT_STEPS + 20)
    assert stopped(begin(recipe, dataset, tmp_path / "run", display))
    again = Watching()
    assert not stopped(begin(recipe, dataset, tmp_path / "run", again))
    notices = [event for event in RunFolder(tmp_path / "run").events() if event["event"] == "notice"]
    assert len(notices) == 1 and notices[0]["step"] == loop.FLAT_STEPS
    assert f"ln(3) = {math.log(3):.2f}" in notices[0]["text"]
    assert display.said == [notices[0]["text"]] and again.said == []


def test_a_network_that_learns_is_not_told_that_it_does_not(small_recipe, dataset, tmp_path):
    recipe = small_recipe.altered({"learning.batch": "1", "learning.epochs": "8"})
    display = Watching()
    assert not stopped(begin(recipe, dataset, tmp_path / "run", display))
    assert display.said == []
    assert left(tmp_path / "run")["state"]["errors"][-1] == 0


def test_a_run_is_saved_on_the_way_when_an_epoch_is_long(recipe, dataset, lineage, undisturbed, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)
    saves = []
    display = Watching()
    display.step = lambda *_: saves.append(checkpoint.newest(tmp_path / "run" / "checkpoints"))
    assert not stopped(begin(recipe, dataset, tmp_path / "run", display, lineage))
    assert [path.name for path in saves[1:]] == [f"step-{step:09}" for step in range(1, STEPS)]
    assert differing(left(tmp_path / "run"), undisturbed) == []


def test_a_run_killed_between_its_last_save_and_its_result_needs_no_step_more(small_recipe, dataset, own_run):
    result = json.loads((own_run / "result.json").read_text())
    (own_run / "result.json").unlink()
    before = left(own_run)
    again = train(small_recipe, dataset, own_run, Display(quiet=True), resume=True)
    assert {**again, "run": result["run"]} == result and differing(left(own_run), before) == []
