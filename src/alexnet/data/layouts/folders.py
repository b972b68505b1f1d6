"""Folders of class folders, with or without `train/` and `val/`, or names that tell as much."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from alexnet.data.decode import read
from alexnet.data.layouts.splits import HELD_OUT, TRAINING, split_of
from alexnet.data.pictures import Dataset, Pictures, hidden_file, hidden_folder, hold_out
from alexnet.runtime.errors import BadInputError

# Names that tell a picture. What a file really is, its content decides; the rest (readme.txt) is nobody's picture.
ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".jpe", ".jfif")


def looks_like_folders(path: Path) -> bool:
    """Whether `path` has folders in it that are not hidden."""
    return any(_folders(path))


def read_folders(path: Path) -> Dataset:
    """Read class folders; hidden files and folders are passed over, classes are in the order of their names.

    Raises BadInputError for an empty class, a class that only the held-out folder has, a held-out folder alone, and a
    folder that is found a second time by a link.
    """
    training, held_out = _splits(path)
    flat = next((f for f in _folders(path) if f.name.lower() in HELD_OUT and not _is_unlabelled(f)), None)
    if flat and training and held_out is None:
        raise BadInputError(f"{flat}: holds no class folders; sort its pictures into folders as in {training}")
    if training is None or held_out is None:
        if held_out:
            raise BadInputError(
                f"{path}: has {held_out.name}/ but nothing to learn from; name {held_out} to judge by it"
            )
        all_of_them = read_classes(training or path)
        divided = hold_out(f"{len(all_of_them.classes)} class folders", all_of_them.classes, all_of_them.pictures)
        beside = _beside(path, (training,)) if training else ()
        return replace(divided, notices=passed_over_notices(all_of_them.passed_over) + beside)
    seen: dict[str, str] = {}
    own, others = read_classes(training, seen), read_classes(held_out, seen)
    if unknown := sorted(set(others.classes) - set(own.classes)):
        raise BadInputError(f"{held_out / unknown[0]}: class is not in {training}; add it there or remove it here")
    renumbered = np.array([own.classes.index(name) for name in others.classes], dtype=np.int64)
    judged = replace(others.pictures, labels=renumbered[others.pictures.labels])
    found = f"{training.name}/ and {held_out.name}/ with {len(own.classes)} class folders"
    notices = passed_over_notices([*own.passed_over, *others.passed_over]) + _beside(path, (training, held_out))
    return Dataset(found, own.classes, own.pictures, judged, f"the pictures in {held_out.name}/", notices=notices)


def _splits(path: Path) -> tuple[Path | None, Path | None]:
    """The folders of class folders to learn from and to be judged by: `train` and `val`, or the words in their names
    where these tell both (`training_set`, `test_set`): a `bullet train` alone is a class.

    A folder that is called train but holds pictures is a class: of trains.
    """
    folders = [folder for folder in _folders(path) if looks_like_folders(folder)]
    exact = {folder.name.lower(): folder for folder in folders}
    told = {split_of(folder.name): folder for folder in reversed(folders)} | exact
    named, worded = _preferred(exact), _preferred(told)
    return worded if all(worded) and not all(named) else named


def _preferred(names: dict[str, Path]) -> tuple[Path | None, Path | None]:
    training = next((names[name] for name in TRAINING if name in names), None)
    return training, next((names[name] for name in HELD_OUT if name in names), None)


class Read(NamedTuple):
    """What class folders hold: their names, their pictures, and the names of files that are no pictures."""

    classes: tuple[str, ...]
    pictures: Pictures
    passed_over: list[str]


def read_classes(root: Path, seen: dict[str, str] | None = None) -> Read:
    """The class folders in `root`, and their pictures.

    seen   what the data set's folders that are read already really are, and their names

    Raises BadInputError for an empty class, and a folder that is read already.
    """
    seen = {} if seen is None else seen
    _see(str(root), seen)
    classes = tuple(folder.name for folder in _folders(root))
    keys: list[str] = []
    labels: list[int] = []
    passed_over = [entry.path for entry in os.scandir(root) if entry.is_file() and not hidden_file(entry.name)]
    for label, name in enumerate(classes):
        files = list(_files(root, name, seen))
        members = [file for file in files if _is_picture(file)]
        if not members:
            raise _without_pictures(root / name, files)
        passed_over += [f"{root}/{file}" for file in files if not _is_picture(file)]
        keys += members
        labels += [label] * len(members)
    numbers = np.array(labels, dtype=np.int64)
    return Read(classes, Pictures(numbers, keys, f"{root}/", lambda i: read(root / keys[i])), sorted(passed_over))


def _folders(path: Path) -> list[Path]:
    return sorted(entry for entry in path.iterdir() if entry.is_dir() and not hidden_folder(entry.name))


def _is_picture(file: str) -> bool:
    return file.lower().endswith(ENDINGS)


def _without_pictures(folder: Path, files: list[str]) -> BadInputError:
    if not files:
        return BadInputError(f"{folder}: class folder without pictures; add some or remove the folder")
    first = files[0].partition("/")[2]
    return BadInputError(
        f"{folder}: class folder without pictures that can be read ({first} is none by its name); convert them to JPEG "
        "or PNG, or remove the folder"
    )


def _files(root: Path, folder: str, seen: dict[str, str]) -> Iterator[str]:
    """The files below a class folder, named from `root` on. Names only: a million paths would fill the memory."""
    for parent, folders, files in os.walk(root / folder, onerror=_refuse, followlinks=True):
        _see(parent, seen)
        folders[:] = sorted(name for name in folders if not hidden_folder(name))
        below = Path(parent).relative_to(root).as_posix()
        yield from (f"{below}/{name}" for name in sorted(files) if not hidden_file(name))


def _see(folder: str, seen: dict[str, str]) -> None:
    """Links may lead to a folder twice, or around in a circle; which of two is the link, their reader sees."""
    place = os.path.realpath(folder)
    if place in seen:
        raise BadInputError(f"{folder}: the same folder as {seen[place]}, which is read already; remove the link")
    seen[place] = folder


def _refuse(error: OSError) -> None:
    raise BadInputError(f"{error.filename}: cannot be read: {error.strerror}; check its permissions") from error


def _beside(path: Path, used: Iterable[Path]) -> tuple[str, ...]:
    """Folders beside `train/` and `val/` that are not looked at, told in a line each."""
    return tuple(f"passed over: {folder}/, {_why(folder)}" for folder in _folders(path) if folder not in used)


def _why(folder: Path) -> str:
    alone = "which holds no class folders: its pictures have no labels"
    return alone if _is_unlabelled(folder) else "which is beside them"


def _is_unlabelled(folder: Path) -> bool:
    """Contests hand out their test pictures so; a `val` without class folders is a mistake."""
    return folder.name.lower() == "test" and not looks_like_folders(folder)


def passed_over_notices(passed_over: list[str]) -> tuple[str, ...]:
    """Files that were not taken for pictures, and pictures of no class, told in a line each."""
    kinds = {"their names are no pictures'": False, "they lie in no class folder": True}
    named = {why: [file for file in passed_over if _is_picture(file) == kind] for why, kind in kinds.items()}
    return tuple(f"passed over, since {why}: {_some(files)}" for why, files in named.items() if files)


def _some(files: list[str]) -> str:
    return files[0] + (f" and {len(files) - 1:,} more" if len(files) > 1 else "")
