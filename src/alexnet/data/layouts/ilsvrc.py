"""ILSVRC-2012 as image-net.org hands it out: two tar files and the development kit, in one folder, never unpacked.

The kit numbers the classes in an order of its own. A class's number here is its place among the sorted WordNet ids, as
in class folders: what a validation line says goes from the kit's number over the WordNet id to that place.
"""

import io
import re
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alexnet.data.archives import Tar, open_tar
from alexnet.data.decode import Pixels, decode, read_bytes
from alexnet.data.layouts.folders import ENDINGS
from alexnet.data.pictures import Dataset, Pictures, check_classes, hold_out
from alexnet.runtime.errors import BadInputError, MachineError

TRAINING, HELD_OUT = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
KIT = "ILSVRC2012_devkit_t12"
KITS = (KIT, f"{KIT}.tar.gz", f"{KIT}.tar")  # some browsers unpack what they fetch, or half of it
SYNSETS, ANSWERS = "data/meta.mat", "data/ILSVRC2012_validation_ground_truth.txt"
LARGEST = 1 << 24  # bytes of one of the kit's files; the largest has 100 kB
VALIDATION = re.compile(r"ILSVRC2012_val_(\d{8})\.jpe?g", re.IGNORECASE)


def looks_like_ilsvrc(path: Path) -> bool:
    """Whether one of the two tar files lies in `path`."""
    return path.is_dir() and any(_find(path, name) for name in (TRAINING, HELD_OUT))


def read_ilsvrc(path: Path) -> Dataset:
    """Read the two tar files, or one of them: training pictures alone are divided, validation pictures alone judged.

    Raises BadInputError for a file that is missing, damaged or does not fit the others, MachineError without SciPy.
    """
    training, held_out = _find(path, TRAINING), _find(path, HELD_OUT)
    kit = _read_kit(path, held_out) if held_out else None  # first: it takes no time, the training tar minutes
    classes, pictures = _training(open_tar(training)) if training else ((), _NOTHING)
    if kit is None or held_out is None:
        return hold_out(_found(classes), classes, pictures)
    if training and (other := sorted(set(classes) ^ set(kit.classes))):
        where, elsewhere = (training, kit.name) if other[0] in classes else (kit.name, training)
        raise BadInputError(f"{where}: class {other[0]} is not in {elsewhere}; fetch both from one source")
    judged = _held_out(open_tar(held_out), kit)
    judged_by = "the validation images, labelled by the development kit"
    return Dataset(_found(kit.classes), kit.classes, pictures, judged, judged_by)


@dataclass(frozen=True)
class _Kit:
    """The development kit: the sorted WordNet ids, and by a class's number in the kit its place among them."""

    name: str
    classes: tuple[str, ...]
    places: dict[int, int]
    answers: list[bytes]

    def label(self, line: int) -> int:
        """What the ground truth's line says, counted from 1."""
        answer = self.answers[line - 1]
        place = self.places.get(int(answer)) if re.fullmatch(rb"\d{1,9}", answer) else None
        if place is None:
            raise BadInputError(
                f"{self.name}: {ANSWERS}: line {line}: not a number between 1 and {len(self.places)}; fetch it again"
            )
        return place


def _find(path: Path, *names: str) -> Path | None:
    """The first of these in `path`, in any case of its letters."""
    there = {entry.name.lower(): entry for entry in sorted(path.iterdir(), reverse=True)}
    return next((there[name.lower()] for name in names if name.lower() in there), None)


def _found(classes: tuple[str, ...]) -> str:
    return f"ILSVRC-2012's own archives, {len(classes):,} classes"


def _no_pixels(number: int) -> Pixels:
    raise IndexError(number)


_NOTHING = Pictures(np.zeros(0, np.int64), [], "", _no_pixels)


def _training(tar: Tar) -> tuple[tuple[str, ...], Pictures]:
    """A tar of tars, one a class."""
    keys: list[str] = []
    labels: list[int] = []
    places: list[NDArray[np.int64]] = [np.zeros((0, 2), np.int64)]
    for number, name in enumerate(tar.names):
        if "/" in name or not name.endswith(".tar"):
            raise BadInputError(f"{tar.called(number)}: is not the tar file of a class; fetch {TRAINING} again")
    order = sorted(range(len(tar)), key=lambda number: tar.names[number])
    classes = tuple(tar.names[number].removesuffix(".tar") for number in order)
    for label, number in enumerate(order):
        inner = tar.inside(number)
        members = _pictures_of(inner)
        keys += [f"{classes[label]}/{inner.names[member]}" for member in members]
        labels += [label] * len(members)
        places.append(np.stack([inner.offsets, inner.sizes], axis=1)[members])
    numbers, where = np.array(labels, np.int64), np.concatenate(places)
    check_classes(classes, numbers, tar.name)

    def pixels(picture: int) -> Pixels:
        inner, _, member = keys[picture].partition("/")
        name = f"{tar.name}: {inner}.tar: {member}"
        offset, size = where[picture].tolist()
        return decode(tar.archive.read(offset, size, name), name)

    return classes, Pictures(numbers, keys, f"{tar.name}: ", pixels)


