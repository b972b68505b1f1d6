"""Parquet files in the layout of the Hugging Face hub: a column of encoded pictures, a column of labels.

Opening reads the labels alone. A picture is read with its row group, and the row groups used last are kept, so that
memory is bounded however many pictures there are.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alexnet.data.decode import Pixels, decode
from alexnet.data.layouts.class_names import numbered
from alexnet.data.layouts.row_groups import RowGroups, stretches
from alexnet.data.layouts.splits import divide, incomplete, split_of
from alexnet.data.pictures import Dataset, Pictures, check_classes, distinct, hidden_file, hidden_folder, hold_out
from alexnet.runtime.errors import BadInputError, MachineError

PICTURES = ("image", "img", "jpg", "picture")
NUMBERS = ("label", "labels", "fine_label")  # CIFAR-100 has a coarse_label too
TEXTS = ("label", "class", "wnid")
CONFIGURATIONS = 64  # so many folders are looked into: a thousand class folders need not be searched


def parquet_files(path: Path) -> list[Path]:
    """The Parquet files of `path`: itself, those in it, in its `data` folder, its splits' folders or its configuration.

    Raises BadInputError when there are several configurations and none called `default`.
    """
    if path.suffix == ".parquet" and not path.is_dir():
        return [path]
    for folder in (path, path / "data"):
        if files := _files(folder) + _split_files(folder):
            return files
    folders = _folders(path)
    if len(folders) > CONFIGURATIONS:
        return []
    of = {folder.name: files for folder in folders if (files := _configuration(folder))}
    if len(of) > 1 and "default" not in of:
        raise BadInputError(f"{path}: holds several configurations ({', '.join(of)}); name the folder of one")
    return of.get("default") or next(iter(of.values()), [])


def read_parquet(path: Path) -> Dataset:
    """Read one or several Parquet files; `train-00000-of-00002.parquet` belongs to the split `train`.

    Raises BadInputError when a file or its columns are not as expected, MachineError without pyarrow.
    """
    root = path if path.is_dir() else path.parent
    files = {file.relative_to(root).as_posix(): file for file in parquet_files(path)}
    if not files:
        raise BadInputError(f"{path}: no Parquet files in it; name the folder that holds them")
    splits = divide(files, str(path))
    notices = incomplete(files) if path.is_dir() else []
    training = _Split([files[name] for name in splits.training])
    pictures = training.pictures(training)
    check_classes(training.classes, pictures.labels, str(path))
    known = sorted({split_of(name) for name in files} - {""})
    found = "Parquet of the hub's layout" + (f", split{'s' * (len(known) > 1)} {', '.join(known)}" if known else "")
    unlabelled: list[str] = []
    for split, members in splits.held_out.items():
        judged = _Split([files[name] for name in members])
        if judged.unlabelled:
            unlabelled.append(split)
            notices.append(f"the {split} split has no labels, so nothing can be judged by it")
            continue
        others = judged.pictures(training)
        notices += splits.unused([split, *unlabelled])
        judged_by = f"the {split} split"
        return Dataset(found, training.classes, pictures, others, judged_by, notices=tuple(notices))
    notices += splits.unused(unlabelled)
    return replace(hold_out(found, training.classes, pictures), notices=tuple(notices))


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("*.parquet") if file.is_file() and not hidden_file(file.name))


def _folders(path: Path) -> list[Path]:
    return sorted(entry for entry in path.glob("*") if not hidden_folder(entry.name) and entry.is_dir())


def _split_files(path: Path) -> list[Path]:
    return [file for folder in _folders(path) if split_of(folder.name) for file in _files(folder)]


def _configuration(folder: Path) -> list[Path]:
    """Its files that tell their split: a stray file among a class's pictures is no data set."""
    return [file for file in _files(folder) if split_of(file.name)] + _split_files(folder)


class _Split:
    """The rows of one split's files: labels as they stand there, numbers or texts.

    names   the classes' names where the files have them, otherwise empty
    """

    def __init__(self, paths: list[Path]) -> None:
        self.files = [_opened(path) for path in paths]
        self.first, self.names, self.texts = paths[0], self.files[0].names, self.files[0].texts
        for file in self.files:
            self.compare(file.path, file.names, file.texts)
        self.labels: list[Any] = [label for file in self.files for label in file.labels]
        self.keys = [f"{file.path.name}:row {row}" for file in self.files for row in range(len(file.labels))]
        self.where = f"{self.first.parent}/"

    def compare(self, path: Path, names: Sequence[str], texts: bool) -> None:
        """Refuse a file whose labels mean something else than those here."""
        if (names, texts) != (self.names, self.texts):
            raise BadInputError(f"{path}: its classes differ from those of {self.first}; take both from one source")

    @property
    def unlabelled(self) -> bool:
        """Whether no row has a label: the hub's way with a competition's test pictures."""
        return bool(self.labels) and all(label is None or label == -1 for label in self.labels)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The classes' names: those in the files, the sorted texts, or the numbers up to the largest."""
        known = [label for label in self.labels if label is not None]
        if not known:
            raise BadInputError(f"{self.first}: no rows with a label; name files that have some")
        if self.texts:
            return tuple(sorted(set(known)))
        return distinct(self.names) or numbered(np.array(known, np.int64), str(self.first))

    def pictures(self, training: "_Split") -> Pictures:
        """Its pictures, with labels as numbers of the training split's classes."""
        training.compare(self.first, self.names, self.texts)
        if not self.labels:
            raise BadInputError(f"{self.first}: no rows; name files that have some")
        groups = [(file, group) for file in self.files for group in range(len(file.rows))]
        rows = [file.rows[group] for file, group in groups]
        encoded = RowGroups(rows, lambda place: _read_group(*groups[place]))
        keys, where = self.keys, self.where

        def pixels(row: int) -> Pixels:
            return decode(encoded.row(row).as_py() or b"", where + keys[row])

        stretch = stretches(rows, [file.sizes[group] for file, group in groups])
        return Pictures(self._numbers(training), keys, where, pixels, stretch)

    def _numbers(self, training: "_Split") -> NDArray[np.int64]:
        count = len(training.classes)
        number_of: dict[Any, int] = {name: number for number, name in enumerate(training.classes)}
        if not self.texts:
            number_of = {number: number for number in range(count)}
        for row, label in enumerate(self.labels):
            if label not in number_of:
                fault = "row without label" if label is None else f"label outside the {count} classes ({label!r:.80})"
                raise BadInputError(f"{self.where}{self.keys[row]}: {fault}; mend it")
        return np.array([number_of[label] for label in self.labels], np.int64)


