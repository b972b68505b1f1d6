"""ImageNet as Kaggle hands it out: class folders to learn from, one flat folder to be judged by, labels in a table."""

import csv
import io
import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from alexnet.data.decode import read, read_bytes
from alexnet.data.layouts.folders import ENDINGS, looks_like_folders, passed_over_notices, read_classes, read_folders
from alexnet.data.pictures import Dataset, Pictures, check_classes, hidden_file
from alexnet.runtime.errors import BadInputError

TOP, PLACE = "ILSVRC", Path("Data", "CLS-LOC")
TRAINING, HELD_OUT, UNLABELLED = "train", "val", "test"
ANSWERS = "LOC_val_solution.csv"
HEADER = ["ImageId", "PredictionString"]


def looks_like_kaggle(path: Path) -> bool:
    """Whether `path` holds `ILSVRC/Data/CLS-LOC`, or is the folder `ILSVRC` of it."""
    return _place(path).is_dir()


def read_kaggle(path: Path) -> Dataset:
    """Read Kaggle's folders. Classes are in the order of their WordNet ids.

    Raises BadInputError for what is missing, and naming the line or the picture where table and folder do not agree.
    """
    place = _place(path)
    for folder in (place / TRAINING, place / HELD_OUT):
        if not folder.is_dir():
            raise BadInputError(f"{folder}: missing; unpack Kaggle's archive whole")
    names = _flat_pictures(place / HELD_OUT)
    notices: tuple[str, ...] = ()
    if (place / UNLABELLED).is_dir():
        notices = (f"{place / UNLABELLED}: has no labels, passed over",)
    if not names and looks_like_folders(place / HELD_OUT):  # sorted into class folders by a well-known script
        sorted_ones = read_folders(place)
        return replace(sorted_ones, notices=(*sorted_ones.notices, *notices))
    classes, training, passed_over = read_classes(place / TRAINING)
    notices += passed_over_notices(passed_over)
    check_classes(classes, training.labels, str(place / TRAINING))
    held_out = _held_out(place / HELD_OUT, names, _answers_file(path), classes)
    found = f"ImageNet in Kaggle's folders, {len(classes):,} classes"
    return Dataset(found, classes, training, held_out, f"the validation images, labelled by {ANSWERS}", notices=notices)


def _place(path: Path) -> Path:
    return (path if (path / PLACE).is_dir() else path / TOP) / PLACE


def _answers_file(path: Path) -> Path:
    """The table lies beside the folder `ILSVRC`."""
    root = Path(os.path.abspath(path)).parent if (path / PLACE).is_dir() else path
    if not (root / ANSWERS).is_file():
        raise BadInputError(f"{root / ANSWERS}: missing, it has the validation images' labels; fetch it from Kaggle")
    return root / ANSWERS


def _flat_pictures(folder: Path) -> dict[str, str]:
    """The names of the pictures in it, by what the table calls them."""
    pictures: dict[str, str] = {}
    for name in sorted(entry.name for entry in os.scandir(folder) if not entry.is_dir()):
        if (
            not hidden_file(name)
            and name.lower().endswith(ENDINGS)
            and pictures.setdefault(Path(name).stem, name) != name
        ):
            raise BadInputError(f"{folder / name}: is {pictures[Path(name).stem]} too to the table; remove one of them")
    return pictures


def _held_out(folder: Path, names: dict[str, str], table: Path, classes: tuple[str, ...]) -> Pictures:
    labels = _labels(table, names, {name: label for label, name in enumerate(classes)}, folder)
    if unlabelled := sorted(set(names) - set(labels)):
        raise BadInputError(f"{folder / names[unlabelled[0]]}: has no row in {table}; fetch both from Kaggle again")
    files = [name for _, name in sorted((label, names[image]) for image, label in labels.items())]
    numbers = np.array(sorted(labels.values()), np.int64)
    keys = [f"{classes[label]}/{name}" for label, name in zip(numbers, files, strict=True)]
    return Pictures(numbers, keys, f"{folder}/", lambda i: read(folder / files[i]))


def _labels(table: Path, names: dict[str, str], classes: dict[str, int], folder: Path) -> dict[str, int]:
    """Each row's class by its image: `ILSVRC2012_val_00048981,n03995372 85 1 499 272 n03995372 ...`."""
    labels: dict[str, int] = {}
    text = read_bytes(table).decode("utf-8-sig", "surrogateescape")
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        if next(rows, []) != HEADER:
            raise ValueError(f"the header is not {','.join(HEADER)}")
        for row in filter(None, rows):
            image, named = _row(row)
            if named not in classes:
                raise ValueError(f"class {named} is not in {folder.parent / TRAINING}")
            if image not in names:
                raise ValueError(f"{folder} has no picture {image}")
            if image in labels:
                raise ValueError(f"{image} has a row already")
            labels[image] = classes[named]
    except (ValueError, csv.Error) as error:
        raise BadInputError(f"{table}: line {max(1, rows.line_num)}: {error}; fetch it from Kaggle again") from error
    return labels


def _row(row: list[str]) -> tuple[str, str]:
    if len(row) != 2 or not row[1].strip():
        raise ValueError(f"{','.join(row)[:60]!r} is not an image and its class")
    return row[0], row[1].split()[0]
