"""Section 2: any source to a store. Interrupted anywhere and begun again, it ends with the same bytes.

A shard is the unit of work: its pictures are chosen beforehand, its file and then its part (index rows, names, sums)
are written whole, and what is written already is not made again. Nothing depends on threads or times.
"""

import io
import json
import shutil
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from alexnet.data.decode import Pixels, jpeg, square
from alexnet.data.pictures import Dataset, Pictures, check_learnable
from alexnet.data.preparation import Preparation
from alexnet.data.shards import NpyShard, Part, TarShard
from alexnet.data.squares import Progress, threads_here
from alexnet.data.statistics import Sums
from alexnet.data.store import (
    CLASSES,
    FORMAT,
    HELD_OUT,
    INDEX,
    MANIFEST,
    PLAN,
    STATISTICS,
    TRAINING,
    file_digest,
    read_manifest,
)
from alexnet.kernels.checksum import crc32
from alexnet.runtime.commit import remove_leftovers, whole_file, write_whole
from alexnet.runtime.errors import BadInputError, UsageError
from alexnet.runtime.lock import locked
from alexnet.runtime.memory import keep_memory
from alexnet.runtime.randomness import Purpose, numbers
from alexnet.runtime.shelf import Shelf

PARTS, SKIPPED = "parts", "skipped.jsonl"
SHARD = {"jpeg": 8192, "pixels": 2048}  # pictures a shard: 170 and 403 MB at 256 x 256
HANDFUL = 4  # pictures one thread makes at a time
AHEAD = 8  # handfuls a thread has before it, so that none waits for the writing

_Made = tuple[int, bytes, str]  # the picture's number, what is stored, or why nothing is


@dataclass(frozen=True)
class Prepared:
    """What came of it: pictures in the store, those left out (name and reason), and whether it was there already."""

    images: int
    skipped: list[tuple[str, str]]
    complete_already: bool


def prepare(
    dataset: Dataset, path: Path, how: Preparation, progress: Progress, skip: int = 0, threads: int | None = None
) -> Prepared:
    """Make the store `path`, or go on with it.

    skip   how many damaged pictures may be left out

    Raises BadInputError for pictures that cannot be learned from, a damaged one beyond those, or another preparation in
    the folder; MachineError when the machine refuses: what is done so far stays, and the same call goes on with it.
    """
    how.check()
    check_learnable(dataset)
    if skip < 0:
        raise UsageError(f"--skip-bad: {skip}; is at least 0")
    keep_memory()
    with locked(path):
        plan = {"format": FORMAT, **asdict(how), "source": dataset.digest}
        if (path / MANIFEST).exists():
            manifest = read_manifest(Shelf(str(path)))
            if any(manifest[name] != value for name, value in plan.items()):
                raise BadInputError(f"{path}: is a store of something else, or made otherwise; name another folder")
            _tidy(path)
            return Prepared(_images(manifest), _read_skipped(path), True)
        order = dataset.training.shuffled(numbers(0, Purpose.STORE))
        _begin(path, plan | {"order": sha256(order.astype("<i8").tobytes()).hexdigest()})
        return _Making(dataset, path, how, order, progress, skip, threads or threads_here()).run(plan)


def _begin(path: Path, plan: dict[str, Any]) -> None:
    """Write the plan, or find the same one there."""
    remove_leftovers(path)
    if (path / PLAN).exists():
        if not _same(path / PLAN, plan):
            raise BadInputError(
                f"{path}: holds the beginning of another preparation (other pictures or other options); "
                "finish it with those, remove it, or name another folder"
            )
        return
    if any(entry.name != ".lock" for entry in path.iterdir()):
        raise BadInputError(f"{path}: is not empty and holds no store; name another folder")
    write_whole(path / PLAN, json.dumps(plan, indent=2) + "\n")


def _same(path: Path, plan: dict[str, Any]) -> bool:
    try:
        found: bool = json.loads(path.read_text()) == plan
    except (OSError, ValueError):
        return False
    return found


