"""What befalls one of several processes: each is called with the rank, before anything else (`company.commanded`)."""

import os
import signal
import socket
import time


class Different:
    """Further words, another program, a processor of another kind or another compiler, for some ranks."""

    def __init__(self, *words, program="", kind="", numba="", ranks=(1,)):
        self.words, self.program, self.kind, self.numba, self.ranks = words, program, kind, numba, ranks

    def __call__(self, rank):
        from alexnet import command_line
        from alexnet.runtime.devices import Machine
        from alexnet.training import train

        if rank not in self.ranks:
            return
        if self.program:
            train.program = lambda: self.program
        if self.kind:
            Machine.kind = self.kind
        if self.numba:
            known = train.version_of
            train.version_of = lambda package: self.numba if package == "numba" else known(package)
        run = command_line._run
        command_line._run = lambda verb, given: run(verb, [*given, *self.words])


class Replaced:
    """One word instead of another, for rank 1."""

    def __init__(self, word, instead):
        self.word, self.instead = word, instead

    def __call__(self, rank):
        from alexnet import command_line

        run = command_line._run
        if rank == 1:
            command_line._run = lambda verb, given: run(verb, [self.instead if w == self.word else w for w in given])


class ReadingAsItGoes:
    """Nothing is kept in memory, so that each rank meets the pictures of its own share only."""

    def __call__(self, rank):
        from alexnet.data import squares

        squares.IN_MEMORY = 0


class DyingAt:
    """A signal that a rank sends itself when it comes to a step."""

    def __init__(self, rank, step, number):
        self.rank, self.step, self.number = rank, step, number

    def __call__(self, rank):
        from alexnet.training.step import Step

        learn = Step.__call__

        def step(this, batch, number, rate):
            if rank == self.rank and number == self.step:
                os.kill(os.getpid(), self.number)
            return learn(this, batch, number, rate)

        Step.__call__ = step


class NotANumberAt:
    """One rank's part of the loss is not a number from a step on."""

    def __call__(self, rank):
        from alexnet.training.step import Step

        learn = Step.__call__

        def step(this, batch, number, rate):
            return learn(this, batch, number, rate) * (float("nan") if rank == 1 and number >= 13 else 1)

        Step.__call__ = step


class SmallDisk:
    """The first rank cannot write files of this size."""

    def __call__(self, rank):
        import resource

        if rank == 0:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))


class Missing:
    """Rank 1 does not come."""

    def __call__(self, rank):
        from datetime import timedelta

        from alexnet.runtime import arrival

        arrival.ARRIVAL = timedelta(seconds=2)
        if rank == 1:
            os._exit(0)


class NoSuchNetwork:
    """The processes are to talk over a device that is not there."""

    def __call__(self, rank):
        os.environ["GLOO_SOCKET_IFNAME"] = "nosuch0"


class NoWord:
    """Rank 1 is not given a word, and what goes with it."""

    def __init__(self, word):
        self.word = word

    def __call__(self, rank):
        from alexnet import command_line

        run = command_line._run

        def without(verb, given):
            at = given.index(self.word)
            run(verb, given[:at] + given[at + 2 :])

        if rank == 1:
            command_line._run = without


class SlowDisk(DyingAt):
    """The same, where the first rank takes longer to write a checkpoint than the others are given to end."""

    def __call__(self, rank):
        from alexnet.runtime import checkpoint, pulse

        super().__call__(rank)
        pulse.GRACE = 1.0
        save = checkpoint.save

        def slowly(*what):
            time.sleep(3)
            save(*what)

        checkpoint.save = slowly


class SmallDiskAndDying(DyingAt, SmallDisk):
    """A signal where the first rank cannot write."""

    def __call__(self, rank):
        DyingAt.__call__(self, rank)
        SmallDisk.__call__(self, rank)


class AskedWhileJudging:
    """A rank is asked to end when it has judged its first pictures."""

    def __init__(self, rank):
        self.rank = rank

    def __call__(self, rank):
        from alexnet.evaluation import predictions

        judge = predictions.probabilities
        predictions.PORTION = 1

        def asked(*what):
            if rank == self.rank:
                os.kill(os.getpid(), signal.SIGTERM)
            return judge(*what)

        predictions.probabilities = asked


class StoreWithTheFirst(DyingAt):
    """The first rank's process keeps the store, and takes it along when it is killed."""

    def __init__(self, step):
        super().__init__(0, step, signal.SIGKILL)
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port = str(found.getsockname()[1])

    def __call__(self, rank):
        super().__call__(rank)
        os.environ |= {"TORCHELASTIC_USE_AGENT_STORE": "False", "MASTER_PORT": self.port}


class OutOfMemory:
    """Rank 1 has no room for its pictures."""

    def __call__(self, rank):
        from alexnet.data import squares

        def keep(*_):
            raise MemoryError

        if rank == 1:
            squares.Squares.keep = keep


class Restarted:
    """What torchrun starts for the `count`-th time, with the store that it keeps meanwhile; and what befalls that."""

    def __init__(self, port, count, change=None):
        self.port, self.count, self.change = port, count, change

    def __call__(self, rank):
        os.environ |= {
            "MASTER_PORT": str(self.port),
            "TORCHELASTIC_RUN_ID": "none",
            "TORCHELASTIC_MAX_RESTARTS": "3",
            "TORCHELASTIC_RESTART_COUNT": str(self.count),
        }
        if self.change:
            self.change(rank)
