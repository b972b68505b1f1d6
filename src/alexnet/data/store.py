"""A store: pictures prepared once, as squares of one size, in files that others can read too.

    store.json             what it is: kind, side, shape, filter, quality, splits, and the digest of each file below
    classes.json           the classes' names, in the order of their numbers
    statistics.safetensors the mean image and principal components of the training pictures
    train-000000.tar ...   JPEG squares in WebDataset's form (N.jpg, N.cls), or
    train-000000.npy ...   uint8[n, side, side, 3]
    train.index.npy        where each record lies, its label and CRC-32: access is random, so shuffling is exact
    train.keys.jsonl       what each picture was called where it came from
    val...                 the same for the pictures to be judged by

A folder with a `store.json` is a whole store: it is written last.
"""

import json
import mmap
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from alexnet.data.decode import Pixels, decode
from alexnet.data.pictures import Dataset, Pictures
from alexnet.data.squares import PORTION, Progress, threads_here
from alexnet.kernels.checksum import crc32
from alexnet.runtime.errors import BadInputError, MachineError
from alexnet.runtime.shelf import Shelf

FORMAT = 2  # the first had no digest of the manifest itself
MANIFEST, CLASSES, STATISTICS = "store.json", "classes.json", "statistics.safetensors"
PLAN = "store.unfinished.json"  # of a store that is not finished
TRAINING, HELD_OUT = "train", "val"
Kind = Literal["jpeg", "pixels"]
# One row a picture. `offset` and `size` are bytes of its record in the shard's file.
INDEX = np.dtype([("shard", "<u4"), ("size", "<u4"), ("offset", "<u8"), ("crc", "<u4"), ("label", "<u4")])


def is_store(shelf: Shelf) -> bool:
    """Whether there is a whole store."""
    return shelf.has(MANIFEST)


def open_store(shelf: Shelf) -> Dataset:
    """The store as a dataset. Raises BadInputError naming a file that is missing, damaged or of another version."""
    manifest = read_manifest(shelf)
    for file, expected in manifest["sha256"].items():
        if file_digest(shelf, file) != expected:
            raise BadInputError(f"{shelf.folder / file}: damaged (its digest differs); {_remedy(shelf)}")
    left_out = manifest["skipped"]
    classes = tuple(json.loads(shelf.file(CLASSES).read_text()))
    return Dataset(
        f"a store of {described(manifest)}",
        classes,
        split(shelf, manifest, TRAINING).pictures(),
        split(shelf, manifest, HELD_OUT).pictures(),
        manifest["judged_by"],
        notices=(f"left out when the store was made, since they are damaged: {left_out:,}",) if left_out else (),
        reflects=manifest["reflects"],
        divided_here=manifest["divided_here"],
        shape=manifest["shape"],
        statistics=shelf.file(STATISTICS) if STATISTICS in manifest["sha256"] else None,
        known_digest=sha256(json.dumps(manifest["sha256"], sort_keys=True).encode()).hexdigest(),
    )


def check_files(shelf: Shelf) -> None:
    """Raise BadInputError where a file of the store in this folder is missing, cut short or, a small one, damaged."""
    open_store(shelf)
    for split in read_manifest(shelf)["splits"].values():
        for shard, size in zip(split["shards"], split["sizes"], strict=True):
            if size_of(shelf.folder / shard) != size:
                raise BadInputError(f"{shelf.folder / shard}: is not whole; {_remedy(shelf)}")


def size_of(path: Path) -> int:
    """In bytes; -1 when there is no such file."""
    try:
        return path.stat().st_size if path.is_file() else -1
    except OSError:
        return -1


def _remedy(shelf: Shelf) -> str:
    return "remove it, to fetch it anew" if shelf.remote else "remove the store, and prepare it again"


def own_digest(manifest: dict[str, Any]) -> str:
    """SHA-256 of what a manifest says, but for this digest itself."""
    said = {name: value for name, value in manifest.items() if name != "digest"}
    return sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def described(manifest: dict[str, Any]) -> str:
    """`256 x 256 JPEGs of quality 90, cropped`."""
    side = f"{manifest['side']} x {manifest['side']}"
    kind = f"JPEGs of quality {manifest['quality']}" if manifest["kind"] == "jpeg" else "pixels"
    return f"{side} {kind}, {manifest['shape']}"


def read_manifest(shelf: Shelf) -> dict[str, Any]:
    """`store.json`. Raises BadInputError when it is damaged or of another version."""
    name, remedy = shelf.folder / MANIFEST, _remedy(shelf)
    try:
        manifest: dict[str, Any] = json.loads(shelf.file(MANIFEST).read_text())
        version, digest = manifest["format"], manifest.get("digest")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInputError(f"{name}: cannot be read ({error}); {remedy}") from error
    if version != FORMAT:
        raise BadInputError(f"{name}: written by another version (format {version}); {remedy}")
    if digest != own_digest(manifest):
        raise BadInputError(f"{name}: damaged (its digest differs); {remedy}")
    return manifest


