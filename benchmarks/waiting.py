"""How long a training step waits for its pictures, from stores too large to be kept in memory.

    python benchmarks/waiting.py [PHOTOS]

`alexnet train` itself, the paper's network at full size in batches of 128, one epoch of each kind of store; the
waiting is what its journal says, the first step's too. PHOTOS is a folder of class folders of photographs (made-up
textures without it), stored over and over until they exceed what training keeps in memory.

Last line: one JSON object.
"""

import argparse
import json
import tempfile
from pathlib import Path

from alexnet.data.preparation import Preparation
from alexnet.data.prepare import prepare
from alexnet.data.sources import open_dataset
from alexnet.data.squares import IN_MEMORY
from alexnet.runtime.devices import this_machine
from alexnet.runtime.run_folder import RunFolder
from alexnet.training.progress import Display
from alexnet.training.recipes import RECIPES
from alexnet.training.train import train
from input_pipeline import made_up, repeated
from stock import of_these

COUNT = 7200  # four in five are learned from: 1.13 GB of squares
RECIPE = RECIPES["paper"].altered({"learning.epochs": "1", "learning.batch": "128"})


def waited(store: Path, run: Path) -> dict[str, float]:
    """Train on the store; images a second, seconds a step, the share that was waiting, of all and of the worst line."""
    dataset = open_dataset(str(store))
    assert len(dataset.training) * 256**2 * 3 > IN_MEMORY
    train(RECIPE, dataset, run, Display(quiet=True))
    lines = [event for event in RunFolder(run).events() if event["event"] == "training"]
    seconds = [line["seconds"] for line in lines]
    waits = [line["wait_seconds"] for line in lines]
    return {
        "images_per_second": len(dataset.training) / sum(seconds),
        "seconds_per_step": sum(seconds) / sum(line["steps"] for line in lines),
        "waiting": sum(waits) / sum(seconds),
        "worst_line": max(wait / second for wait, second in zip(waits, seconds, strict=True)),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", nargs="?", type=Path)
    options = parser.parse_args()
    figures = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        photos = options.photos or folder / "photos"
        if not options.photos:
            made_up(photos, 256)
        repeated(photos, folder / "squares", COUNT)
        for kind in ("pixels", "jpeg"):
            source = open_dataset(str(folder / "squares"))
            prepare(source, folder / kind, Preparation(kind), lambda done, total: None)  # type: ignore[arg-type]
            figures[kind] = waited(folder / kind, folder / f"run-{kind}")
    print(f"{this_machine()}; {RECIPE.name}, batches of {RECIPE.learning.batch}, {COUNT:,} squares of 256")
    for kind, found in figures.items():
        print(f"  {kind:6} {found['images_per_second']:7.1f} images/s, {found['seconds_per_step']:.3f} s a step, "
              f"{found['waiting']:.2%} waiting, at most {found['worst_line']:.2%} of a line")  # fmt: skip
    print(json.dumps(of_these(this_machine()) | figures))


if __name__ == "__main__":
    main()