@dataclass(frozen=True, eq=False)
class _Shard:
    """A split's name, the shard's number in it, and the pictures that go into it."""

    split: str
    number: int
    pictures: Pictures
    members: NDArray[np.int64]
    ending: str

    @property
    def part(self) -> str:
        return f"{self.split}-{self.number:06}.safetensors"

    @property
    def file(self) -> str:
        return f"{self.split}-{self.number:06}.{self.ending}"


class _Making:
    """One preparation in progress."""

    def __init__(
        self,
        dataset: Dataset,
        path: Path,
        how: Preparation,
        order: NDArray[np.int64],
        progress: Progress,
        skip: int,
        threads: int,
    ) -> None:
        self.path, self.how, self.progress, self.skip, self.threads = path, how, progress, skip, threads
        self.dataset = dataset
        ending = "tar" if how.kind == "jpeg" else "npy"
        training, held_out = dataset.training, dataset.held_out
        # The pictures to learn from are shuffled once, as in 2012: others may read the shards from end to end.
        self.shards = [
            _Shard(split, number, pictures, members[start : start + SHARD[how.kind]], ending)
            for split, pictures, members in (
                (TRAINING, training, order),
                (HELD_OUT, held_out, np.arange(len(held_out))),
            )
            for number, start in enumerate(range(0, len(members), SHARD[how.kind]))
        ]
        self.done, self.total = 0, len(training) + len(held_out)
        self.skipped: list[tuple[str, str]] = []
        self.sums = Sums.nothing(how.side)

    def run(self, plan: dict[str, Any]) -> Prepared:
        parts: dict[_Shard, Part] = {}
        pool = ThreadPoolExecutor(self.threads)
        try:
            for shard in self.shards:
                parts[shard] = self._make(shard, pool)
        finally:
            pool.shutdown(cancel_futures=True)
        return self._finish(plan, parts)

    def _make(self, shard: _Shard, pool: ThreadPoolExecutor) -> Part:
        kept = self.path / PARTS / shard.part
        part = Part.read(kept)
        # Damaged pictures are looked at again: they may have been mended since.
        if part is None or part.skipped or not (self.path / shard.file).exists():
            with whole_file(self.path / shard.file) as out:
                part = self._write(shard, out, pool)
            part.write(kept)
        self.done += len(shard.members)
        self.progress(self.done, self.total)
        self.skipped += part.skipped
        self.sums.add(part.sums)
        part.sums = Sums.nothing(1)  # a million pictures have hundreds of shards, and each sum is as large as a picture
        if len(self.skipped) > self.skip:
            self._write_skipped()
            raise BadInputError(
                f"{self.skipped[0][1]} (all {len(self.skipped)} found so far are in {self.path / SKIPPED}; "
                f"--skip-bad {len(self.skipped)} leaves as many out, and the same command goes on)"
            )
        return part

    def _write(self, shard: _Shard, out: IO[bytes], pool: ThreadPoolExecutor) -> Part:
        writer = TarShard(out) if self.how.kind == "jpeg" else NpyShard(out, self.how.side)
        rows: list[tuple[int, ...]] = []
        keys: list[str] = []
        skipped: list[tuple[str, str]] = []
        sums = Sums.nothing(self.how.side)
        done = 0
        for handful, some in self._handfuls(shard, pool):
            sums.add(some)
            for picture, content, fault in handful:
                if fault:
                    skipped.append((shard.pictures.name(picture), fault))
                    continue
                label = int(shard.pictures.labels[picture])
                offset = writer.add(content, label)
                rows.append((shard.number, len(content), offset, crc32(content), label))
                keys.append(shard.pictures.keys[picture])
            done += len(handful)
            self.progress(self.done + done, self.total)
        writer.close()
        return Part(np.array(rows, INDEX), keys, skipped, sums)

    def _handfuls(self, shard: _Shard, pool: ThreadPoolExecutor) -> Iterator[tuple[list[_Made], Sums]]:
        """The shard's pictures made by the pool, in order, a bounded number of them ahead of the writing."""
        starts = iter(range(0, len(shard.members), HANDFUL))
        coming: deque[Future[tuple[list[_Made], Sums]]] = deque()
        while True:
            while len(coming) < AHEAD * self.threads and (start := next(starts, None)) is not None:
                coming.append(pool.submit(self._handful, shard, shard.members[start : start + HANDFUL].tolist()))
            if not coming:
                return
            yield coming.popleft().result()

    def _handful(self, shard: _Shard, pictures: list[int]) -> tuple[list[_Made], Sums]:
        made: list[_Made] = []
        squares: list[Pixels] = []
        for picture in pictures:
            try:
                pixels = shard.pictures.pixels(picture)
            except BadInputError as error:
                made.append((picture, b"", str(error)))
                continue
            squares.append(square(pixels, self.how.side, self.how.shape, self.how.filter))
            content = jpeg(squares[-1], self.how.quality) if self.how.kind == "jpeg" else squares[-1].tobytes()
            made.append((picture, content, ""))
        if shard.split != TRAINING or not squares:
            return made, Sums.nothing(self.how.side)
        return made, Sums.of(np.stack(squares))

    def _finish(self, plan: dict[str, Any], parts: dict[_Shard, Part]) -> Prepared:
        """Put the parts together; the manifest last. Raises BadInputError for a split that only damage has emptied."""
        for name, pictures in ((TRAINING, self.dataset.training), (HELD_OUT, self.dataset.held_out)):
            if len(pictures) and not any(len(part.rows) for shard, part in parts.items() if shard.split == name):
                raise BadInputError(f"{pictures.where}: every picture of the split {name} is damaged; mend some")
        splits = {}
        for name in (TRAINING, HELD_OUT):
            own = {shard: part for shard, part in parts.items() if shard.split == name}
            index = np.concatenate([np.zeros(0, INDEX), *(part.rows for part in own.values())])
            content = io.BytesIO()
            np.save(content, index)
            write_whole(self.path / f"{name}.index.npy", content.getvalue())
            lines = (json.dumps(key) + "\n" for part in own.values() for key in part.keys)
            write_whole(self.path / f"{name}.keys.jsonl", "".join(lines))
            splits[name] = {"images": len(index), "shards": [shard.file for shard in own]}
        write_whole(self.path / CLASSES, json.dumps(self.dataset.classes, indent=0) + "\n")
        self._write_skipped()
        if self.sums.images:
            self.sums.statistics().write(self.path / STATISTICS)
        small = [CLASSES, SKIPPED, *(f"{name}.{what}" for name in splits for what in ("index.npy", "keys.jsonl"))]
        small += [STATISTICS] if self.sums.images else []
        shelf = Shelf(str(self.path))
        manifest = plan | {
            "found": self.dataset.found,
            "judged_by": self.dataset.judged_by,
            "reflects": self.dataset.reflects,
            "divided_here": self.dataset.divided_here,
            "splits": splits,
            "skipped": len(self.skipped),
            "sha256": {file: file_digest(shelf, file) for file in sorted(small)},
        }
        write_whole(self.path / MANIFEST, json.dumps(manifest, indent=2) + "\n")
        _tidy(self.path)
        return Prepared(_images(manifest), self.skipped, False)

    def _write_skipped(self) -> None:
        lines = (json.dumps({"picture": name, "fault": fault}) + "\n" for name, fault in self.skipped)
        write_whole(self.path / SKIPPED, "".join(lines))


def _tidy(path: Path) -> None:
    """Remove what only an unfinished store needs."""
    remove_leftovers(path)
    shutil.rmtree(path / PARTS, ignore_errors=True)
    (path / PLAN).unlink(missing_ok=True)


def _images(manifest: dict[str, Any]) -> int:
    return sum(split["images"] for split in manifest["splits"].values())


def _read_skipped(path: Path) -> list[tuple[str, str]]:
    lines = (json.loads(line) for line in (path / SKIPPED).read_text().splitlines())
    return [(line["picture"], line["fault"]) for line in lines]
