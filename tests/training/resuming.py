"""A small training built by hand, so that a test can stop it after any step, and two runs compared to the bit."""

import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

from alexnet.data.pictures import Dataset
from alexnet.data.squares import Squares
from alexnet.data.statistics import statistics
from alexnet.network.layers import Dropout, FullyConnected, Normal, Rectifier
from alexnet.network.lineages import LINEAGES, Lineage
from alexnet.network.towers import Towers
from alexnet.runtime import checkpoint
from alexnet.runtime.devices import Machine, this_machine
from alexnet.runtime.errors import Interrupted
from alexnet.runtime.ranks import ALONE, Ranks
from alexnet.runtime.run_folder import RunFolder
from alexnet.training.loop import Training
from alexnet.training.progress import Display
from alexnet.training.recipe import Recipe

TIMES = ("images_per_second", "wait_seconds", "seconds", "seconds_per_step")


def with_dropout(name: str) -> Lineage:
    """A small lineage with what it lacks: a hidden layer under dropout."""
    known = LINEAGES[name]
    hidden = (FullyConnected("hidden", 24, weight=Normal(0.05)), Rectifier("relu_hidden"), Dropout("drop"))
    return replace(known, layers=(*known.layers[:-1], *hidden, known.layers[-1]))


class Watching(Display):
    """Asks for the end after a step, as a signal would, and remembers what it was told."""

    def __init__(self, stop_after: int = 0) -> None:
        super().__init__(quiet=True)
        self.stop_after = stop_after
        self.said: list[str] = []
        self.training: Training | None = None

    def say(self, text: str) -> None:
        self.said.append(text)

    def step(self, step: int, images_per_second: float, seconds_left: float) -> None:
        if step == self.stop_after and self.training:
            self.training.interruption.signal_number = signal.SIGTERM


def begin(
    recipe: Recipe,
    dataset: Dataset,
    path: Path,
    display: Watching,
    lineage: Lineage | None = None,
    ranks: Ranks = ALONE,
    machine: Machine | None = None,
) -> Training:
    """A training in `path` that stands at its newest checkpoint, or at its beginning."""
    folder = RunFolder(path)
    if ranks.first and not path.exists():
        folder.create()
    ranks.wait()
    sides = recipe.images.side, recipe.images.shape
    training, held_out = Squares(dataset.training, *sides), Squares(dataset.held_out, *sides)
    for squares in (training, held_out):
        squares.keep(lambda done, total: None)
    table = (lineage or recipe.network.build()).with_classes(len(dataset.classes))
    towers = Towers(table, ranks, hybrid=recipe.parallel.connected > 1)
    measured = statistics(training, lambda done, total: None)
    run = Training(recipe, towers, training, held_out, measured, machine or this_machine(), folder, display)
    if start := checkpoint.newest(folder.checkpoints):
        run.resume(start)
    display.training = run
    return run


def stopped(run: Training) -> bool:
    """Run it, and say whether it was stopped on the way."""
    try:
        run.run()
    except Interrupted as end:
        assert end.exit_code == 128 + signal.SIGTERM
        return True
    return False


def left(path: Path) -> dict[str, Any]:
    """All that a run left which must be the same to the bit: tensors as bytes, position, journal without times."""
    newest = checkpoint.newest(path / "checkpoints")
    assert newest is not None
    saved = checkpoint.load(newest)
    events = [{name: each[name] for name in each if name not in TIMES} for each in RunFolder(path).events()]
    tensors = {
        f"{part} {name}": tensor.numpy().tobytes()
        for part, tensors in (("weight", saved.weights), ("velocity", saved.velocity))
        for name, tensor in tensors.items()
    }
    return {"checkpoint": newest.name, "state": saved.state, "events": events, **tensors}


def differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The names of what differs between two of these."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
