"""A run from its first line to its result: read the pictures, make the folder, learn, judge."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alexnet.data.decode import Pixels
from alexnet.data.pictures import Dataset, check_learnable, fingerprints
from alexnet.data.squares import Squares
from alexnet.data.statistics import Statistics, statistics
from alexnet.kernels import choice
from alexnet.network.listing import totals
from alexnet.network.towers import Towers
from alexnet.runtime import checkpoint
from alexnet.runtime.arrays import read_arrays, write_arrays
from alexnet.runtime.devices import ARITHMETIC, Machine, environment, this_machine, version_of
from alexnet.runtime.errors import BadInputError
from alexnet.runtime.program import program
from alexnet.runtime.randomness import Purpose, numbers
from alexnet.runtime.ranks import ALONE, Ranks
from alexnet.runtime.run_folder import RunFolder
from alexnet.training.loop import Training
from alexnet.training.progress import Display
from alexnet.training.recipe import Recipe, differences

STATISTICS = "statistics.safetensors"
EXAMPLES = "examples.safetensors"
LEARNED_FROM = "learned_from.safetensors"
SHOWN = 8  # pictures in the report, as in Figure 4


def train(
    recipe: Recipe, dataset: Dataset, path: Path, display: Display, *, resume: bool = False, ranks: Ranks = ALONE
) -> dict[str, Any]:
    """Train `recipe` on `dataset` in the run folder `path` and give what `result.json` holds.

    With `resume` the run there goes on from its newest whole checkpoint; a finished run is left as it is. Of several
    `ranks` the first one reads and writes the folder.
    Raises UsageError for a recipe that cannot work, or not over so many ranks; BadInputError for pictures that cannot
    be learned from, a folder that holds another run, recipe or data, or ranks that do not agree about what is to be
    done; and whatever `Training.run` raises.
    """
    recipe.check()
    check_learnable(dataset)
    machine = this_machine()
    ranks.agree({
        "a recipe": json.dumps(recipe.to_dict()), "pictures or classes": dataset.digest, "a program": program(),
        "a precision of products": str(machine.products), "a kind of processor": machine.kind,
        **{f"a version of {name}": str(version_of(name)) for name in ARITHMETIC},
        "compiled kernels": str(choice.notice(machine.device)),
    })  # fmt: skip
    parallel = recipe.parallel
    hybrid = parallel.connected > 1
    ranks = ranks.divided(max(parallel.towers, parallel.connected), "connected" if hybrid else "towers")
    folder = RunFolder(path)
    with _opened(folder, resume) if ranks.first else nullcontext(False) as begun:
        if begun:
            _check_same_run(folder, recipe, dataset)
        complete = begun and (path / "result.json").exists()
        if done := ranks.from_first(folder.read_json("result.json") if complete else None):
            display.tell(f"{path}: complete already")
            result: dict[str, Any] = done | {"run": str(path)}
            return result
        return _train(recipe, dataset, folder, begun, display, machine, ranks)


@contextmanager
def _opened(folder: RunFolder, resume: bool) -> Iterator[bool]:
    """Keep other processes out of the folder, which is made if need be; whether a run was begun there."""
    if resume and not folder.path.is_dir():
        raise BadInputError(f"{folder.path}: no run to resume; leave --resume out to begin one")
    begun = resume and folder.exists()
    if not begun:  # also a run that was stopped before its first step
        folder.create()
    with folder.locked():
        yield begun


def _train(
    recipe: Recipe, dataset: Dataset, folder: RunFolder, begun: bool, display: Display, machine: Machine, ranks: Ranks
) -> dict[str, Any]:
    """`begun`, which rank 0 knows: whether the folder holds a run, which is gone on with."""
    display.tell(f"found {dataset.found}: {len(dataset.classes)} classes, {len(dataset.training):,} pictures to learn "
                 f"from, {len(dataset.held_out):,} to be judged by ({dataset.judged_by})")  # fmt: skip
    table = recipe.network.build().with_classes(len(dataset.classes))
    towers = Towers(table, ranks, hybrid=recipe.parallel.connected > 1)  # refuses what cannot be divided
    parameters = totals(table)["parameters"]
    display.tell(f"recipe {recipe.name}: lineage {table.name}, {parameters:,} parameters, {recipe.learning.epochs} "
                 f"epochs of batches of {recipe.learning.batch}; on {machine}{ranks}")  # fmt: skip
    shared = "processes share a GPU here: exact, but what they exchange goes the long way; start one for each GPU"
    about = choice.notice(machine.device), shared if ranks.sharing else None
    for notice in (*dataset.notices, *about, *_about_batches(recipe, towers, dataset)):
        if notice:
            display.say(notice)
    if dataset.shape and dataset.shape != recipe.images.shape:
        display.say(f"the store was {dataset.shape}, the recipe says {recipe.images.shape}: the store's it is")
    if not len(dataset.held_out):
        raise BadInputError(f"{dataset.found}: has no pictures to be judged by; add some, or leave the split to us")
    if not len(dataset.training):
        raise BadInputError(f"{dataset.found}: has pictures to be judged by, and none to learn from; add those")
    training, held_out = _read(recipe, dataset, display)
    measured = _measured(recipe, dataset, training, folder if begun else None, display) if ranks.first else None
    measured = Statistics.from_bytes(ranks.bytes_from_first(measured.to_bytes() if measured else b""))
    now = environment(machine) | ({"processes": ranks.world} if ranks.world > 1 else {})
    if begun and ranks.first:
        _compare_machines(folder.read_json("environment.json"), now, display)
    elif ranks.first:
        _begin(folder, recipe, dataset, held_out, measured, now)
    run = Training(recipe, towers, training, held_out, measured, machine, folder, display)
    start = checkpoint.newest(folder.checkpoints, display.say) if ranks.first else None
    if start := ranks.from_first(start and str(start)):
        run.resume(Path(start))
        display.tell(f"going on after step {run.position.step:,} of {run.total_steps:,}")
    elif begun:
        display.say(f"{folder.path}: nothing was saved yet; from the first step")
    run.run()
    return _result(folder, recipe) if ranks.first else {}


def _about_batches(recipe: Recipe, towers: Towers, dataset: Dataset) -> Iterator[str]:
    """What people may not have meant by the size of their batches."""
    batch, group = min(recipe.learning.batch, len(dataset.training)), towers.lineage.group
    if recipe.learning.batch > batch:
        yield (
            f"a batch of {recipe.learning.batch:,} has room for all {batch:,} pictures: each epoch is one step; a "
            "smaller --learning.batch makes more"
        )
    if (busy := -(-batch // group)) < (processes := towers.ranks.shares * towers.parts):
        yield (
            f"a batch of {batch:,} gives {busy} of {processes} processes something to do: {group} images at least go "
            "to one; start fewer, or use a larger --learning.batch"
        )


def _result(folder: RunFolder, recipe: Recipe) -> dict[str, Any]:
    events = folder.events()
    judged = [event for event in events if event["event"] == "judging"][-1]
    result = {
        "run": str(folder.path),
        "top1_error": judged["top1_error"],
        "top5_error": judged["top5_error"],
        "views": 1,
        "epochs": recipe.learning.epochs,
        "images_per_second": float(np.median([e["images_per_second"] for e in events if e["event"] == "training"])),
    }
    folder.write_json("result.json", result)
    return result


def _measured(
    recipe: Recipe, dataset: Dataset, training: Squares, begun: RunFolder | None, display: Display
) -> Statistics:
    """The run's own, if it was begun, or the store's, where there is one of this size; measured otherwise."""
    if begun:
        return Statistics.read(begun.path / STATISTICS)
    if dataset.statistics:
        known = Statistics.read(dataset.statistics)
        if known.mean.shape[0] == recipe.images.side:
            return known
    return statistics(training, lambda done, total: display.work("mean image", done, total))


def _begin(
    folder: RunFolder, recipe: Recipe, dataset: Dataset, held_out: Squares, measured: Statistics, now: dict[str, Any]
) -> None:
    """Write what a run begins with; the recipe last, since a folder with a recipe is a run."""
    folder.write_json("classes.json", list(dataset.classes))
    measured.write(folder.path / STATISTICS)
    _write_examples(folder, held_out, recipe.seed)
    write_arrays(folder.path / LEARNED_FROM, {"fingerprints": fingerprints(dataset.training.keys)})
    folder.write_json("environment.json", now)
    described = {"found": dataset.found, "judged_by": dataset.judged_by, "digest": dataset.digest}
    counts = {"training": len(dataset.training), "held_out": len(dataset.held_out)}
    folder.write_json("data.json", described | counts)
    folder.write_json("recipe.json", recipe.to_dict())


def read_examples(folder: RunFolder) -> tuple[Pixels, NDArray[np.int64]]:
    """The run's example pictures, uint8[E, side, side, 3], and their labels, int64[E]. Raises BadInputError."""
    try:
        arrays = read_arrays(folder.path / EXAMPLES)
        return arrays["squares"], arrays["labels"]
    except KeyError as error:
        raise BadInputError(f"{folder.path / EXAMPLES}: lacks {error}; train again") from error


