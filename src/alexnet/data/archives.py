"""A tar file as a table of where each member's bytes lie: its headers are gone through once, nothing is unpacked.

Read with `tarfile`, whose leniency is taken back: it takes a damaged header, or the end of a file that was cut short
between two members, for the archive's end, and the pictures behind would be missing in silence.
"""

import os
import tarfile
from array import array
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import IO, cast

import numpy as np

from alexnet.data.pictures import hidden_file, hidden_folder
from alexnet.runtime.errors import BadInputError

LARGEST_HEADER = 1 << 20  # bytes; a long name takes a few thousand, and a damaged length is not believed
COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
REFUSED = {
    tarfile.SYMTYPE: ("a symbolic link", "tar what it points to (tar --dereference)"),
    tarfile.LNKTYPE: ("a hard link", "tar the file itself (tar --hard-dereference)"),
    tarfile.CHRTYPE: ("a device", "tar the folder anew without it"),
    tarfile.BLKTYPE: ("a device", "tar the folder anew without it"),
    tarfile.FIFOTYPE: ("a FIFO", "tar the folder anew without it"),
}


class Archive:
    """A file read by offset from any thread, opened when it is first read and closed with the object."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None
        self._opening = Lock()

    def size(self) -> int:
        """Its length in bytes. Raises BadInputError when it is missing, unreadable or no regular file."""
        return os.fstat(self._opened()).st_size

    def some(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset`, fewer at the end of the file. Raises BadInputError when it cannot be read."""
        file = self._opened()
        try:
            return os.pread(file, size, offset)
        except OSError as error:
            raise BadInputError(f"{self.path}: cannot be read ({error.strerror}); check the disk it is on") from error

    def read(self, offset: int, size: int, name: str) -> bytes:
        """The bytes of the member called `name`. Raises BadInputError when they are not all there."""
        content = self.some(offset, size)
        if len(content) != size:
            raise BadInputError(f"{name}: the archive has been cut short; fetch it again")
        return content

    def _opened(self) -> int:
        if self._file is None:
            with self._opening:
                if self._file is None:
                    self._file = self._open()
        return self._file

    def _open(self) -> int:
        if self.path.exists() and not self.path.is_file():  # opening a FIFO would wait for somebody to write to it
            raise BadInputError(f"{self.path}: is not a regular file; name a tar file")
        try:
            return os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise BadInputError(f"{self.path}: no such file; check the name") from None
        except OSError as error:
            raise BadInputError(f"{self.path}: cannot be read ({error.strerror}); check its permissions") from error

    def __del__(self) -> None:
        if self._file is not None:
            os.close(self._file)


class Tar:
    """The regular members of a tar that lies in `archive` from `start` up to `end`, in its order.

    name      what to call it in errors
    names     of the members, without a leading `./`; what is hidden (as with class folders) and folders are left out
    offsets   int64[N], where each member's bytes begin in the archive
    sizes     int64[N], how many they are

    Raises BadInputError naming the member that is neither file nor folder, is sparse, has an absolute name or one with
    `..` in it, has a name twice, or reaches beyond the end; or the tar that is compressed, damaged or cut short.
    """

    def __init__(self, archive: Archive, name: str, start: int, end: int) -> None:
        self.archive, self.name = archive, name
        self.names: list[str] = []
        offsets, sizes = array("q"), array("q")
        for member in _members(_Headers(archive, start, end), name):
            kept = _checked_name(member, name)
            if kept is None:
                continue
            if start + member.offset_data + member.size > end:
                raise _refusal(name, member, "reaches beyond the archive's end", "fetch the archive again")
            self.names.append(kept)
            offsets.append(start + member.offset_data)
            sizes.append(member.size)
        if len(set(self.names)) != len(self.names):
            raise BadInputError(f"{self.called(_repeated(self.names))}: is in it twice; make the archive anew")
        self.offsets, self.sizes = np.array(offsets, np.int64), np.array(sizes, np.int64)

    def __len__(self) -> int:
        return len(self.names)

    def called(self, number: int) -> str:
        """What to call a member in an error."""
        return f"{self.name}: {self.names[number]}"

    def read(self, number: int) -> bytes:
        """A member's bytes. Raises BadInputError when they are not all there."""
        return self.archive.read(int(self.offsets[number]), int(self.sizes[number]), self.called(number))

    def inside(self, number: int) -> "Tar":
        """A member that is a tar itself. Raises BadInputError as for any tar."""
        start = int(self.offsets[number])
        return Tar(self.archive, self.called(number), start, start + int(self.sizes[number]))


