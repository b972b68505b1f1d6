"""Which files are for learning and which for judging, told by their names.

As the hub and WebDataset's users name them: `data/train-00000-of-00042.parquet`, `default/test/0000.parquet`,
`imagenet-val-000000.tar`, `training/000000.tar`.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from alexnet.runtime.errors import BadInputError

TRAINING = ("train", "training")
HELD_OUT = ("val", "validation", "valid", "test")  # the first of them that is there is preferred
WORD = re.compile(r"[^\W\d_]+")
NUMBERED = re.compile(r"(?P<before>.*)-\d+-of-(?P<count>\d+)(?P<ending>\..*)")


@dataclass(frozen=True)
class Splits:
    """The files of a data set, by what they are for.

    training   those to learn from
    held_out   by split, the preferred one first
    unnamed    those that tell no split while others do
    """

    training: list[str]
    held_out: dict[str, list[str]]
    unnamed: list[str]

    def unused(self, known: Collection[str]) -> list[str]:
        """What a person should know of the files that are neither learned from nor in the `known` splits."""
        notices = [f"the {name} split is not used" for name in self.held_out if name not in known]
        if self.unnamed:
            notices.append(f"not used, since their names tell no split: {_some(self.unnamed)}")
        return notices


def split_of(name: str) -> str:
    """The split that a file's name tells, or else the folder it lies in: "train", one of HELD_OUT, or "" for none."""
    *folders, file = name.split("/")
    for part in (file, *folders[-1:]):
        words = WORD.findall(part.lower())
        if any(word in words for word in TRAINING):
            return TRAINING[0]
        if told := [word for word in HELD_OUT if word in words]:
            return told[0]
    return ""


def divide(names: Iterable[str], where: str) -> Splits:
    """Sort files, named from `where` on, into splits. A single split is one to learn from, whatever it is called.

    Raises BadInputError when there are several splits and none to learn from, or two files of one name in a split.
    """
    found: dict[str, list[str]] = {}
    for name in sorted(set(names)):
        found.setdefault(split_of(name), []).append(name)
    for files in found.values():
        _check_distinct(files, where)
    unnamed = found.pop("", [])
    held_out = {split: found[split] for split in HELD_OUT if split in found}
    if TRAINING[0] in found:
        return Splits(found[TRAINING[0]], held_out, unnamed)
    if unnamed:
        return Splits(unnamed, held_out, [])
    if len(held_out) > 1:
        raise BadInputError(
            f"{where}: has splits {', '.join(held_out)} and none to learn from; name one of their files"
        )
    return Splits(next(iter(held_out.values())), {}, [])


def incomplete(names: Iterable[str]) -> list[str]:
    """What a person should know of splits that are there in part only.

    Files are counted in their names, `-00001-of-00042`; and of a large split the hub itself converts only the first
    5 GB, into a folder `partial-train`.
    """
    names = sorted(names)
    series = Counter(match.group("before", "count", "ending") for name in names if (match := NUMBERED.fullmatch(name)))
    folders = {name.rpartition("/")[0] for name in names}
    return [
        *(
            f"{before}-*-of-{count}{ending}: only {there} of {int(count)} files are there"
            for (before, count, ending), there in series.items()
            if there < int(count)
        ),
        *(
            f"{folder}: is the first part of that split, more of it the hub has not converted"
            for folder in sorted(folders)
            if folder.rpartition("/")[2].startswith("partial-")
        ),
    ]


def _check_distinct(names: list[str], where: str) -> None:
    """A picture is known by its file's last name and its place in it."""
    name, times = Counter(name.rsplit("/", 1)[-1] for name in names).most_common(1)[0]
    if times > 1:
        raise BadInputError(f"{where}: has {times} files {name} in one split; give each a name of its own")


def _some(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
