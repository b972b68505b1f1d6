"""Judging over any number of processes: every image once, and the numbers of one process to the bit."""

import shutil

import pytest

from alexnet.data.sources import open_dataset
from alexnet.evaluation import predictions
from alexnet.judge import judge
from alexnet.runtime.arrays import read_arrays
from company import commanded, complaints, together


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
