"""WebDataset: tar shards in which the members of one name are one sample, `0001.jpg` and `0001.cls`.

Shards lie here or behind an address, from where each is fetched whole, once. Their headers are gone through when the
data set is opened; from then on pictures are read in any order.
"""

import json
import os
import re
import tarfile
from array import array
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np

from alexnet.data.archives import Archive, Tar
from alexnet.data.decode import Pixels, decode
from alexnet.data.layouts.class_names import named_beside, numbered
from alexnet.data.layouts.patterns import expanded
from alexnet.data.layouts.splits import HELD_OUT, TRAINING, divide, split_of
from alexnet.data.pictures import Dataset, Pictures, check_classes, hidden_file, hidden_folder, hold_out
from alexnet.data.store import is_store
from alexnet.runtime.errors import BadInputError
from alexnet.runtime.shelf import Shelf, is_url

TAR = ".tar"
PICTURES = ("jpg", "jpeg", "png", "webp", "bmp", "gif", "jpe", "jfif")
LABELS = ("label", "cls", "class_id")  # what a sample's JSON calls it
WHOLE_NUMBER = re.compile(rb"\s*([0-9]{1,9})\s*")
LARGEST = 1 << 20  # bytes of a label's member; JSON beside a picture has a few hundred
FIRST = 8  # members of a tar that is only looked at
OPEN = 256  # shards open at once: ImageNet has a thousand, and a process may often have as many files and no more
# ILSVRC's archives, and those of single classes that the first of them holds: tars too, but without labels.
NO_SHARD = re.compile(r"(ilsvrc2012_img_.*|n\d{8})\.tar", re.IGNORECASE)


def looks_like_webdataset(source: str) -> bool:
    """Whether it names tar shards, or a folder with some in it; ILSVRC's own archives and our stores are none."""
    if _names_tars(source):
        return not NO_SHARD.fullmatch(source.rpartition("/")[2])
    if not is_url(source) and not os.path.isdir(source):
        return False
    shelf = Shelf(source)
    try:
        if is_store(shelf) or not (shards := _in_folder(shelf)):
            return False
        return _only_shards(shelf) or _begins_with_label(shelf.file(shards[0]))
    except (BadInputError, OSError):  # cannot be listed
        return False


def read_webdataset(source: str) -> Dataset:
    """Read one shard, a pattern of shards, or a folder of them. Splits are told by the shards' or folders' names.

    Raises BadInputError for a shard that cannot be fetched or read, a sample without picture or label, and what cannot
    be learned.
    """
    shelf, shards = _shards(source)
    splits = divide(shards, source)
    training = _Split(shelf, splits.training)
    folders = dict.fromkeys((os.path.dirname(shelf.name(splits.training[0])), shelf.place))
    classes = named_beside(map(Shelf, folders)) or numbered(training.labels, source)
    pictures = training.pictures(len(classes))
    check_classes(classes, pictures.labels, source)
    found = f"WebDataset of {len(shards)} shard{'s' * (len(shards) > 1)}"
    if not splits.held_out:
        return replace(hold_out(found, classes, pictures), notices=tuple(splits.unused(())))
    judged_by = next(iter(splits.held_out))
    others = _Split(shelf, splits.held_out[judged_by]).pictures(len(classes))
    notices = tuple(splits.unused((judged_by,)))
    return Dataset(found, classes, pictures, others, f"the {judged_by} split", notices=notices)


def _names_tars(source: str) -> bool:
    return source.lower().endswith(TAR) and not os.path.isdir(source)


def _shards(source: str) -> tuple[Shelf, list[str]]:
    """A folder, and the names of the shards from there on."""
    if not _names_tars(source):
        shelf = Shelf(source)
        if names := _in_folder(shelf):
            return shelf, names
        raise BadInputError(f"{source}: no tar shards in it; name the folder that holds them, or a pattern")
    literal = not is_url(source) and os.path.exists(source)
    constant = source if literal else source.partition("{")[0]
    folder = constant.rpartition("/")[0]
    name = source[len(folder) :].lstrip("/")
    return Shelf(folder or ("/" if source[0] == "/" else ".")), [name] if literal else expanded(name)


def _in_folder(shelf: Shelf) -> list[str]:
    """The shards in a folder, or else in the folders of its splits, or in `data`."""
    if shards := _tars(shelf):
        return shards
    # What lies behind an address can only be asked for by its name.
    folders = [*TRAINING, *HELD_OUT] if shelf.remote else [name for name in _folders(shelf) if split_of(name)]
    found = []
    for folder in [*folders, "data"]:
        with suppress(BadInputError):  # it is not there
            found += [f"{folder}/{name}" for name in _tars(_below(shelf, folder))]
    return found


def _tars(shelf: Shelf) -> list[str]:
    tars = [name for name in shelf.names() if name.lower().endswith(TAR) and not hidden_file(name)]
    return [] if any(NO_SHARD.fullmatch(name) for name in tars) else tars


def _below(shelf: Shelf, folder: str) -> Shelf:
    return Shelf(f"{shelf.place}/{folder}")


def _folders(shelf: Shelf) -> list[str]:
    """The folders in a folder on this machine; of one behind an address they are not known."""
    entries = [] if shelf.remote else sorted(os.scandir(shelf.folder), key=lambda entry: entry.name)
    return [entry.name for entry in entries if entry.is_dir() and not hidden_folder(entry.name)]


def _only_shards(shelf: Shelf) -> bool:
    """Whether each folder below holds shards. Beside class folders, a tar may be a backup, or what they came in."""
    below = (_below(shelf, folder) for folder in _folders(shelf))
    return all(_tars(folder) and _only_shards(folder) for folder in below)