def open_tar(path: Path) -> Tar:
    """The uncompressed tar file `path`. Raises BadInputError when it is none, or holds what is refused."""
    archive = Archive(path)
    return Tar(archive, str(path), 0, archive.size())


class _Headers:
    """A stretch of an archive as the file that `tarfile` reads headers from."""

    def __init__(self, archive: Archive, start: int, end: int) -> None:
        self.archive, self.start, self.end = archive, start, end
        self._position = 0

    def read(self, size: int) -> bytes:
        if not 0 <= size <= LARGEST_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        left = max(0, self.end - self.start - self._position)
        content = self.archive.some(self.start + self._position, min(size, left))
        self._position += len(content)
        return content

    def seek(self, position: int) -> int:
        self._position = position
        return position

    def tell(self) -> int:
        return self._position


def _members(headers: _Headers, name: str) -> Iterator[tarfile.TarInfo]:
    try:
        file = cast(IO[bytes], headers)
        tar = tarfile.open(fileobj=file, mode="r:", encoding="utf-8", errors="surrogateescape")  # noqa: SIM115
    except (tarfile.TarError, ValueError, RecursionError) as error:
        raise _no_tar(headers, name, error) from error
    try:
        while (member := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # it would keep them all: a kilobyte each
            if tar.offset < member.offset_data:  # a size below zero leads back to where it was
                raise tarfile.ReadError("a size below zero")
            yield member
        headers.seek(tar.offset)
        # A program that reserves a file's room before it fetches it leaves zeros, which look like the end.
        rest = headers.read(LARGEST_HEADER)
        if not rest.startswith(bytes(tarfile.BLOCKSIZE)) or any(rest) or headers.read(1):
            raise tarfile.ReadError("neither a header nor the end's mark")
    except (tarfile.TarError, ValueError, RecursionError) as error:
        where = f"byte {headers.start + tar.offset:,}"
        raise BadInputError(f"{name}: damaged or cut short at {where} ({error}); fetch it again") from error


def _no_tar(headers: _Headers, name: str, error: Exception) -> BadInputError:
    headers.seek(0)
    first = headers.read(8)
    for mark, program in COMPRESSED.items():
        if first.startswith(mark):
            return BadInputError(f"{name}: is compressed; decompress it first ({program} -dc < OLD > NEW.tar)")
    return BadInputError(f"{name}: is no tar file ({error}); fetch it again")


def _checked_name(member: tarfile.TarInfo, archive: str) -> str | None:
    """What the member is called, None when it is passed over."""
    parts = [part for part in member.name.split("/") if part not in ("", ".")]
    if member.name.startswith("/") or ".." in parts:
        fault = "has an absolute name" if member.name.startswith("/") else "has a name with .. in it"
        raise _refusal(archive, member, fault, "make the archive anew, from inside its folder")
    if member.isdir() or _hidden(parts):
        return None
    if member.issparse():
        raise _refusal(archive, member, "is a sparse file", "make the archive anew without --sparse")
    if not member.isreg():
        kind, remedy = REFUSED.get(member.type, (f"of an unknown kind ({member.type!r})", "make the archive anew"))
        raise _refusal(archive, member, f"is {kind}", remedy)
    if not parts:
        raise _refusal(archive, member, "has no name", "make the archive anew")
    return "/".join(parts)


def _hidden(parts: list[str]) -> bool:
    """As in class folders: `.DS_Store`, `.git/config`, `__MACOSX/._0.jpg`."""
    return bool(parts) and (hidden_file(parts[-1]) or any(hidden_folder(part) for part in parts[:-1]))


def _refusal(archive: str, member: tarfile.TarInfo, fault: str, remedy: str) -> BadInputError:
    return BadInputError(f"{archive}: {member.name}: {fault}; {remedy}")


def _repeated(names: list[str]) -> int:
    seen: set[str] = set()
    for number, name in enumerate(names):
        if name in seen:
            return number
        seen.add(name)
    return 0
