"""Section 2: any source to a store. Interrupted anywhere and begun again, it ends with the same bytes.

A shard is the unit of work: its pictures are chosen beforehand, its file and then its part (index rows, names, sums)
are written whole, and what is written already is not made again. Nothing depends on threads or times.
"""

import json
import shutil
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from alexnet.data.making import PARTS, SKIPPED, Making
from alexnet.data.pictures import Dataset, check_learnable
from alexnet.data.preparation import Preparation
from alexnet.data.squares import Progress, threads_here
from alexnet.data.store import FORMAT, MANIFEST, PLAN, check_files, read_manifest
from alexnet.runtime.commit import remove_leftovers, unfinished, write_whole
from alexnet.runtime.errors import BadInputError, UsageError
from alexnet.runtime.lock import locked
from alexnet.runtime.memory import keep_memory
from alexnet.runtime.randomness import Purpose, numbers
from alexnet.runtime.shelf import Shelf


@dataclass(frozen=True)
class Prepared:
    """What came of it: pictures in the store, how many of them were made now, those left out (name and reason)."""

    images: int
    made: int
    skipped: list[tuple[str, str]]


def prepare(
    dataset: Dataset, path: Path, how: Preparation, progress: Progress, skip: int = 0, threads: int | None = None
) -> Prepared:
    """Make the store `path`, or go on with it.

    skip   how many damaged pictures may be left out

    Raises UsageError for another shape than that of a store it is made from; BadInputError for pictures that cannot be
    learned from, a damaged one beyond those, a damaged store, or another preparation in
    the folder; MachineError when the machine refuses: what is done so far stays, and the same call goes on with it.
    """
    how.check()
    if dataset.shape and how.shape != dataset.shape:
        raise UsageError(f"--shape: {how.shape}; the source is a store, whose squares are {dataset.shape} already")
    check_learnable(dataset)
    if skip < 0:
        raise UsageError(f"--skip-bad: {skip}; is at least 0")
    keep_memory()
    _check_ours(path)
    with locked(path):
        plan = {"format": FORMAT, **asdict(how), "source": dataset.digest}
        if (path / MANIFEST).exists():
            manifest = read_manifest(Shelf(str(path)))
            if any(manifest[name] != value for name, value in plan.items()):
                raise BadInputError(f"{path}: is a store of something else, or made otherwise; name another folder")
            check_files(Shelf(str(path)))
            _tidy(path)
            return Prepared(_images(manifest), 0, _read_skipped(path))
        order = dataset.training.shuffled(numbers(0, Purpose.STORE))
        _begin(path, plan | {"order": sha256(order.astype("<i8").tobytes()).hexdigest()})
        making = Making(dataset, path, how, order, progress, skip, threads or threads_here())
        manifest = making.run(plan)
        _tidy(path)
        return Prepared(_images(manifest), making.made, making.skipped)


def _check_ours(path: Path) -> None:
    """Refuse a folder that holds something else, before anything in it is touched."""
    found = {entry.name for entry in path.iterdir()} if path.is_dir() else set()
    if set(map(unfinished, found)) - {".lock", PLAN} and not found & {PLAN, MANIFEST}:
        raise BadInputError(f"{path}: is not empty and holds no store; name another folder")


def _begin(path: Path, plan: dict[str, Any]) -> None:
    """Write the plan, or find the same one there."""
    if (path / PLAN).exists():
        if not _same(path / PLAN, plan):
            raise BadInputError(
                f"{path}: holds the beginning of another preparation (other pictures or other options); "
                "finish it with those, remove it, or name another folder"
            )
        remove_leftovers(path)
        return
    write_whole(path / PLAN, json.dumps(plan, indent=2) + "\n")


def _same(path: Path, plan: dict[str, Any]) -> bool:
    try:
        found: bool = json.loads(path.read_text()) == plan
    except (OSError, ValueError):
        return False
    return found


def _tidy(path: Path) -> None:
    """Remove what only an unfinished store needs."""
    remove_leftovers(path)
    shutil.rmtree(path / PARTS, ignore_errors=True)
    (path / PLAN).unlink(missing_ok=True)


def _images(manifest: dict[str, Any]) -> int:
    return sum(split["images"] for split in manifest["splits"].values())


def _read_skipped(path: Path) -> list[tuple[str, str]]:
    lines = (json.loads(line) for line in (path / SKIPPED).read_text().splitlines())
    return [(line["picture"], line["fault"]) for line in lines]
