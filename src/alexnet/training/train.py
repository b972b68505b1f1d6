"""A run from its first line to its result: read the pictures, make the folder, learn, judge."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from alexnet.data.decode import Pixels
from alexnet.data.pictures import Dataset
from alexnet.data.squares import Progress, Squares
from alexnet.data.statistics import Statistics, statistics
from alexnet.network.alexnet import AlexNet
from alexnet.runtime import checkpoint
from alexnet.runtime.commit import write_whole
from alexnet.runtime.devices import Machine, environment, this_machine
from alexnet.runtime.errors import BadInputError
from alexnet.runtime.randomness import Purpose, numbers
from alexnet.runtime.run_folder import RunFolder
from alexnet.training.loop import Training
from alexnet.training.progress import Display
from alexnet.training.recipe import Recipe, differences

STATISTICS = "statistics.safetensors"
EXAMPLES = "examples.safetensors"
SHOWN = 8  # pictures in the report, as in Figure 4


def train(recipe: Recipe, dataset: Dataset, path: Path, display: Display, *, resume: bool = False) -> dict[str, Any]:
    """Train `recipe` on `dataset` in the run folder `path` and give what `result.json` holds.

    With `resume` the run there goes on from its newest whole checkpoint; a finished run is left as it is.
    Raises BadInputError when the folder holds another run, recipe or data, and whatever `Training.run` raises.
    """
    recipe.check()
    folder = RunFolder(path)
    if not resume:
        folder.create()
    elif not folder.exists():
        raise BadInputError(f"{path}: no run to resume; leave --resume out to begin one")
    with folder.locked():
        if resume:
            _check_same_run(folder, recipe, dataset)
            if (path / "result.json").exists():
                display.tell(f"{path}: complete already")
                result: dict[str, Any] = folder.read_json("result.json")
                return result
        return _train(recipe, dataset, folder, display, this_machine())


def _train(recipe: Recipe, dataset: Dataset, folder: RunFolder, display: Display, machine: Machine) -> dict[str, Any]:
    display.tell(f"found {dataset.found}: {len(dataset.classes)} classes, {len(dataset.training):,} pictures to learn "
                 f"from, {len(dataset.held_out):,} to be judged by ({dataset.judged_by})")  # fmt: skip
    table = recipe.network.build().with_classes(len(dataset.classes))
    parameters = sum(row.parameters for row in table.table())
    display.tell(f"recipe {recipe.name}: lineage {table.name}, {parameters:,} parameters, {recipe.learning.epochs} "
                 f"epochs of batches of {recipe.learning.batch}; on {machine}")  # fmt: skip
    training, held_out, measured = _read(recipe, dataset, display)
    if not folder.exists():
        folder.write_json("classes.json", list(dataset.classes))
        measured.write(folder.path / STATISTICS)
        _write_examples(folder, held_out, recipe.seed)
        folder.write_json("environment.json", environment(machine))
        folder.write_json("data.json", _described(dataset))
        # Last: a folder with a recipe is a run.
        folder.write_json("recipe.json", recipe.to_dict())
    network = AlexNet(table, seed=recipe.seed)
    run = Training(recipe, network, training, held_out, measured, machine, folder, display)
    if start := checkpoint.newest(folder.checkpoints, display.say):
        run.resume(start)
        display.tell(f"going on after step {run.position.step:,} of {run.total_steps:,}")
    judged = run.run()
    pace = [event["images_per_second"] for event in folder.events() if event["event"] == "training"]
    result = {
        "run": str(folder.path),
        "top1_error": judged["top1_error"],
        "top5_error": judged["top5_error"],
        "views": 1,
        "epochs": recipe.learning.epochs,
        "images_per_second": float(np.median(pace)),
    }
    folder.write_json("result.json", result)
    return result


def read_examples(folder: RunFolder) -> tuple[Pixels, NDArray[np.int64]]:
    """The run's example pictures, uint8[E, side, side, 3], and their labels, int64[E]. Raises BadInputError."""
    try:
        tensors = load((folder.path / EXAMPLES).read_bytes())
        return tensors["squares"], tensors["labels"]
    except (OSError, SafetensorError, KeyError) as error:
        raise BadInputError(f"{folder.path / EXAMPLES}: cannot be read ({error}); train again") from error


def _write_examples(folder: RunFolder, held_out: Squares, seed: int) -> None:
    """Keep a few held-out pictures for the report, chosen by the seed, so that the run is complete in itself."""
    count = min(SHOWN, len(held_out))
    chosen = np.sort(numbers(seed, Purpose.PICTURES_TO_SHOW).choice(len(held_out), count, replace=False))
    tensors: dict[str, NDArray[Any]] = {"squares": held_out.gather(chosen), "labels": held_out.labels[chosen]}
    write_whole(folder.path / EXAMPLES, save(tensors))


def _described(dataset: Dataset) -> dict[str, Any]:
    return {
        "found": dataset.found,
        "judged_by": dataset.judged_by,
        "digest": dataset.digest,
        "training": len(dataset.training),
        "held_out": len(dataset.held_out),
    }


def _read(recipe: Recipe, dataset: Dataset, display: Display) -> tuple[Squares, Squares, Statistics]:
    def progress(what: str) -> Progress:
        return lambda done, total: display.work(what, done, total)

    images = recipe.images
    training = Squares(dataset.training, images.side, images.shape)
    held_out = Squares(dataset.held_out, images.side, images.shape)
    training.keep(progress("reading pictures"))
    held_out.keep(progress("reading held-out pictures"))
    return training, held_out, statistics(training, progress("mean image"))


def _check_same_run(folder: RunFolder, recipe: Recipe, dataset: Dataset) -> None:
    before = Recipe.from_json(folder.read_text("recipe.json"), str(folder.path / "recipe.json"))
    if changed := differences(before, recipe):
        raise BadInputError(
            f"{folder.path}: was begun with another recipe ({', '.join(changed)} differ); "
            "resume with the same one, or name another --run"
        )
    if folder.read_json("data.json")["digest"] != dataset.digest:
        raise BadInputError(
            f"{folder.path}: was begun with other pictures or classes; resume with the same data, or name another --run"
        )
