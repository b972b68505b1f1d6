"""Memory and waiting with as many pictures as ImageNet has: prepare a store, open it, read shuffled batches.

    python benchmarks/million_pictures.py [COUNT]

The pictures are links to a hundred small ones in a thousand class folders: what is measured grows with their number,
not with their size. Memory is the process's own (RssAnon), looked at twenty times a second: without the page cache.
Opening is measured in the same process, straight after the store was made: its files are in the page cache.

Last line: one JSON object.
"""

import argparse
import json
import os
import tempfile
import time
from itertools import islice
from pathlib import Path
from threading import Thread

import numpy as np
from PIL import Image

from alexnet.data.augment import Images
from alexnet.data.batches import Batches
from alexnet.data.preparation import Preparation
from alexnet.data.prepare import prepare
from alexnet.data.sources import open_dataset
from alexnet.data.squares import Squares
from alexnet.data.statistics import Statistics
from alexnet.runtime.devices import this_machine
from stock import of_these

IMAGENET = 1_281_167
CLASSES, ORIGINALS, SIDE, BATCHES = 1000, 100, 64, 2000


class Peak:
    """The largest memory of this process since `taken` was last asked, in MB."""

    def __init__(self) -> None:
        self.highest = 0.0
        Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            status = Path("/proc/self/status").read_text()
            self.highest = max(self.highest, int(status.split("RssAnon:")[1].split()[0]) * 1024 / 1e6)
            time.sleep(0.05)

    def taken(self) -> float:
        time.sleep(0.1)
        highest, self.highest = self.highest, 0.0
        return highest


def made_up(folder: Path, count: int) -> Path:
    """So many links to a hundred small pictures."""
    random = np.random.default_rng(0)
    for number in range(ORIGINALS):
        pixels = random.integers(0, 256, (12, 16, 3)).astype(np.uint8)
        (folder / "originals").mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).resize((96, 72)).save(folder / "originals" / f"{number}.jpg")
    for number in range(count):
        place = folder / "source" / f"class {number % CLASSES:04}"
        if number < CLASSES:
            place.mkdir(parents=True)
        os.symlink(folder / "originals" / f"{number % ORIGINALS}.jpg", place / f"picture {number:08}.jpg")
    return folder / "source"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("count", nargs="?", type=int, default=IMAGENET)
    count = parser.parse_args().count
    figures: dict[str, float] = {"pictures": count}
    with tempfile.TemporaryDirectory() as place:
        source, store, peak = made_up(Path(place), count), Path(place) / "store", Peak()
        figures["before_mb"] = peak.taken()
        began = time.perf_counter()
        dataset = open_dataset(str(source))
        figures["opening_folders_s"], figures["opening_folders_mb"] = time.perf_counter() - began, peak.taken()
        began = time.perf_counter()
        prepare(dataset, store, Preparation("jpeg", SIDE), lambda done, total: None)
        figures["preparing_s"], figures["preparing_mb"] = time.perf_counter() - began, peak.taken()
        del dataset
        began = time.perf_counter()
        dataset = open_dataset(str(store))
        assert dataset.statistics
        images = Images(side=SIDE, patch=SIDE - 8, positions=8, colour="eigenvalue")
        squares = Squares(dataset.training, SIDE, "cropped")
        batches = Batches(squares, images, Statistics.read(dataset.statistics), 0, 128).epoch(0)
        next(batches)
        figures["opening_store_to_first_batch_s"] = time.perf_counter() - began
        for _ in islice(batches, BATCHES):
            pass
        figures["reading_mb"] = peak.taken()
        print(f"{this_machine()}")
        for name, value in figures.items():
            print(f"{name:32} {value:12,.2f}")
        print(json.dumps(of_these(this_machine()) | {name: round(value, 3) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