def _pictures_of(tar: Tar) -> list[int]:
    """The members that are called as pictures are, in the order of their names."""
    pictures = [number for number, name in enumerate(tar.names) if name.lower().endswith(ENDINGS)]
    return sorted(pictures, key=lambda number: tar.names[number])


def _held_out(tar: Tar, kit: _Kit) -> Pictures:
    """A flat tar; picture 00000001 is labelled by the first line."""
    by_line: dict[int, int] = {}
    for number in _pictures_of(tar):
        match = VALIDATION.fullmatch(tar.names[number])
        if match is None:
            raise BadInputError(f"{tar.called(number)}: is not called as a validation image is; fetch {HELD_OUT} again")
        if by_line.setdefault(int(match[1]), number) != number:
            raise BadInputError(f"{tar.called(number)}: has the number of another image; fetch {HELD_OUT} again")
    if not by_line:
        raise BadInputError(f"{tar.name}: has no images in it; fetch it again")
    answers = f"{kit.name}: {ANSWERS}"
    for line, number in by_line.items():
        if not 1 <= line <= len(kit.answers):
            raise BadInputError(f"{answers}: line {line}: missing, for {tar.called(number)}; fetch it again")
    for line in range(1, len(kit.answers) + 1):
        if line not in by_line:
            raise BadInputError(f"{answers}: line {line}: {tar.name} has no such image; fetch both again")
    labels = {number: kit.label(line) for line, number in by_line.items()}
    order = sorted(labels, key=lambda number: (labels[number], tar.names[number]))
    keys = [f"{kit.classes[labels[number]]}/{tar.names[number]}" for number in order]

    def pixels(picture: int) -> Pixels:
        return decode(tar.read(order[picture]), tar.called(order[picture]))

    return Pictures(np.array([labels[number] for number in order], np.int64), keys, f"{tar.name}: ", pixels)


def _read_kit(path: Path, held_out: Path) -> _Kit:
    kit = _find(path, *KITS)
    if kit is None:
        raise BadInputError(
            f"{held_out}: its labels are in {KIT}.tar.gz, which is not beside it; "
            "fetch that too, from where the images are"
        )
    files = _unpacked(kit) if kit.is_dir() else _packed(kit)
    numbers = _numbers(files[SYNSETS], f"{kit}: {SYNSETS}")
    classes = tuple(sorted(numbers))
    places = {numbers[name]: place for place, name in enumerate(classes)}
    return _Kit(str(kit), classes, places, [line.strip() for line in files[ANSWERS].rstrip().splitlines()])


def _unpacked(kit: Path) -> dict[str, bytes]:
    return {file: read_bytes(kit / file) for file in (SYNSETS, ANSWERS)}


def _packed(kit: Path) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(kit, "r:gz" if kit.suffix == ".gz" else "r:", encoding="utf-8") as tar:
            for member in tar:
                file = next((name for name in (SYNSETS, ANSWERS) if f"/{member.name}".endswith(f"/{name}")), None)
                if file and member.isreg() and member.size <= LARGEST and (opened := tar.extractfile(member)):
                    files[file] = opened.read()
    except (OSError, EOFError, tarfile.TarError, zlib.error, ValueError) as error:
        raise BadInputError(f"{kit}: damaged or no development kit ({error}); fetch it again") from error
    for file in (SYNSETS, ANSWERS):
        if file not in files:
            raise BadInputError(f"{kit}: {file}: missing; fetch it again")
    return files


def _numbers(content: bytes, name: str) -> dict[str, int]:
    """The kit's number of each class, by its WordNet id. Inner nodes of WordNet's tree are no classes."""
    try:
        from scipy.io import loadmat
    except ImportError:
        raise MachineError("scipy: needed to read the development kit; pip install 'alexnet[ilsvrc]'") from None
    try:
        variables = loadmat(io.BytesIO(content), squeeze_me=True, variable_names=["synsets"])
        synsets: Any = np.atleast_1d(variables["synsets"])
        leaves = synsets[synsets["num_children"].astype(int) == 0]
        numbers = {str(leaf["WNID"]): int(leaf["ILSVRC2012_ID"]) for leaf in leaves}
    except Exception as error:  # the parser raises whatever it stumbles over
        raise BadInputError(f"{name}: not the table of classes ({error}); fetch it again") from error
    if sorted(numbers.values()) != list(range(1, len(leaves) + 1)):
        raise BadInputError(f"{name}: its {len(leaves)} classes are not numbered from 1 on; fetch it again")
    return numbers
