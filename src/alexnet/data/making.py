"""A store in the making: shard after shard, then what holds them together."""

import io
import json
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from alexnet.data.decode import jpeg, square
from alexnet.data.pictures import Dataset, Pictures
from alexnet.data.preparation import Preparation
from alexnet.data.shards import NpyShard, Part, TarShard
from alexnet.data.squares import Progress
from alexnet.data.statistics import Sums
from alexnet.data.store import (
    CLASSES,
    HELD_OUT,
    INDEX,
    MANIFEST,
    STATISTICS,
    TRAINING,
    file_digest,
    own_digest,
    size_of,
)
from alexnet.kernels.checksum import crc32
from alexnet.runtime.commit import whole_file, write_whole
from alexnet.runtime.errors import BadInputError
from alexnet.runtime.shelf import Shelf

PARTS, SKIPPED = "parts", "skipped.jsonl"
SHARD = {"jpeg": 8192, "pixels": 2048}  # pictures a shard: 170 and 403 MB at 256 x 256
HANDFUL = 4  # pictures one thread makes at a time
AHEAD = 8  # handfuls a thread has before it, so that none waits for the writing

_Made = tuple[int, bytes, str]  # the picture's number, what is stored, or why nothing is


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


class Making:
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
        self.made, self.done, self.total = 0, 0, len(training) + len(held_out)
        self.skipped: list[tuple[str, str]] = []
        self.sums = Sums.nothing(how.side)

    def run(self, plan: dict[str, Any]) -> dict[str, Any]:
        """Make what is not there yet, and give the manifest; `made` and `skipped` tell what came of it.

        Raises BadInputError for more damaged pictures than may be left out, and MachineError when the machine refuses.
        """
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
        if part is None or part.skipped or size_of(self.path / shard.file) != part.size:
            with whole_file(self.path / shard.file) as out:
                part = self._write(shard, out, pool)
            part.size = size_of(self.path / shard.file)
            part.write(kept)
            self.made += len(part.rows)
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
        return Part(np.array(rows, INDEX), keys, skipped, sums, 0)

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
        squares: list[NDArray[np.uint8]] = []
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

    def _finish(self, plan: dict[str, Any], parts: dict[_Shard, Part]) -> dict[str, Any]:
        """Put the parts together; the manifest last. Raises BadInputError for what only damage has emptied."""
        splits = {}
        for name, pictures in ((TRAINING, self.dataset.training), (HELD_OUT, self.dataset.held_out)):
            own = {shard: part for shard, part in parts.items() if shard.split == name}
            index = np.concatenate([np.zeros(0, INDEX), *(part.rows for part in own.values())])
            if len(pictures) and not len(index):
                raise BadInputError(f"{pictures.where}: every picture of the split {name} is damaged; mend some")
            if name == TRAINING and len(index):
                self._check_classes(index["label"])
            content = io.BytesIO()
            np.save(content, index)
            write_whole(self.path / f"{name}.index.npy", content.getvalue())
            lines = (json.dumps(key) + "\n" for part in own.values() for key in part.keys)
            write_whole(self.path / f"{name}.keys.jsonl", "".join(lines))
            sizes = {shard.file: part.size for shard, part in own.items()}
            splits[name] = {"images": len(index), "shards": list(sizes), "sizes": list(sizes.values())}
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
        manifest["digest"] = own_digest(manifest)
        write_whole(self.path / MANIFEST, json.dumps(manifest, indent=2) + "\n")
        return manifest

    def _check_classes(self, labels: NDArray[Any]) -> None:
        """Refuse a class that had pictures to learn from until damaged ones were left out."""
        count = len(self.dataset.classes)
        had, has = (np.bincount(each, minlength=count) for each in (self.dataset.training.labels, labels))
        if (emptied := np.flatnonzero((had > 0) & (has == 0))).size:
            name = self.dataset.classes[emptied[0]]
            raise BadInputError(f"{self.dataset.training.where}: every picture of class {name} is damaged; mend some")

    def _write_skipped(self) -> None:
        lines = (json.dumps({"picture": name, "fault": fault}) + "\n" for name, fault in self.skipped)
        write_whole(self.path / SKIPPED, "".join(lines))
