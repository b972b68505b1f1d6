"""Labelled pictures and how they are divided, whatever they were read from."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alexnet.data.decode import Pixels, Shape
from alexnet.runtime.errors import BadInputError

HELD_OUT_SHARE = 5  # one in so many images is held out where a source has no split of its own


@dataclass(frozen=True)
class Pictures:
    """A list of labelled pictures, decoded when asked for.

    labels   int64[N]
    keys     what stays the same for each wherever the data lies: "cat/1.jpg"
    where    what stands before a key to name the picture to a person: "photos/"
    pixels   number -> uint8[H, W, 3]; raises BadInputError naming the picture
    stretch  int64[N]: those of one number are best read one after the other; none where any order will do
    """

    labels: NDArray[np.int64]
    keys: Sequence[str]
    where: str
    pixels: Callable[[int], Pixels]
    stretch: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def choose(self, numbers: NDArray[np.int64]) -> "Pictures":
        """These pictures only, in this order."""
        return Pictures(
            self.labels[numbers],
            [self.keys[i] for i in numbers],
            self.where,
            lambda i: self.pixels(int(numbers[i])),
            None if self.stretch is None else self.stretch[numbers],
        )

    def shuffled(self, order: np.random.Generator) -> NDArray[np.int64]:
        """Their numbers in random order, int64[N]: where there are stretches, one stretch after the other."""
        numbers = order.permutation(len(self))
        if self.stretch is not None:
            numbers = numbers[np.argsort(self.stretch[numbers], kind="stable")]
        return numbers

    def name(self, number: int) -> str:
        """What to call one of them in an error."""
        return f"{self.where}{self.keys[number]}"


def hidden_file(name: str) -> bool:
    """Whether a file is not meant for people: `.DS_Store`, `._0.jpg`."""
    return name.startswith(".")


def hidden_folder(name: str) -> bool:
    """Whether a folder is not meant for people: `.git`, `__MACOSX`."""
    return name.startswith((".", "__"))


def joined(one: Pictures, other: Pictures) -> Pictures:
    """The pictures of both, in this order; for reading one after the other, so without stretches."""
    count = len(one)
    labels, keys = np.concatenate([one.labels, other.labels]), [*one.keys, *other.keys]
    return Pictures(labels, keys, one.where, lambda i: one.pixels(i) if i < count else other.pixels(i - count))


def fingerprints(keys: Sequence[str]) -> NDArray[np.uint64]:
    """Eight bytes for each key, uint64[N]: enough to tell which pictures were seen before."""
    digests = (sha256(key.encode("utf-8", "surrogateescape")).digest()[:8] for key in keys)
    return np.frombuffer(b"".join(digests), "<u8")


@dataclass(frozen=True)
class Dataset:
    """What a person pointed at: pictures to learn from, pictures to be judged by, and the classes' names.

    found           what was recognized, for people
    judged_by       what the held-out pictures are, for people
    reflects        whether a mirrored picture is still one of its class; a mirrored digit is not
    notices         what a person should know: files that were passed over, and the like
    divided_here    whether the held-out pictures were taken from the others by `hold_out`
    statistics      a file with the training pictures' statistics, where a store has them
    shape           how a store's squares were made, "cropped" or "squashed"
    known_digest    where a store has it
    """

    found: str
    classes: tuple[str, ...]
    training: Pictures
    held_out: Pictures
    judged_by: str
    reflects: bool = True
    notices: tuple[str, ...] = ()
    divided_here: bool = False
    statistics: Path | None = None
    shape: Shape | None = None
    known_digest: str = ""

    def __post_init__(self) -> None:
        if len(set(self.classes)) < len(self.classes):
            raise BadInputError(f"{self.found}: two classes have one name; give each a name of its own")

    @cached_property
    def digest(self) -> str:
        """SHA-256 over class list, labels and keys (a store's: and contents): what a resumed run must find again."""
        if self.known_digest:
            return self.known_digest
        content = sha256()
        for part in (self.classes, self.training.keys, self.held_out.keys):
            content.update("\0".join(part).encode("utf-8", "surrogateescape") + b"\1")
        for labels in (self.training.labels, self.held_out.labels):
            content.update(labels.astype("<i8").tobytes())
        return content.hexdigest()


def distinct(classes: Sequence[str]) -> tuple[str, ...]:
    """The names, told apart where some are the same: ImageNet has two cranes, `crane (134)` and `crane (517)`."""
    times = Counter(classes)
    return tuple(f"{name} ({number})" if times[name] > 1 else name for number, name in enumerate(classes))


def check_classes(classes: Sequence[str], labels: NDArray[np.int64], where: str) -> None:
    """Refuse a class without pictures."""
    counts = np.bincount(labels, minlength=len(classes))
    if (empty := np.flatnonzero(counts == 0)).size:
        raise BadInputError(f"{where}: class {classes[empty[0]]} has no pictures; add some or remove the class")


def check_learnable(dataset: Dataset) -> None:
    """Refuse what can be judged but not learned from: one class only, or a class of one picture to divide."""
    classes, where = dataset.classes, dataset.training.where.rstrip("/: ")
    if len(classes) < 2:
        raise BadInputError(f"{where}: has {len(classes)} class; at least two are needed, each a folder of pictures")
    if dataset.divided_here:
        both = joined(dataset.training, dataset.held_out)
        for label in np.flatnonzero(np.bincount(both.labels, minlength=len(classes)) == 1):
            only = int(np.flatnonzero(both.labels == label)[0])
            raise BadInputError(f"{both.name(only)}: the only picture of class {classes[label]}; add more")


def hold_out(found: str, classes: tuple[str, ...], pictures: Pictures) -> Dataset:
    """Divide pictures that have no split: one in five of each class is held out, chosen by a digest of its key.

    The choice is repeatable, and a picture that is added later moves no more than one other. Of a class of one picture
    none is held out: `check_learnable` refuses it, judging does not.
    """
    order = np.array([sha256(key.encode("utf-8", "surrogateescape")).hexdigest() for key in pictures.keys])
    held_out = np.zeros(len(pictures), dtype=bool)
    for label in range(len(classes)):
        members = np.flatnonzero(pictures.labels == label)
        share = max(1, len(members) // HELD_OUT_SHARE) if len(members) > 1 else 0
        held_out[members[np.argsort(order[members])][:share]] = True
    return Dataset(
        found,
        classes,
        pictures.choose(np.flatnonzero(~held_out)),
        pictures.choose(np.flatnonzero(held_out)),
        f"a held-out share: one in {HELD_OUT_SHARE} of each class, chosen by name",
        divided_here=True,
    )
