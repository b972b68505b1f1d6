"""The classes' names where labels are numbers: a file beside the pictures, or else the numbers themselves."""

import json
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from alexnet.data.pictures import distinct
from alexnet.runtime.errors import BadInputError
from alexnet.runtime.shelf import Shelf

FILES = ("classes.json", "classnames.txt", "classes.txt")


def numbered(labels: NDArray[np.int64], where: str) -> tuple[str, ...]:
    """The numbers up to the largest of `labels`, int64[N], as names.

    Raises BadInputError when there are more classes than pictures: a stray large number would be billions of names.
    """
    count = int(labels.max()) + 1
    if count > len(labels):
        empty = int(np.setdiff1d(np.arange(len(labels) + 1), labels)[0])
        raise BadInputError(
            f"{where}: label {count - 1} is the largest, but class {empty} has no pictures; "
            "number the classes from 0, leaving none out"
        )
    return tuple(str(number) for number in range(count))


def named_beside(shelves: Iterable[Shelf]) -> tuple[str, ...]:
    """The names in the first of FILES that one of the folders has; none when there is no such file.

    Raises BadInputError when it is no list of names.
    """
    for shelf in shelves:
        for file in FILES:
            if shelf.has(file):
                return _names(shelf, file)
    return ()


def _names(shelf: Shelf, file: str) -> tuple[str, ...]:
    """A list in JSON, or one name a line."""
    try:
        text = shelf.file(file).read_text("utf-8")
        names = json.loads(text) if file.endswith(".json") else [line.strip() for line in text.rstrip().split("\n")]
    except (OSError, ValueError, RecursionError) as error:
        raise BadInputError(f"{shelf.name(file)}: cannot be read ({error}); write it again") from error
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise BadInputError(f"{shelf.name(file)}: is no list of the classes' names; write it again")
    return distinct(names)
