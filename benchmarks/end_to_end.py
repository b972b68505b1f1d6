"""What pictures cost a training step: steps on batches as training makes them, against steps on one that is there.

    python benchmarks/end_to_end.py [--lineage paper] [--batch 128] [--steps 20] [--repeats 5]

Both sides are the step that `alexnet train` takes, from the bytes of the patches to the update. `resident` has one
batch, on the device; `fetched` has those that the run's own threads choose and cut out of squares in memory, which a
GPU fetches. They take turns of so many steps, after three that do not count: batches made ahead are gone by then.
Last line: one JSON object, images a second.
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import repeat
from statistics import median

import numpy as np

from alexnet.data.batches import Batches, Portion
from alexnet.data.pictures import Pictures
from alexnet.data.squares import Squares
from alexnet.data.statistics import Statistics, statistics
from alexnet.network.towers import Towers
from alexnet.runtime.devices import Machine, this_machine
from alexnet.runtime.ranks import ALONE
from alexnet.training.recipe import Recipe
from alexnet.training.recipes import RECIPES
from alexnet.training.step import Step
from stock import finished, of_these

HELD = 2048  # squares in memory, more than any cache has; shown over and over
FIRST = 3  # steps of a turn that do not count


def pictures(side: int, count: int, classes: int) -> Squares:
    """So many pictures out of few squares of noise."""
    random = np.random.default_rng(0)
    held = random.integers(0, 256, (HELD, side, side, 3), np.uint8)
    labels = random.integers(0, classes, count)
    keys = [str(number) for number in range(count)]
    return Squares(Pictures(labels, keys, "", lambda number: held[number % HELD]), side, "cropped")


def seconds(step: Step, portions: Iterator[Portion], steps: int, machine: Machine) -> float:
    """Of one step, the mean of a turn."""
    for number in range(-FIRST, steps):
        if number == 0:
            finished(machine.device)
            started = time.perf_counter()
        step(next(portions), FIRST + number, lambda layer, bias: 0.01)
    finished(machine.device)
    return (time.perf_counter() - started) / steps


def sides_of(recipe: Recipe, machine: Machine, steps: int, repeats: int) -> dict[str, list[float]]:
    """Seconds of each side's step, turn by turn."""
    images, learning, table = recipe.images, recipe.learning, recipe.network.build()
    squares = pictures(images.side, learning.batch * (FIRST + steps), table.classes)
    few = Squares(squares.pictures.choose(np.arange(64)), images.side, "cropped")
    measured: Statistics = statistics(few, lambda done, total: None)
    step = Step(recipe, Towers(table, ALONE), images, measured, machine)
    pinned = machine.device.type == "cuda"
    batches = Batches(squares, images, measured, recipe.seed, learning.batch, group=table.group, pinned=pinned)
    one = next(batches.epoch(0))
    there = replace(one, patches=one.patches.to(machine.device))
    taken: dict[str, list[float]] = {"resident": [], "fetched": []}
    for turn in range(repeats):
        taken["resident"].append(seconds(step, repeat(there), steps, machine))
        taken["fetched"].append(seconds(step, batches.epoch(turn), steps, machine))
    return taken


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lineage", default="paper", choices=[name for name in RECIPES if name != "default"])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    machine = this_machine()
    recipe = RECIPES[options.lineage].altered({"learning.batch": str(options.batch)})
    taken = sides_of(recipe, machine, options.steps, options.repeats)
    paces = {name: options.batch / median(each) for name, each in taken.items()}
    spread = {name: [options.batch / max(each), options.batch / min(each)] for name, each in taken.items()}
    left = median(resident / fetched for resident, fetched in zip(*taken.values(), strict=True))
    turns = f"{options.repeats} turns of {options.steps} steps"
    print(f"{options.lineage}, batches of {options.batch}, on {machine}; {turns}")
    for name, pace in paces.items():
        print(f"  {name:9} {pace:9.1f} images/s ({spread[name][0]:.1f} to {spread[name][1]:.1f})")
    print(f"  {left:.1%} of the pace is left when pictures are fetched")
    record = of_these(machine) | paces | {"left": left, "spread": spread, "batch": options.batch}
    record |= {"lineage": options.lineage, "steps": options.steps, "repeats": options.repeats}
    print(json.dumps({name: round(v, 4) if isinstance(v, float) else v for name, v in record.items()}))


if __name__ == "__main__":
    main()
