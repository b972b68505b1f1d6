"""Files that are written whole or not at all.

A file or folder first has a temporary name beside its place (`.NAME.partial`, a file's with a number of its own), is
written and flushed to the disk, then renamed, and the rename is flushed too. Whatever stops the program, the place
holds the old content or the new.
"""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from alexnet.runtime.errors import explain_os_error

PARTIAL = ".partial"
BEFORE = f".before{PARTIAL}"  # a whole folder that makes way


def write_whole(path: Path, content: bytes | str) -> None:
    """Put `content` (text as UTF-8) at `path`. Raises MachineError when the machine refuses."""
    with whole_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Give a file to write into; it becomes `path` when the block ends without an exception.

    Raises MachineError when the machine refuses; what was written so far is then removed.
    """
    partial = temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            yield file
        flush(partial)
        partial.replace(path)
        flush(path.parent)
    except BaseException as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise explain_os_error(error, path) from error
        raise


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder to fill with flat files; it becomes `path` when the block ends without an exception.

    A folder that was there makes way once the new one is on the disk. Raises MachineError when the machine refuses;
    what was filled so far is then removed.
    """
    partial, before = (path.with_name(f".{path.name}{ending}") for ending in (PARTIAL, BEFORE))
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        for file in partial.iterdir():
            flush(file)
        flush(partial)
        if path.exists():
            path.rename(before)
        partial.rename(path)
        flush(path.parent)
        shutil.rmtree(before, ignore_errors=True)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if before.exists() and not path.exists():
            with suppress(OSError):
                before.rename(path)
        if isinstance(error, OSError):
            raise explain_os_error(error, path) from error
        raise


def temporary(path: Path) -> Path:
    """A name for what is to be at `path`: nobody else's, though others, on other machines too, may be writing it."""
    return path.with_name(f".{path.name}.{int.from_bytes(os.urandom(6))}{PARTIAL}")


def unfinished(name: str) -> str:
    """Of a temporary name the one that it was to become; of others themselves."""
    match = re.fullmatch(rf"\.(.+?)(\.\d+)?{re.escape(PARTIAL)}", name)
    return match[1] if match else name


def remove_leftovers(folder: Path) -> None:
    """Remove what an interrupted write left in `folder`; what had made way for nothing goes back."""
    for before in folder.glob(f".*{BEFORE}"):
        if not (place := folder / before.name[1 : -len(BEFORE)]).exists():
            before.rename(place)
    for leftover in folder.glob(f".*{PARTIAL}"):
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


def flush(path: Path) -> None:
    """Wait until the file or folder `path` is on the disk (fsync)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
