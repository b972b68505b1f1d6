"""Judging over any number of processes: every image once, and the numbers of one process to the bit."""

import shutil
from unittest.mock import patch

import numpy as np
import pytest
import torch

from alexnet.data.augment import Images
from alexnet.data.sources import open_dataset
from alexnet.data.statistics import Statistics
from alexnet.evaluation import predictions
from alexnet.judge import judge
from alexnet.network.towers import Towers
from alexnet.runtime.arrays import read_arrays
from alexnet.runtime.devices import Machine
from alexnet.runtime.ranks import ALONE
from company import commanded, complaints, in_turn, small, together


def judged(ranks, run, source, views, portion):
    predictions.PORTION = portion
    found = judge(run, open_dataset(str(source)), views, lambda what, done, total: None, ranks)
    return found.errors(), found.probabilities.numpy().tobytes()


@pytest.mark.parametrize("views", [1, 10])
@pytest.mark.parametrize(("world", "portion"), [(2, 4), (3, 1), (4, 4)])
def test_any_number_of_processes_says_what_one_does(pictures, finished_run, tmp_path, world, portion, views):
    """Six images in portions of four are two portions: two of four processes have nothing to judge."""
    runs = [shutil.copytree(finished_run, tmp_path / name) for name in ("one", "many")]
    ((alone,), many) = (
        together(count, judged, run, pictures, views, portion) for count, run in zip((1, world), runs, strict=True)
    )
    assert many == [alone] * world
    (one,), (kept,) = ([read_arrays(file) for file in (run / "predictions").iterdir()] for run in runs)
    assert {name: array.tobytes() for name, array in one.items()} == {n: a.tobytes() for n, a in kept.items()}


class Looked:
    """Made-up squares, which remember who was looked at."""

    def __init__(self, count):
        self.labels, self.seen = np.arange(count), []

    def __len__(self):
        return len(self.labels)

    def gather(self, numbers, pinned=False):
        self.seen.extend(numbers.tolist())
        pixels = np.random.default_rng(0).integers(0, 256, (len(self), 107, 107, 3), dtype=np.uint8)
        return pixels[numbers]


def predicted(ranks, over, hybrid, count, views):
    images, squares = Images(side=107, patch=99, positions=9), Looked(count)
    network = Towers(small("paper"), ranks.divided(over), hybrid).network(seed=3).double()
    measured = Statistics(np.full((107, 107, 3), 128, np.float32), np.ones(3), np.eye(3))
    machine, nobody = Machine(torch.device("cpu"), torch.float64, ""), lambda done, total: None
    with patch.object(predictions, "PORTION", 2):  # in this process, too, where other tests follow
        found = predictions.predict(network, squares, images, measured, machine, views, nobody, ranks.divided(over))
    return found.probabilities, squares.seen


@pytest.mark.parametrize(("world", "over", "hybrid"), [(2, 2, True), (4, 2, True), (4, 4, True), (2, 2, False)])
def test_a_divided_network_says_what_the_whole_one_does(world, over, hybrid):
    """Also where processes of a hybrid have no image, or one less than others; each looks at its own, or at one."""
    cases = [(count, views) for count in (1, 5, 8) for views in (1, 10)]
    every = in_turn(world, predicted, [(over, hybrid, *case) for case in cases])
    for (count, views), each in zip(cases, every, strict=True):
        assert all(torch.equal(found, each[0][0]) for found, _ in each), (count, views)
        alone, _ = predicted(ALONE, 1, False, count, views)
        torch.testing.assert_close(each[0][0], alone, rtol=1e-6, atol=0)  # sums of probabilities are in float32
        looked = [number for _, seen in each for number in seen]
        assert set(looked) == set(range(count)), (count, views)
        assert len(looked) <= (count + world if hybrid else count * over), (count, views)


def test_one_process_of_several_speaks(pictures, own_run, tmp_path):
    company = commanded(tmp_path / "said", 2, "evaluate", own_run, pictures)
    assert company.codes() == [0, 0], complaints(tmp_path / "said")
    said = [(tmp_path / "said" / str(rank)).read_text() for rank in (0, 1)]
    assert "judging" in said[0] and said[1] == ""


class OlderCheckpoint:
    """Rank 1 finds another checkpoint in its copy of the run."""

    def __call__(self, rank):
        from alexnet.classifier import Classifier

        load = Classifier.load.__func__

        def older(cls, run):
            loaded = load(cls, run)
            loaded.checkpoint = f"{loaded.checkpoint}-{rank}"
            return loaded

        Classifier.load = classmethod(older)


def test_processes_that_hold_other_weights_are_refused(pictures, own_run, tmp_path):
    company = commanded(tmp_path / "said", 2, "evaluate", own_run, pictures, change=OlderCheckpoint())
    assert company.codes() == [3, 3]
    (line,) = complaints(tmp_path / "said")
    assert line.startswith("alexnet evaluate: error: rank 1: has a checkpoint other than rank 0's")
