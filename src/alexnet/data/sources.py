"""What a person points at, recognized: the layouts this project reads, tried in order."""

import os
from pathlib import Path

from alexnet.data.layouts.cifar10 import cifar_folder, read_cifar10
from alexnet.data.layouts.digits import read_digits
from alexnet.data.layouts.folders import looks_like_folders, read_folders
from alexnet.data.layouts.parquet import parquet_files, read_parquet
from alexnet.data.pictures import Dataset
from alexnet.data.store import is_store, open_store
from alexnet.runtime.errors import BadInputError
from alexnet.runtime.shelf import Shelf, is_url


def open_dataset(source: str) -> Dataset:
    """Recognize and read `source`: `digits`, CIFAR-10's files, Parquet, or a folder of class folders.

    Raises BadInputError when it is missing, is none of these, or cannot be learned from.
    """
    path = Path(source)
    if source == "digits":
        return read_digits()
    if is_url(source):
        if is_store(Shelf(source)):
            return open_store(Shelf(source))
        raise BadInputError(f"{source}: no store there; name the folder that holds its store.json")
    if not os.path.exists(source):  # Path.exists raises for a name that is too long
        raise BadInputError(
            f"{source or repr(source)}: no such file or folder; name a folder of class folders, or digits"
        )
    if is_store(Shelf(source)):
        return open_store(Shelf(source))
    if parquet_files(path):
        return read_parquet(path)
    if path.is_dir():
        if folder := cifar_folder(path):
            return read_cifar10(folder)
        if looks_like_folders(path):
            return read_folders(path)
    raise BadInputError(
        f"{path}: no class folders, Parquet or CIFAR-10 files in it; put each class's pictures into a folder of its own"
    )
