"""How processes that work together end together.

A collective whose peer is frozen or cut off waits without end. So every process has a pulse: a thread that counts up a
number in the store that all of them share, and looks whether the next rank's number moves. Who ends with an error
leaves word in the store; who finds another rank silent leaves word of that; and whoever finds word ends too.
"""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from types import FrameType

from torch._C._distributed_c10d import PrefixStore

from alexnet.runtime.arrival import joined, machine_here, name_here, parted, store
from alexnet.runtime.errors import AlexNetError, PeerError, understood
from alexnet.runtime.ranks import Ranks

BEAT = 1.0  # seconds
SILENCE = 30.0  # seconds without a beat after which a rank counts as lost; $ALEXNET_SILENCE_SECONDS
GRACE = 5.0  # seconds that a process has to end by itself once there is word
WORD = "word"


@dataclass(frozen=True)
class Word:
    """Why everybody ends: said by rank `speaker` on `machine`, who also shows it."""

    speaker: int
    machine: str
    code: int
    line: str


@contextmanager
def at_work(tell: Callable[[AlexNetError], None]) -> Iterator[Ranks]:
    """This process among those started with it, until the block ends; they end together.

    tell   shows the last words of a process that hangs in a collective, and has to be ended from outside

    An error that one process can name is raised there; in the others a PeerError is.
    """
    ranks = joined()
    if ranks.world == 1:
        yield ranks
        parted()
        return
    pulse = Pulse(ranks, tell)
    before = signal.signal(signal.SIGTERM, pulse.asked_to_end)
    try:
        yield ranks
        ranks.wait()
    except BaseException as error:
        pulse.fail(error)
        raise
    finally:
        pulse.stop()
        signal.signal(signal.SIGTERM, before)
    parted()


class Pulse:
    """This process's own beat, and its look at the others'."""

    def __init__(self, ranks: Ranks, tell: Callable[[AlexNetError], None]) -> None:
        self.ranks, self.tell = ranks, tell
        self.silence = float(os.environ.get("ALEXNET_SILENCE_SECONDS", SILENCE))
        self.store = PrefixStore(ranks.session, store(timedelta(seconds=self.silence)))
        self.answered_at = time.monotonic()
        self.word: Word | None = None
        self.stopped, self.failing = threading.Event(), False
        self.store.set(f"name/{ranks.rank}", name_here())
        self.store.set(f"beat/{ranks.rank}", "0")
        ranks.wait()
        self.threads = [threading.Thread(target=task, daemon=True) for task in (self._beat, self._watch)]
        for thread in self.threads:
            thread.start()

    def stop(self) -> None:
        """No more beats. A thread that the interpreter's end finds inside the store would abort the process."""
        self.stopped.set()
        for thread in self.threads:
            thread.join(GRACE)

    def asked_to_end(self, number: int, _: FrameType | None) -> None:
        """SIGTERM: torchrun sends it when another process has ended; that one is the news."""
        if not self.failing:
            raise SystemExit(128 + number)

    def fail(self, error: BaseException) -> None:
        """Leave word of the `error` that ends this process; raise a PeerError where another's came first, or where
        nobody can be told and it is no error that has a name."""
        self.failing = True
        told = understood(error, name_here())
        try:
            self._tell_others(error, told)
        except RuntimeError:  # of the store's, which its machine may have taken along
            if not told:
                raise self._cut_off() from None
            return
        if self.word and (self.word.speaker != self.ranks.rank or self.word.code == PeerError.exit_code):
            raise self._ending(self.word) from None

    def _tell_others(self, error: BaseException, told: AlexNetError | None) -> None:
        if told:
            self._leave(told.exit_code, str(told))
        elif not self._found_lost():
            stopped = isinstance(error, SystemExit | KeyboardInterrupt)
            code = int(error.code or 0) if isinstance(error, SystemExit) else 130 if stopped else 1
            self._leave(code, f"{name_here()}: {'stopped' if stopped else repr(error)}")
        if int(os.environ.get("LOCAL_WORLD_SIZE", self.ranks.world)) < self.ranks.world:
            time.sleep(2 * BEAT)  # where torchrun ends with this process, and the store with torchrun: let others hear

    def _found_lost(self) -> bool:
        """Whether there is word, or comes to be, or a rank is found whose pulse has stopped."""
        before, until = self._beats(), time.monotonic() + GRACE
        while time.monotonic() < until:
            if self._listen():
                return True
            time.sleep(BEAT / 4)
        now = self._beats()
        if lost := [rank for rank in now if now[rank] == before[rank] and rank != self.ranks.rank]:
            self._leave_lost(lost[0])
        return self.word is not None

    def _beats(self) -> dict[int, bytes]:
        return {rank: self.store.get(f"beat/{rank}") for rank in range(self.ranks.world)}

    def _leave_lost(self, rank: int) -> None:
        name = self.store.get(f"name/{rank}").decode()
        self._leave(PeerError.exit_code, f"{name}: no longer answers (killed, frozen or cut off); resume the run")

    def _leave(self, code: int, line: str) -> None:
        """Leave word, unless somebody has."""
        own = json.dumps(asdict(Word(self.ranks.rank, machine_here(), code, line)))
        self.word = Word(**json.loads(self.store.compare_set(WORD, "", own)))

    def _listen(self) -> bool:
        """Whether somebody has left word."""
        if self.word is None and self.store.check([WORD]):
            self.word = Word(**json.loads(self.store.get(WORD)))
        return self.word is not None

    def _cut_off(self) -> PeerError:
        store_at = f"{os.environ['MASTER_ADDR']} port {os.environ['MASTER_PORT']}"
        return PeerError(
            f"{name_here()}: the store at {store_at} no longer answers, nor do other machines; resume the run"
        )

    def _ending(self, word: Word) -> PeerError:
        own = word.speaker == self.ranks.rank
        heard = word.machine == machine_here() or os.environ.get("LOCAL_RANK", "0") != "0"
        return PeerError(word.line if own else f"ended with {word.line}", word.code, silent=heard and not own)

    def _beat(self) -> None:
        """The thread that talks with the store; without it `_watch` finds that nobody answers."""
        with suppress(RuntimeError):
            self._beat_on()

    def _beat_on(self) -> None:
        following, beats = (self.ranks.rank + 1) % self.ranks.world, 0
        heard, heard_at = b"", time.monotonic()
        while not self.stopped.wait(BEAT):
            beats += 1
            self.store.set(f"beat/{self.ranks.rank}", str(beats))
            found = self.store.get(f"beat/{following}")
            self.answered_at = time.monotonic()
            if found != heard:
                heard, heard_at = found, self.answered_at
            elif self.answered_at - heard_at > self.silence:
                self._leave_lost(following)
            self._listen()

    def _watch(self) -> None:
        """The thread that ends this process when it does not end by itself."""
        found_at = 0.0
        while not self.stopped.wait(BEAT / 4):
            now = time.monotonic()
            found_at = found_at or (now if self.word else 0.0)
            if self.word and now - found_at > GRACE:
                self._end_at_once(self._ending(self.word))
            if now - self.answered_at > self.silence + GRACE:
                self._end_at_once(self._cut_off())

    def _end_at_once(self, ending: PeerError) -> None:
        if not ending.silent:
            self.tell(ending)
        os._exit(ending.exit_code)  # the main thread waits inside a collective and hears nothing
