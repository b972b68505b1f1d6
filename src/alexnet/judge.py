"""Section 6: judge a run on a dataset's held-out pictures, and keep what it said."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from alexnet.classifier import Classifier
from alexnet.data.pictures import Dataset, Pictures, fingerprints, joined
from alexnet.data.squares import Squares
from alexnet.evaluation.predictions import Predictions, predict
from alexnet.runtime.arrays import read_arrays, write_arrays
from alexnet.runtime.errors import BadInputError, MachineError
from alexnet.runtime.program import program
from alexnet.runtime.ranks import ALONE, Ranks
from alexnet.runtime.run_folder import RunFolder
from alexnet.training.train import LEARNED_FROM

Work = Callable[[str, int, int], None]
Say = Callable[[str], None]

DOUBT = "if they are the same pictures, this error is too small"


def judge(
    run: Path, dataset: Dataset, views: int, work: Work, ranks: Ranks = ALONE, say: Say | None = None
) -> Predictions:
    """What the run says about every held-out picture, once each; labels are in the run's own numbering.

    Several `ranks` judge a share each, and all are given the whole.

    The probabilities are kept in the run's `predictions` folder, by checkpoint, data and views, for the report; a
    picture may have changed under its name, so every evaluation looks again. Where they cannot be kept, `say` is told.
    Raises BadInputError when the classes are not the run's.
    """
    classifier = Classifier.load(run)
    ranks.agree({
        "a checkpoint": f"{classifier.checkpoint} {classifier.recipe}", "pictures or classes": dataset.digest,
        "views": str(views), "a program": program(), "a precision of products": str(classifier.machine.products),
    })  # fmt: skip
    pictures = renumbered(dataset, classifier.classes, run)
    kept = _place(run, classifier.checkpoint, dataset.digest, views)
    images = classifier.recipe.images
    squares = Squares(pictures, images.side, images.shape)
    judged = predict(
        classifier.network, squares, images, classifier.statistics, classifier.machine, views,
        lambda done, total: work(f"judging {run.name}", done, total), ranks,
    )  # fmt: skip
    if ranks.first:
        _keep(kept, judged, say)
    return judged


def unlearned(dataset: Dataset, runs: Sequence[Path]) -> Dataset:
    """The dataset to judge the runs by: pictures without a split of their own are judged whole, but for those that
    one of the runs learned from (known by their names, where half of the run's names are here).

    Raises BadInputError when none is left.
    """
    if not dataset.divided_here:
        if not len(dataset.held_out):
            raise BadInputError(f"{dataset.found}: has no pictures to be judged by; add some")
        return dataset
    everything = joined(dataset.training, dataset.held_out)
    own = fingerprints(everything.keys)
    learned = [read_arrays(run / LEARNED_FROM)["fingerprints"] for run in runs if RunFolder(run).exists()]
    # Another folder may use the same names; one that has half the names a run learned from is the run's own, changed.
    ours = [2 * np.isin(names, own).sum() >= len(names) for names in learned]
    known = _among(own, [names for names, its in zip(learned, ours, strict=True) if its])
    doubtful = int((_among(own, learned) & ~known).sum())
    new = np.flatnonzero(~known)
    if not len(new):
        raise BadInputError(f"{everything.where}: all these pictures were learned from; judge by others")
    digest = ""  # a store's own is of the pictures that it holds out
    if np.array_equal(new, np.arange(len(dataset.training), len(own))):
        words, digest = dataset.judged_by, dataset.known_digest
    elif known.any():
        words = f"all but the {known.sum():,} that were learned from, by their names"
    else:
        words = "all of them" if doubtful else "all of them: not the set that a run learned from"
    if doubtful:
        words += f"; {doubtful:,} have names that a run learned from: {DOUBT}"
    return replace(dataset, held_out=everything.choose(new), judged_by=words, known_digest=digest)


def kept_predictions(run: Path, step: str, digest: str) -> list[Predictions]:
    """What the run's checkpoint `step` is known to say about the data of that digest, by number of views."""
    known = (_read(_place(run, step, digest, views)) for views in (1, 10))
    return [predictions for predictions in known if predictions is not None]


def in_one_order(runs: Sequence[Path]) -> list[list[int]]:
    """For each run, the numbers by which it knows the first one's classes.

    Raises BadInputError when the runs did not learn the same classes: their probabilities have no average.
    """
    known = [RunFolder(run).classes() for run in runs]
    orders = []
    for run, classes in zip(runs, known, strict=True):
        numbers = {name: number for number, name in enumerate(classes)}
        if numbers.keys() != set(known[0]):
            raise BadInputError(f"{run}: learned other classes than {runs[0]}; average runs of the same classes")
        orders.append([numbers[name] for name in known[0]])
    return orders


def renumbered(dataset: Dataset, classes: tuple[str, ...], run: Path) -> Pictures:
    """The dataset's held-out pictures with labels in the run's numbering. Raises BadInputError for other classes."""
    known = {name: number for number, name in enumerate(classes)}
    if unknown := [name for name in dataset.classes if name not in known]:
        raise BadInputError(
            f"{run}: does not know the class {unknown[0]} of these pictures; it learned {len(classes)} classes, "
            f"{classes[0]} to {classes[-1]}"
        )
    numbers = np.array([known[name] for name in dataset.classes], dtype=np.int64)
    return replace(dataset.held_out, labels=numbers[dataset.held_out.labels])


def _among(own: NDArray[np.uint64], names: Sequence[NDArray[np.uint64]]) -> NDArray[np.bool_]:
    """Which of its own names are in any of the others."""
    return np.isin(own, np.concatenate(names)) if names else np.zeros(len(own), bool)


def _keep(place: Path, judged: Predictions, say: Say | None) -> None:
    """For the report alone: what was judged is given, whether or not the run's folder can be written."""
    try:
        write_arrays(place, {name: np.asarray(value) for name, value in vars(judged).items()})
    except MachineError as error:
        if say:
            say(f"not kept: {error}")


def _place(run: Path, step: str, digest: str, views: int) -> Path:
    return run / "predictions" / f"{step}-{digest[:16]}-{views}-views.safetensors"


def _read(path: Path) -> Predictions | None:
    try:
        arrays = read_arrays(path)
        probabilities, labels = (torch.from_numpy(arrays[name]) for name in ("probabilities", "labels"))
        return Predictions(probabilities, labels, int(arrays["views"]))
    except (BadInputError, KeyError):  # not there yet, or not whole: judged again
        return None