def file_digest(shelf: Shelf, file: str) -> str:
    """SHA-256 of one of the small files. Raises BadInputError when it is missing."""
    try:
        return sha256(shelf.file(file).read_bytes()).hexdigest()
    except OSError as error:
        raise BadInputError(f"{shelf.name(file)}: cannot be read ({error.strerror}); {_remedy(shelf)}") from error


def split(shelf: Shelf, manifest: dict[str, Any], name: str) -> "Split":
    """One of the two splits, `train` or `val`."""
    index = np.load(shelf.file(f"{name}.index.npy"), mmap_mode="r", allow_pickle=False)
    keys = Keys(shelf.file(f"{name}.keys.jsonl"))
    return Split(shelf, manifest["kind"], manifest["side"], manifest["splits"][name]["shards"], index, keys)


def verify(shelf: Shelf, progress: Progress) -> int:
    """Read every record of a store and give how many there are. Raises BadInputError naming what is damaged."""
    if not is_store(shelf):
        raise BadInputError(f"{shelf.place}: holds no store; name the folder that holds {MANIFEST}")
    open_store(shelf)  # checks the small files
    manifest = read_manifest(shelf)
    splits = [split(shelf, manifest, name) for name in (TRAINING, HELD_OUT)]
    done, total = 0, sum(len(each.index) for each in splits)
    with ThreadPoolExecutor(threads_here()) as pool:
        for each in splits:
            for start in range(0, len(each.index), PORTION):
                numbers = range(start, min(start + PORTION, len(each.index)))
                for _ in pool.map(each.record, numbers):
                    pass
                done += len(numbers)
                progress(done, total)
    return total


class Split:
    """The records of one split, read by number from any thread, each checked against its CRC-32."""

    def __init__(
        self, shelf: Shelf, kind: Kind, side: int, shards: list[str], index: NDArray[Any], keys: Sequence[str]
    ) -> None:
        self.shelf, self.kind, self.side, self.shards, self.index, self.keys = shelf, kind, side, shards, index, keys
        self._files: dict[int, int] = {}
        self._opening = Lock()

    def pictures(self) -> Pictures:
        """The split as pictures."""
        return Pictures(self.index["label"].astype(np.int64), self.keys, f"{self.shelf.place}/", self.pixels)

    def pixels(self, number: int) -> Pixels:
        """uint8[side, side, 3]. Raises BadInputError naming the shard and the picture when the record is damaged."""
        record = self.record(number)
        if self.kind == "jpeg":
            return decode(record.tobytes(), self._named(number))
        return record.reshape(self.side, self.side, 3)

    def record(self, number: int) -> NDArray[np.uint8]:
        """The bytes of one record, uint8[size], checked."""
        shard, size, offset, crc, _ = self.index[number].tolist()
        content: NDArray[np.uint8] = np.empty(size, np.uint8)
        # Read, not mapped: a shard that another program cuts short is an error here, where a mapping would crash.
        try:
            got = os.preadv(self._file(shard), [content.data], offset)
        except OSError as error:
            raise MachineError(f"{self._named(number)}: cannot be read: {error.strerror}; check the disk") from error
        if got != size or crc32(content.data) != crc:
            raise BadInputError(f"{self._named(number)}: damaged record; {_remedy(self.shelf)}")
        return content

    def _file(self, shard: int) -> int:
        file = self._files.get(shard)
        if file is None:
            with self._opening:
                if shard not in self._files:
                    path = self.shelf.file(self.shards[shard])
                    try:
                        self._files[shard] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                    except FileNotFoundError:
                        raise BadInputError(f"{path}: missing; {_remedy(self.shelf)}") from None
                    except OSError as error:
                        raise MachineError(f"{path}: cannot be read: {error.strerror}; see ulimit -n") from error
                file = self._files[shard]
        return file

    def _named(self, number: int) -> str:
        return f"{self.shelf.folder / self.shards[int(self.index[number]['shard'])]}: {self.keys[number]}"

    def __del__(self) -> None:
        for file in self._files.values():
            os.close(file)


class Keys(Sequence[str]):
    """The lines of a file of JSON strings, read when asked for: a million names are not loaded to open a store."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._text = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if path.stat().st_size else b""
        ends = np.flatnonzero(np.frombuffer(self._text, np.uint8) == ord("\n"))
        self._starts = np.concatenate([[0], ends + 1])

    def __len__(self) -> int:
        return len(self._starts) - 1

    @overload
    def __getitem__(self, number: int) -> str: ...
    @overload
    def __getitem__(self, number: slice) -> list[str]: ...
    def __getitem__(self, number: int | slice) -> str | list[str]:
        if isinstance(number, slice):
            return [self[i] for i in range(*number.indices(len(self)))]
        start, end = self._starts[number], self._starts[number + 1]
        return str(json.loads(self._text[start:end]))

    def __iter__(self) -> Iterator[str]:
        return (self[number] for number in range(len(self)))
