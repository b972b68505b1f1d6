"""One writer a folder."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from alexnet.runtime.errors import MachineError, explain_os_error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of `folder`, made if need be; the kernel lets go when this one ends, however it ends.

    Raises MachineError when another process is in, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("a+b", buffering=0)
    except OSError as error:
        raise explain_os_error(error, folder) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            who = lock.read().decode() or "another process"
            raise MachineError(f"{folder}: in use by {who}; wait for it to end") from None
        except OSError as error:
            raise MachineError(
                f"{folder}: cannot be locked: {error.strerror}; choose one on a disk that can lock files (flock)"
            ) from error
        _say(lock, f"process {os.getpid()} on {socket.gethostname()}")
        try:
            yield
        finally:
            _say(lock, "")


def _say(lock: IO[bytes], who: str) -> None:
    """Who is in, for others' messages: a disk that is too full for it is no reason to stay out."""
    with suppress(OSError):
        lock.truncate(0)
        lock.write(who.encode())
