"""Ctrl-C, SIGTERM and a terminal that is closed (SIGHUP, unless nohup has it ignored): finish the step, save, and say
how to go on. A second one, if either is Ctrl-C, ends at once.

A second SIGTERM changes nothing: who stops a whole group of processes (systemd, some of Slurm's ways) sends each of
them one, and torchrun passes its own on.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruption:
    """Whether someone asked for the end: `signal_number` is 0 until then."""

    def __init__(self) -> None:
        self.signal_number = 0

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.signal_number and signal.SIGINT in (self.signal_number, number):
            raise KeyboardInterrupt
        self.signal_number = number

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Take the signals while the block runs. Python gives them to a process's first thread alone."""
        ours = SIGNALS if threading.current_thread() is threading.main_thread() else ()
        ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        taken = [number for number in ours if not (ignored and number == signal.SIGHUP)]
        before = {number: signal.signal(number, self._note) for number in taken}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
