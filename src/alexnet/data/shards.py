"""A store's shards while they are made: the two forms of file, and what is known of each once it is written."""

import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from alexnet.data.statistics import Sums
from alexnet.data.store import INDEX
from alexnet.runtime.arrays import read_arrays, write_arrays
from alexnet.runtime.errors import BadInputError


@dataclass
class Part:
    """What is known of a shard once its file is written.

    rows      INDEX[n]
    keys      what its pictures are called
    skipped   name and fault of those left out
    size      of the file, in bytes
    """

    rows: NDArray[Any]
    keys: list[str]
    skipped: list[tuple[str, str]]
    sums: Sums
    size: int

    def write(self, path: Path) -> None:
        """Keep it, whole or not at all."""
        said = json.dumps({"keys": self.keys, "skipped": self.skipped, "size": self.size})
        arrays = {name: self.rows[name] for name in INDEX.names or ()}
        write_arrays(path, arrays | vars(self.sums) | {"said": np.frombuffer(said.encode(), np.uint8)})

    @classmethod
    def read(cls, path: Path) -> "Part | None":
        """What was written; None when it was not, or not whole."""
        try:
            arrays = read_arrays(path)
            said = json.loads(arrays["said"].tobytes())
            rows = np.zeros(len(arrays["crc"]), INDEX)
            for name in INDEX.names or ():
                rows[name] = arrays[name]
            sums = Sums(int(arrays["images"]), arrays["total"], arrays["products"])
            skipped = [(name, fault) for name, fault in said["skipped"]]
            return cls(rows, said["keys"], skipped, sums, said["size"])
        except (BadInputError, KeyError, ValueError):
            return None


class TarShard:
    """A shard in WebDataset's form: `N.jpg` and `N.cls` for each picture. No times, no users."""

    def __init__(self, out: IO[bytes]) -> None:
        self._tar = tarfile.TarFile(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT)
        self._count = 0

    def add(self, content: bytes, label: int) -> int:
        """Where the content begins in the file."""
        offset = self._member("jpg", content)
        self._member("cls", str(label).encode())
        self._count += 1
        return offset

    def close(self) -> None:
        """No more pictures."""
        self._tar.close()

    def _member(self, ending: str, content: bytes) -> int:
        member = tarfile.TarInfo(f"{self._count:08}.{ending}")
        member.size = len(content)
        begins = self._tar.offset + tarfile.BLOCKSIZE
        self._tar.addfile(member, io.BytesIO(content))
        return begins


class NpyShard:
    """A shard as one array, uint8[n, side, side, 3]."""

    def __init__(self, out: IO[bytes], side: int) -> None:
        self._out, self._side, self._count = out, side, 0
        self._header()

    def add(self, content: bytes, label: int) -> int:
        """Where the content begins in the file."""
        begins = self._out.tell()
        self._out.write(content)
        self._count += 1
        return begins

    def close(self) -> None:
        """No more pictures: how many there are goes into the header."""
        self._out.seek(0)
        self._header()  # of the same length: NumPy leaves room for the number of rows to grow

    def _header(self) -> None:
        shape = (self._count, self._side, self._side, 3)
        described = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._out, described)