@dataclass(frozen=True)
class _File:
    """What a file says of its rows.

    picture   the column of encoded pictures, with its field
    labels    one a row
    texts     whether labels are texts
    names     the classes' names, or none
    rows      in each row group
    sizes     bytes of each row group, unpacked
    """

    path: Path
    picture: str
    labels: list[Any]
    texts: bool
    names: tuple[str, ...]
    rows: list[int]
    sizes: list[int]


def _opened(path: Path) -> _File:
    arrow = _pyarrow()
    try:
        with arrow.parquet.ParquetFile(path) as file:
            schema, groups = file.schema_arrow, file.metadata
            each = [groups.row_group(group) for group in range(file.num_row_groups)]
            rows, sizes = [group.num_rows for group in each], [group.total_byte_size for group in each]
            picture, label = _picture_column(schema, path), _label_column(schema, path)
            column = file.read(columns=[label]).column(0)
            texts = not arrow.types.is_integer(column.type)
            labels = column.to_pylist() if texts else column.cast("int64").to_pylist()
    except (OSError, ValueError, arrow.ArrowException) as error:
        raise _unreadable(path, error) from error
    return _File(path, picture, labels, texts, () if texts else _names(schema, label, path), rows, sizes)


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MachineError("pyarrow: needed to read Parquet; pip install 'alexnet[parquet]'") from None
    return pyarrow


def _unreadable(path: Path, error: Exception) -> BadInputError:
    said = " ".join(str(error).split())  # pyarrow's messages may have several lines
    return BadInputError(f"{path}: not a readable Parquet file ({said}); fetch it again")


def _picture_column(schema: Any, path: Path) -> str:
    """The one of the usual name, or else the first that has `bytes` in it."""
    types = _pyarrow().types

    def is_binary(kind: Any) -> bool:
        return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind))

    def is_struct(kind: Any) -> bool:
        return bool(types.is_struct(kind)) and any(part.name == "bytes" and is_binary(part.type) for part in kind)

    columns = {field.name: f"{field.name}.bytes" for field in schema if is_struct(field.type)}
    plain = {field.name: field.name for field in schema if is_binary(field.type) and field.name in PICTURES}
    for name in (*PICTURES, *columns):
        if column := columns.get(name) or plain.get(name):
            return column
    raise BadInputError(f"{path}: lacks a column of pictures, bytes and path or {', '.join(PICTURES)}; give it one")


def _label_column(schema: Any, path: Path) -> str:
    types = _pyarrow().types

    def is_text(kind: Any) -> bool:
        if types.is_dictionary(kind):
            kind = kind.value_type
        return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))

    numbers = [field.name for field in schema if types.is_integer(field.type)]
    texts = [field.name for field in schema if is_text(field.type)]
    for usual, there in ((NUMBERS, numbers), (TEXTS, texts)):
        if known := [name for name in usual if name in there]:
            return known[0]
    if len(numbers) > 1:
        names = ", ".join(numbers)
        raise BadInputError(f"{path}: which of the columns {names} is the label is not clear; rename it to label")
    if not numbers:
        raise BadInputError(f"{path}: lacks a column of labels, whole numbers or {', '.join(TEXTS)}; give it one")
    return str(numbers[0])


def _names(schema: Any, label: str, path: Path) -> tuple[str, ...]:
    """The classes' names in the schema's metadata, where `datasets` has written them."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
        names = features.get(label, {}).get("names", [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError("names that are no list of texts")
    except (ValueError, AttributeError, RecursionError) as error:
        raise BadInputError(
            f"{path}: its huggingface metadata are malformed ({error}); write the file again, or without them"
        ) from error
    return tuple(names)


def _read_group(file: _File, group: int) -> Any:
    """The picture column of one row group. The file is opened for it: thousands of shards cannot stay open."""
    arrow = _pyarrow()
    try:
        with arrow.parquet.ParquetFile(file.path) as opened:
            column = opened.read_row_group(group, columns=[file.picture], use_threads=False).flatten().column(0)
    except (OSError, ValueError, arrow.ArrowException) as error:
        raise _unreadable(file.path, error) from error
    if len(column) != file.rows[group]:
        raise BadInputError(f"{file.path}: has changed while it was in use; begin again")
    return column
