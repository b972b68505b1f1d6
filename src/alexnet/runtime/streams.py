"""Standard output and standard error, whose readers may leave before we do."""

import os
import sys
from contextlib import suppress
from typing import Any, TextIO, cast


def let_go(stream: TextIO) -> None:
    """Whatever is still written there goes nowhere; the interpreter, too, writes out what is left when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    with suppress(OSError):  # what stands for it in a notebook or a test has no descriptor
        os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def open_closed_ones() -> None:
    """Where standard output or standard error is closed, what is written there goes nowhere. Left closed, their numbers
    would be given to the next files that are opened, and what libraries say there would lie in these."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            setattr(sys, name, os.fdopen(number, "w", errors="backslashreplace"))


def standard_error() -> TextIO:
    """It; but a reader who leaves, or a full disk, ends nothing."""
    return cast(TextIO, _Unheard(sys.stderr))


class _Unheard:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            let_go(self._stream)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            let_go(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
