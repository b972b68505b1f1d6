"""Folders of class folders, with or without `train/` and `val/`."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from alexnet.data.decode import read
from alexnet.data.pictures import Dataset, Pictures, check_classes, hold_out
from alexnet.runtime.errors import BadInputError

TRAINING = ("train", "training")
HELD_OUT = ("val", "validation", "valid", "test")
# Names that tell a picture. What a file really is, its content decides; the rest (readme.txt) is nobody's picture.
ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".jpe", ".jfif")


def looks_like_folders(path: Path) -> bool:
    """Whether `path` has folders in it that are not hidden."""
    return any(_folders(path))


def read_folders(path: Path) -> Dataset:
    """Read class folders; hidden files and folders are passed over, classes are in the order of their names.

    Raises BadInputError for an empty class, a class that only the held-out folder has, fewer than two classes.
    """
    # A folder that is called train but holds pictures is a class: of trains.
    names = {folder.name.lower(): folder for folder in _folders(path) if looks_like_folders(folder)}
    training = next((names[name] for name in TRAINING if name in names), None)
    held_out = next((names[name] for name in HELD_OUT if name in names), None)
    if training is None or held_out is None:
        classes, pictures = _pictures(training or path)
        check_classes(classes, pictures.labels, str(path))
        return hold_out(f"{len(classes)} class folders", classes, pictures)
    classes, pictures = _pictures(training)
    check_classes(classes, pictures.labels, str(training))
    others, judged = _pictures(held_out)
    if unknown := sorted(set(others) - set(classes)):
        raise BadInputError(f"{held_out / unknown[0]}: class is not in {training}; add it there or remove it here")
    renumbered = np.array([classes.index(name) for name in others], dtype=np.int64)
    judged = replace(judged, labels=renumbered[judged.labels])
    found = f"{training.name}/ and {held_out.name}/ with {len(classes)} class folders"
    return Dataset(found, classes, pictures, judged, f"the pictures in {held_out.name}/")


def _folders(path: Path) -> list[Path]:
    return sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith((".", "__")))


def _files(folder: Path) -> list[Path]:
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__")))
        found += [
            Path(parent, name) for name in sorted(files) if not name.startswith(".") and name.lower().endswith(ENDINGS)
        ]
    return found


def _pictures(root: Path) -> tuple[tuple[str, ...], Pictures]:
    classes = _folders(root)
    files: list[Path] = []
    labels: list[int] = []
    for label, folder in enumerate(classes):
        members = _files(folder)
        if not members:
            raise BadInputError(f"{folder}: class folder without pictures; add some or remove the folder")
        files += members
        labels += [label] * len(members)
    numbers = np.array(labels, dtype=np.int64)
    keys = [file.relative_to(root).as_posix() for file in files]
    return tuple(folder.name for folder in classes), Pictures(numbers, keys, f"{root}/", lambda i: read(files[i]))
