"""What a person points at, recognized: the layouts this project reads, tried in order."""

import os
from pathlib import Path

from alexnet.data.layouts.cifar10 import cifar_folder, read_cifar10
from alexnet.data.layouts.digits import read_digits
from alexnet.data.layouts.folders import looks_like_folders, read_folders
from alexnet.data.layouts.hub import is_hub_name, read_hub
from alexnet.data.layouts.ilsvrc import looks_like_ilsvrc, read_ilsvrc
from alexnet.data.layouts.kaggle import looks_like_kaggle, read_kaggle
from alexnet.data.layouts.parquet import parquet_files, read_parquet
from alexnet.data.layouts.webdataset import looks_like_webdataset, read_webdataset
from alexnet.data.pictures import Dataset
from alexnet.data.store import PLAN, is_store, open_store
from alexnet.runtime.errors import BadInputError
from alexnet.runtime.shelf import Shelf, is_url


def open_dataset(source: str) -> Dataset:
    """Recognize and read `source`: a store, `digits`, `hf:OWNER/NAME`, or files in any of the layouts.

    Raises BadInputError when it is missing or is none of these.
    """
    if source == "digits":
        return read_digits()
    if is_hub_name(source):
        return read_hub(source)
    shelf = Shelf(source)
    _check_finished(shelf, source)
    if is_url(source) and is_store(shelf):
        return open_store(shelf)
    if looks_like_webdataset(source):
        return read_webdataset(source)
    if is_url(source):
        raise BadInputError(f"{source}: no store and no .tar shards there; name the folder that holds store.json")
    if not os.path.exists(source):  # Path.exists raises for a name that is too long
        raise BadInputError(
            f"{source or repr(source)}: no such file or folder; name a folder of class folders, or digits"
        )
    return open_store(shelf) if is_store(shelf) else _files(Path(source))


def _check_finished(shelf: Shelf, source: str) -> None:
    """A store that was not finished has shards enough to be taken for something else."""
    if os.path.isdir(source) and shelf.has(PLAN) and not is_store(shelf):
        raise BadInputError(f"{source}: an unfinished store; the same alexnet prepare again finishes it")


def _files(path: Path) -> Dataset:
    if parquet_files(path):
        return read_parquet(path)
    if path.is_dir():
        if looks_like_ilsvrc(path):
            return read_ilsvrc(path)
        if looks_like_kaggle(path):
            return read_kaggle(path)
        if folder := cifar_folder(path):
            return read_cifar10(folder)
        if looks_like_folders(path):
            return read_folders(path)
    raise BadInputError(
        f"{path}: no class folders in it, and none of the other layouts that README.md lists; "
        "put each class's pictures into a folder of its own"
    )
