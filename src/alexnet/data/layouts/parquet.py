"""Parquet files in the layout of the Hugging Face hub: a column of encoded pictures, a column of labels."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from alexnet.data.decode import decode
from alexnet.data.pictures import Dataset, Pictures, check_classes, hold_out
from alexnet.runtime.errors import BadInputError, MachineError

HELD_OUT = ("validation", "valid", "val", "test")


def parquet_files(path: Path) -> list[Path]:
    """The Parquet files of `path`: itself, those in it, or those in its `data` folder."""
    if path.suffix == ".parquet":
        return [path]
    return sorted(path.glob("*.parquet")) or sorted(path.glob("data/*.parquet"))


def read_parquet(path: Path) -> Dataset:
    """Read one or several Parquet files; `train-00000-of-00002.parquet` belongs to the split `train`.

    Raises BadInputError when a file or its columns are not as expected, MachineError without pyarrow.
    """
    splits: dict[str, list[Path]] = {}
    for file in parquet_files(path):
        splits.setdefault(file.stem.split("-")[0], []).append(file)
    held_out = next((name for name in HELD_OUT if name in splits and len(splits) > 1), None)
    training = "train" if "train" in splits else next(name for name in splits if name != held_out)
    classes, pictures = _read(splits[training])
    check_classes(classes, pictures.labels, str(path))
    found = f"Parquet of the hub's layout, split{'s' if len(splits) > 1 else ''} {', '.join(sorted(splits))}"
    if held_out is None:
        return hold_out(found, classes, pictures)
    others, judged = _read(splits[held_out])
    if others != classes[: len(others)]:  # without names, a split is as wide as the largest label in it
        raise BadInputError(
            f"{splits[held_out][0]}: its classes differ from those of {splits[training][0]}; take both from one source"
        )
    return Dataset(found, classes, pictures, judged, f"the {held_out} split")


def _read(files: list[Path]) -> tuple[tuple[str, ...], Pictures]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MachineError("pyarrow: needed to read Parquet; pip install 'alexnet[parquet]'") from None
    encoded: list[Any] = []
    labels: list[int] = []
    keys: list[str] = []
    classes: tuple[str, ...] = ()
    for file in files:
        try:
            table = pyarrow.parquet.read_table(file)
        except (OSError, pyarrow.ArrowException) as error:
            raise BadInputError(f"{file}: not a readable Parquet file ({error}); fetch it again") from error
        picture, label, classes = _columns(table.schema, file)
        column = table.column(picture).combine_chunks()
        encoded += column.field("bytes").to_pylist()
        labels += table.column(label).to_pylist()
        keys += [f"{file.name}:row {row}" for row in range(table.num_rows)]
    if not labels or None in labels or min(labels) < 0 or (classes and max(labels) >= len(classes)):
        raise BadInputError(
            f"{files[0]}: no rows, a row without label, or a label outside its {len(classes)} classes; mend its labels"
        )
    numbers = np.array(labels, dtype=np.int64)
    classes = classes or tuple(str(number) for number in range(int(numbers.max()) + 1))
    where = f"{files[0].parent}/"
    return classes, Pictures(numbers, keys, where, lambda i: decode(encoded[i] or b"", where + keys[i]))


def _columns(schema: Any, file: Path) -> tuple[str, str, tuple[str, ...]]:
    """The names of the picture and the label column, and the classes' names where the file has them."""
    import pyarrow

    def is_picture(kind: Any) -> bool:
        return pyarrow.types.is_struct(kind) and any(field.name == "bytes" for field in kind)

    pictures = [field.name for field in schema if is_picture(field.type)]
    integers = [field.name for field in schema if pyarrow.types.is_integer(field.type)]
    labels = [name for name in ("label", "labels", "fine_label", *integers) if name in integers]
    if not pictures or not labels:
        raise BadInputError(
            f"{file}: lacks a column of pictures (bytes and path) or one of whole-number labels; give it both"
        )
    features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    return pictures[0], labels[0], tuple(features.get(labels[0], {}).get("names") or ())