def _begins_with_label(path: Path) -> bool:
    """Whether one of a tar's first members is a sample's label; so, too, when that cannot be told."""
    try:
        with tarfile.open(path, "r:") as tar:
            return any(member.name.lower().endswith((".cls", ".json")) for member in islice(tar, FIRST))
    except (OSError, tarfile.TarError, ValueError):
        return True


class _Split:
    """The samples of one split's shards, in their order.

    labels    int64[N]
    keys      `train-000000.tar/0001`
    """

    def __init__(self, shelf: Shelf, shards: list[str]) -> None:
        self.keys: list[str] = []
        self.where = f"{os.path.dirname(shelf.name(shards[0])) or '.'}/"
        self._paths: list[Path] = []
        labels, places = array("q"), array("q")
        for number, shard in enumerate(shards):
            tar = _opened(shelf, shard)
            self._paths.append(tar.archive.path)
            for key, members in _samples(tar).items():
                picture = _picture(tar, key, members)
                labels.append(_label(tar, key, members))
                places.extend((number, int(tar.offsets[picture]), int(tar.sizes[picture])))
                self.keys.append(f"{shard.rpartition('/')[2]}/{key}")
        if not self.keys:
            raise BadInputError(f"{self.where}: no samples in {shards[0]}; name shards that hold some")
        self.labels = np.array(labels, np.int64)
        self._places = np.array(places, np.int64).reshape(-1, 3)

    def pictures(self, classes: int) -> Pictures:
        """As pictures of so many classes."""
        if (beyond := np.flatnonzero(self.labels >= classes)).size:
            name, label = self.where + self.keys[beyond[0]], self.labels[beyond[0]]
            raise BadInputError(f"{name}: label {label} is beyond the {classes} classes; mend it, or the classes' list")
        keys, where, paths, places = self.keys, self.where, self._paths, self._places

        @lru_cache(OPEN)
        def archive(shard: int) -> Archive:  # closed when it is neither kept nor being read from any more
            return Archive(paths[shard])

        def pixels(number: int) -> Pixels:
            shard, offset, size = places[number].tolist()
            name = where + keys[number]
            return decode(archive(shard).read(offset, size, name), name)

        return Pictures(self.labels, keys, where, pixels)


def _opened(shelf: Shelf, shard: str) -> Tar:
    """The shard, which is fetched first if need be."""
    path = shelf.file(shard)
    archive = Archive(path)
    name = f"{shelf.name(shard)} (kept as {path})" if shelf.remote else str(path)
    return Tar(archive, name, 0, archive.size())


def _samples(tar: Tar) -> dict[str, dict[str, int]]:
    """By sample, by ending, the member's number. A sample's name goes up to the first dot of the file's name."""
    samples: dict[str, dict[str, int]] = {}
    for number, name in enumerate(tar.names):
        folder, slash, file = name.rpartition("/")
        begin, dot, ending = file.partition(".")
        if dot:  # WebDataset's own reader passes over the others too
            members = samples.setdefault(folder + slash + begin, {})
            if members.setdefault(ending.lower(), number) != number:
                raise BadInputError(f"{tar.called(number)}: is in it twice; make the archive anew")
    return samples


def _member(tar: Tar, key: str, members: dict[str, int], endings: tuple[str, ...]) -> int | None:
    """The one member that ends so: `0001.jpg`, or else `0001.input.jpg`."""
    fitting = [ending for ending in members if ending in endings] or [
        ending for ending in members if ending.rpartition(".")[2] in endings
    ]
    if len(fitting) > 1:
        raise BadInputError(f"{tar.name}: sample {key}: has {_listed(fitting)}; leave one of them")
    return members[fitting[0]] if fitting else None


def _picture(tar: Tar, key: str, members: dict[str, int]) -> int:
    picture = _member(tar, key, members, PICTURES)
    if picture is None:
        raise BadInputError(f"{tar.name}: sample {key}: no picture, found {_listed(members)}; add one or remove it")
    return picture


def _label(tar: Tar, key: str, members: dict[str, int]) -> int:
    """From `.cls`, or else from `.json`."""
    if (number := _member(tar, key, members, ("cls",))) is not None:
        content = _small(tar, number)
        if match := WHOLE_NUMBER.fullmatch(content):
            return int(match[1])
        raise BadInputError(f"{tar.called(number)}: holds {content!r:.40}, no class's number; mend it")
    if (number := _member(tar, key, members, ("json",))) is not None:
        return _label_in_json(tar, number)
    raise BadInputError(f"{tar.name}: sample {key}: no label in .cls or .json, found {_listed(members)}; add one")


def _label_in_json(tar: Tar, number: int) -> int:
    try:
        said = json.loads(_small(tar, number))
    except (ValueError, RecursionError) as error:
        raise BadInputError(f"{tar.called(number)}: is no JSON ({error}); mend it") from error
    told = [said.get(name) for name in LABELS] if isinstance(said, dict) else []
    for label in told:
        if isinstance(label, int) and not isinstance(label, bool) and 0 <= label < 10**9:
            return label
    names = ", ".join(said) if isinstance(said, dict) else type(said).__name__
    raise BadInputError(f"{tar.called(number)}: no class's number as {', '.join(LABELS)}, found {names:.80}; add one")


def _small(tar: Tar, number: int) -> bytes:
    if tar.sizes[number] > LARGEST:
        raise BadInputError(f"{tar.called(number)}: is too large for a label ({tar.sizes[number]:,} bytes); mend it")
    return tar.read(number)


def _listed(endings: Iterable[str]) -> str:
    return ", ".join(f".{ending}" for ending in endings)
