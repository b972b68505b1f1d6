"""Writers killed everywhere: before each file operation, and after each of many lengths of a file's bytes.

The dying is real: SIGKILL from an audit hook of the interpreter, SIGXFSZ from the kernel at a file size limit. Each
dies in a forked process, so call it where no other thread runs (`python test_commit.py WRITER FOLDER` is such a place).
"""

import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

OPERATIONS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree")


def every_death(
    folder: Path, before: Path, act: Callable[[Path], None], state: Callable[[Path], str], sizes: range
) -> list[tuple[str, str]]:
    """Where each writer died, and what `state` finds in its folder then; the last came through alive.

    before   what the folder is a copy of, each time
    act      what dies in it, again and again
    sizes    numbers of bytes that a file may reach
    """

    def die(where: str, arm: Callable[[], None]) -> tuple[str, str]:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(before, folder)
        child = os.fork()
        if not child:
            arm()
            act(folder)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status) and status:
            raise RuntimeError(f"{where}: ended with {status}")
        return where if os.WIFSIGNALED(status) else "alive", state(folder)

    outcomes = [die(f"byte {size}", partial(_limit, size)) for size in sizes]
    for number in count(1):
        outcomes.append(die(f"operation {number}", partial(_kill_at, number, folder)))
        if outcomes[-1][0] == "alive":
            break
    return outcomes


def _limit(size: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def _kill_at(number: int, folder: Path) -> None:
    numbers = count(1)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in OPERATIONS and str(arguments[0]).startswith(str(folder)) and next(numbers) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
