"""Folders of class folders, with or without `train/` and `val/`."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from alexnet.data.decode import read
from alexnet.data.layouts.splits import HELD_OUT, TRAINING
from alexnet.data.pictures import Dataset, Pictures, hidden_file, hidden_folder, hold_out
from alexnet.runtime.errors import BadInputError

# Names that tell a picture. What a file really is, its content decides; the rest (readme.txt) is nobody's picture.
ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".jpe", ".jfif")


def looks_like_folders(path: Path) -> bool:
    """Whether `path` has folders in it that are not hidden."""
    return any(_folders(path))


def read_folders(path: Path) -> Dataset:
    """Read class folders; hidden files and folders are passed over, classes are in the order of their names.

    Raises BadInputError for an empty class, a class that only the held-out folder has, a held-out folder alone.
    """
    # A folder that is called train but holds pictures is a class: of trains.
    names = {folder.name.lower(): folder for folder in _folders(path) if looks_like_folders(folder)}
    training = next((names[name] for name in TRAINING if name in names), None)
    held_out = next((names[name] for name in HELD_OUT if name in names), None)
    flat = next((f for f in _folders(path) if training and f != training and f.name.lower() in HELD_OUT), None)
    if flat and held_out is None:
        raise BadInputError(f"{flat}: holds no class folders; sort its pictures into folders as in {training}")
    if training is None or held_out is None:
        if held_out and len(_folders(path)) == 1:
            raise BadInputError(
                f"{path}: has {held_out.name}/ but nothing to learn from; name {held_out} to judge by it"
            )
        all_of_them = read_classes(training or path)
        divided = hold_out(f"{len(all_of_them.classes)} class folders", all_of_them.classes, all_of_them.pictures)
        beside = _beside(path, (training,)) if training else ()
        return replace(divided, notices=passed_over_notices(all_of_them.passed_over) + beside)
    own, others = read_classes(training), read_classes(held_out)
    if unknown := sorted(set(others.classes) - set(own.classes)):
        raise BadInputError(f"{held_out / unknown[0]}: class is not in {training}; add it there or remove it here")
    renumbered = np.array([own.classes.index(name) for name in others.classes], dtype=np.int64)
    judged = replace(others.pictures, labels=renumbered[others.pictures.labels])
    found = f"{training.name}/ and {held_out.name}/ with {len(own.classes)} class folders"
    notices = passed_over_notices([*own.passed_over, *others.passed_over]) + _beside(path, (training, held_out))
    return Dataset(found, own.classes, own.pictures, judged, f"the pictures in {held_out.name}/", notices=notices)


class Read(NamedTuple):
    """What class folders hold: their names, their pictures, and the names of files that are no pictures."""

    classes: tuple[str, ...]
    pictures: Pictures
    passed_over: list[str]


def read_classes(root: Path) -> Read:
    """The class folders in `root`, and their pictures. Raises BadInputError for an empty class."""
    classes = tuple(folder.name for folder in _folders(root))
    keys: list[str] = []
    labels: list[int] = []
    passed_over = [entry.path for entry in os.scandir(root) if entry.is_file() and not hidden_file(entry.name)]
    for label, name in enumerate(classes):
        files = list(_files(root, name))
        members = [file for file in files if file.lower().endswith(ENDINGS)]
        if not members:
            raise BadInputError(f"{root / name}: class folder without pictures; add some or remove the folder")
        passed_over += [f"{root}/{file}" for file in files if not file.lower().endswith(ENDINGS)]
        keys += members
        labels += [label] * len(members)
    numbers = np.array(labels, dtype=np.int64)
    return Read(classes, Pictures(numbers, keys, f"{root}/", lambda i: read(root / keys[i])), sorted(passed_over))


def _folders(path: Path) -> list[Path]:
    return sorted(entry for entry in path.iterdir() if entry.is_dir() and not hidden_folder(entry.name))


def _files(root: Path, folder: str) -> Iterator[str]:
    """The files below a class folder, named from `root` on. Names only: a million paths would fill the memory."""
    seen: set[str] = set()
    for parent, folders, files in os.walk(root / folder, onerror=_refuse, followlinks=True):
        place = os.path.realpath(parent)
        if place in seen:
            raise BadInputError(f"{parent}: a link to a folder that is read already; remove it")
        seen.add(place)
        folders[:] = sorted(name for name in folders if not hidden_folder(name))
        below = Path(parent).relative_to(root).as_posix()
        yield from (f"{below}/{name}" for name in sorted(files) if not hidden_file(name))


def _refuse(error: OSError) -> None:
    raise BadInputError(f"{error.filename}: cannot be read: {error.strerror}; check its permissions") from error


def _beside(path: Path, used: Iterable[Path]) -> tuple[str, ...]:
    """Folders beside `train/` and `val/` that are not looked at, told in a line each."""
    return tuple(f"passed over: {folder}/, which is beside them" for folder in _folders(path) if folder not in used)


def passed_over_notices(passed_over: list[str]) -> tuple[str, ...]:
    """Files that were not taken for pictures, told in a line."""
    if not passed_over:
        return ()
    more = f" and {len(passed_over) - 1:,} more" if len(passed_over) > 1 else ""
    return (f"passed over, since their names are no pictures': {passed_over[0]}{more}",)