def _write_examples(folder: RunFolder, held_out: Squares, seed: int) -> None:
    """Keep a few held-out pictures for the report, chosen by the seed, so that the run is complete in itself."""
    count = min(SHOWN, len(held_out))
    chosen = np.sort(numbers(seed, Purpose.PICTURES_TO_SHOW).choice(len(held_out), count, replace=False))
    arrays: dict[str, NDArray[Any]] = {"squares": held_out.gather(chosen), "labels": held_out.labels[chosen]}
    write_arrays(folder.path / EXAMPLES, arrays)


def _compare_machines(before: dict[str, Any], now: dict[str, Any], display: Display) -> None:
    if changed := [name for name in (*now, *(before.keys() - now)) if now.get(name) != before.get(name)]:
        display.say(
            f"not where this run began ({', '.join(changed)} differ): it goes on, but no longer to the same bits"
        )


def _read(recipe: Recipe, dataset: Dataset, display: Display) -> tuple[Squares, Squares]:
    images = recipe.images
    training = Squares(dataset.training, images.side, images.shape)
    held_out = Squares(dataset.held_out, images.side, images.shape)
    training.keep(lambda done, total: display.work("reading pictures", done, total))
    held_out.keep(lambda done, total: display.work("reading held-out pictures", done, total))
    return training, held_out


def _check_same_run(folder: RunFolder, recipe: Recipe, dataset: Dataset) -> None:
    before = Recipe.from_json(folder.read_text("recipe.json"), str(folder.path / "recipe.json"))
    if changed := [name for name in differences(before, recipe) if not name.startswith("parallel.")]:
        raise BadInputError(
            f"{folder.path}: was begun with another recipe ({', '.join(changed)} differ); "
            "resume with the same one, or name another --run"
        )
    if folder.read_json("data.json")["digest"] != dataset.digest:
        raise BadInputError(
            f"{folder.path}: was begun with other pictures or classes; resume with the same data, or name another --run"
        )
