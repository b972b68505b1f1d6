"""Images a second from each kind of store to a batch, against PyTorch's stock way, in one run.

    python benchmarks/input_pipeline.py [PHOTOS]

PHOTOS is a folder of class folders of photographs (made-up textures without it). Sides compared, interleaved, medians:

stock     ImageFolder's way on the same 256 x 256 JPEGs: Pillow, random crop and flip, to a float tensor, normalized;
          DataLoader with one worker a core
jpeg      a store of JPEGs: shuffled batches of patches, with their mean, mirror and shift to the float tensor, too
pixels    a store of pixels: the same (both check each record's CRC-32 on every reading)
bytes     both without that arithmetic, which is a GPU's where there is one
prepare   the photographs to a store of JPEGs, against `plain`, a loop over them with Pillow

Last line: one JSON object.
"""

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from alexnet.data.augment import Images
from alexnet.data.batches import Batches
from alexnet.data.preparation import Preparation
from alexnet.data.prepare import prepare
from alexnet.data.presentation import Presentation
from alexnet.data.sources import open_dataset
from alexnet.data.squares import Squares
from alexnet.data.statistics import Statistics
from alexnet.runtime.devices import this_machine
from stock import of_these

BATCH = 128
COUNT = 4096  # images in the stores that are read
REPEATS = 7
PAPER = Images(positions=32, colour="eigenvalue")


class StockFolder(TorchDataset[Any]):
    """ImageFolder with RandomCrop(224), RandomHorizontalFlip, ToTensor and Normalize, written out."""

    def __init__(self, files: list[Path]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        with self.files[number].open("rb") as file:
            image = Image.open(file).convert("RGB")
        top, left = torch.randint(0, 33, (2,)).tolist()
        image = image.crop((left, top, left + 224, top + 224))
        if torch.rand(1) < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().to(torch.float32).div(255)
        means, deviations = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (means, deviations))
        return tensor.sub_(mean).div_(deviation), 0


def made_up(folder: Path, count: int) -> None:
    """Textures with about the detail of photographs, 500 x 375."""
    random = np.random.default_rng(0)
    for number in range(count):
        layers = [random.normal(size=(375 // s + 1, 500 // s + 1, 3)).repeat(s, 0).repeat(s, 1) for s in (2, 8, 32)]
        pixels = sum(8 * s**0.5 * layer[:375, :500] for s, layer in zip((2, 8, 32), layers, strict=True))
        place = folder / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels + 127).clip(0, 255).astype(np.uint8)).save(place / f"{number}.jpg", quality=92)


def repeated(photos: Path, folder: Path, count: int) -> list[Path]:
    """The photographs as 256 x 256 JPEGs of quality 90, over and over, `count` of them, as files in class folders."""
    files = sorted(file for file in photos.glob("*/*") if file.is_file())
    stored = []
    for number in range(count):
        source = files[number % len(files)]
        target = folder / source.parent.name / f"{number:05}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        if number < len(files):
            image = Image.open(source).convert("RGB")
            scale = 256 / min(image.size)
            image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
            left, top = (image.width - 256) // 2, (image.height - 256) // 2
            image.crop((left, top, left + 256, top + 256)).save(target, quality=90)
        else:
            shutil.copyfile(stored[number - len(files)], target)
        stored.append(target)
    return stored


def plain_loop(photos: Path, folder: Path) -> int:
    """What people write: open, rescale, crop, save."""
    count = 0
    for file in sorted(photos.glob("*/*")):
        image = Image.open(file).convert("RGB")
        scale = 256 / min(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
        left, top = (image.width - 256) // 2, (image.height - 256) // 2
        (folder / file.parent.name).mkdir(parents=True, exist_ok=True)
        image.crop((left, top, left + 256, top + 256)).save(folder / file.parent.name / f"{file.stem}.jpg", quality=90)
        count += 1
    return count


def paced(count: int, work: Callable[[], object]) -> float:
    """Images a second of `work`, which handles so many."""
    started = time.perf_counter()
    work()
    return count / (time.perf_counter() - started)


def drained(iterator: Iterator[Any]) -> None:
    """Take everything."""
    for _ in iterator:
        pass


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", nargs="?", type=Path)
    options = parser.parse_args()
    machine = this_machine()
    photos_said = "photographs" if options.photos else "made-up textures"
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        photos = options.photos or folder / "photos"
        if not options.photos:
            made_up(photos, 256)
        files = repeated(photos, folder / "squares", COUNT)
        paces = measured(photos, files, folder, machine.device)
    medians = {name: median(values) for name, values in paces.items()}
    print(f"{machine}; batches of {BATCH}; medians of {REPEATS} interleaved, images/s (smallest to largest)")
    for name, values in paces.items():
        print(f"  {name:14} {medians[name]:10,.0f}   ({min(values):,.0f} to {max(values):,.0f})")
    ratios = {
        "pixels_to_stock": medians["pixels"] / medians["stock"],
        "jpeg_to_stock": medians["jpeg"] / medians["stock"],
        "prepare_to_plain": medians["prepare"] / medians["plain"],
    }
    for name, ratio in ratios.items():
        print(f"  {name:24} {ratio:6.2f}")
    figures = {name: round(value, 2) for name, value in (medians | ratios).items()}
    spread = {name: [min(values), max(values)] for name, values in paces.items()}
    print(json.dumps(of_these(machine) | figures | {"photos": photos_said, "repeats": REPEATS, "spread": spread}))


def measured(photos: Path, files: list[Path], folder: Path, device: torch.device) -> dict[str, list[float]]:
    """Every side, REPEATS times, in turn."""
    whole = open_dataset(str(folder / "squares"))
    for kind in ("jpeg", "pixels"):
        prepare(whole, folder / kind, Preparation(kind), lambda done, total: None)  # type: ignore[arg-type]
    workers = len(os.sched_getaffinity(0))
    stock = DataLoader(StockFolder(files), BATCH, shuffle=True, num_workers=workers, persistent_workers=True)
    drained(iter(stock))
    stores: dict[str, Batches] = {}
    for kind in ("jpeg", "pixels"):
        store = open_dataset(str(folder / kind))
        assert store.statistics
        statistics = Statistics.read(store.statistics)
        stores[kind] = Batches(Squares(store.training, 256, "cropped"), PAPER, statistics, 0, BATCH)
        drained(stores[kind].epoch(REPEATS))
    paces: dict[str, list[float]] = {}
    for repeat in range(REPEATS):
        paces.setdefault("stock", []).append(paced(len(files), lambda: drained(iter(stock))))
        shown = Presentation(PAPER, statistics, device)
        for kind, batches in stores.items():
            count = len(batches.squares)
            for side, portions in (
                (f"{kind} bytes", batches.epoch(repeat)),
                (kind, (shown(each.patches, each.done) for each in batches.epoch(repeat))),
            ):
                paces.setdefault(side, []).append(paced(count, lambda: drained(portions)))  # noqa: B023
        for side in ("plain", "prepare"):
            target = folder / f"{side}-{repeat}"
            source = open_dataset(str(photos))
            count = len(source.training) + len(source.held_out)
            work = (
                (lambda: plain_loop(photos, target))  # noqa: B023
                if side == "plain"
                else (lambda: prepare(source, target, Preparation("jpeg"), lambda done, total: None))  # noqa: B023
            )
            paces.setdefault(side, []).append(paced(count, work))
            shutil.rmtree(target)
    return paces


if __name__ == "__main__":
    main()
