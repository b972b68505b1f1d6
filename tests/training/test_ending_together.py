"""Processes that work together agree before they begin, and end together: in one line, naming who and what."""

import os
import signal
import time

import pytest
from resuming import differing, left

from alexnet.runtime import checkpoint
from company import commanded, complaints

EPOCHS = 6


@pytest.fixture(scope="module")
def words(pictures):
    """Six epochs of six steps."""
    numbers = ("--learning.epochs", EPOCHS, "--learning.batch", 5, "--learning.rate", 0.002)
    return ("train", pictures, "--recipe", "cifar-18pct", "--quiet", *numbers)


@pytest.fixture(scope="module")
def straight(words, tmp_path_factory):
    """What an undisturbed run of two processes leaves."""
    path = tmp_path_factory.mktemp("straight")
    assert commanded(path / "said", 2, *words, "--run", path / "run").codes() == [0, 0], complaints(path / "said")
    return left(path / "run")


class Different:
    """Other words, another program, or a processor of another kind, for rank 1."""

    def __init__(self, *words, program="", kind=""):
        self.words, self.program, self.kind = words, program, kind

    def __call__(self, rank):
        from alexnet import command_line
        from alexnet.runtime.devices import Machine
        from alexnet.training import train

        if rank == 1 and self.program:
            train.program = lambda: self.program
        if rank == 1 and self.kind:
            Machine.kind = self.kind
        if rank == 1:
            run = command_line._run
            command_line._run = lambda verb, given: run(verb, [*given, *self.words])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (Different("--learning.momentum", "0.8"), "a recipe"),
        (Different("--seed", "7"), "a recipe"),
        (Different(program="another"), "a program"),
        (Different(kind="another"), "a kind of processor"),
    ],
)
def test_a_rank_that_does_not_agree_is_refused_before_the_first_step(words, tmp_path, change, said):
    company = commanded(tmp_path / "said", 2, *words, "--run", tmp_path / "run", change=change)
    assert company.codes() == [3, 3]
    (line,) = complaints(tmp_path / "said")
    assert line.startswith(f"alexnet train: error: rank 1: has {said} other than rank 0's; start every process with")
    assert not (tmp_path / "run").exists()


def test_other_pictures_on_one_machine_are_refused(words, own_pictures, tmp_path):
    (own_pictures / "red" / "00.jpg").rename(own_pictures / "red" / "99.jpg")
    other = Replaced(str(words[1]), str(own_pictures))
    company = commanded(tmp_path / "said", 2, *words, "--run", tmp_path / "run", change=other)
    assert company.codes() == [3, 3]
    (line,) = complaints(tmp_path / "said")
    assert "rank 1: has pictures or classes other than rank 0's" in line


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


def test_a_damaged_picture_in_one_ranks_share_ends_both_and_is_named_once(words, own_pictures, tmp_path):
    source = [str(own_pictures) if word == words[1] else word for word in words]
    done = commanded(tmp_path / "before", 2, *source, "--run", tmp_path / "run", change=DyingAt(0, 8, signal.SIGTERM))
    assert done.codes() == [143, 143], complaints(tmp_path / "before")
    damaged = own_pictures / "red" / "01.png"
    damaged.write_bytes(damaged.read_bytes()[:200])
    company = commanded(
        tmp_path / "said", 2, *source, "--run", tmp_path / "run", "--resume", change=ReadingAsItGoes()
    )  # fmt: skip
    assert company.codes() == [3, 3]
    (line,) = complaints(tmp_path / "said")
    assert line.count("red/01.png: damaged picture") == 1, line


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


@pytest.mark.parametrize("lost", [0, 1])
def test_a_killed_rank_is_named_by_the_others_and_resuming_leaves_the_same_bits(words, straight, tmp_path, lost):
    run = ("--run", tmp_path / "run")
    company = commanded(tmp_path / "said", 2, *words, *run, change=DyingAt(lost, 20, signal.SIGKILL))
    began = time.monotonic()
    assert sorted(company.codes()) == [-signal.SIGKILL, 6]
    assert time.monotonic() - began < 40
    (line,) = complaints(tmp_path / "said")
    assert f"error: rank {lost} (on " in line and "no longer answers" in line
    newest = checkpoint.newest(tmp_path / "run" / "checkpoints")
    assert newest.name == "step-000000018", "the last epoch's end: nothing else was lost"
    again = commanded(tmp_path / "again", 2, *words, *run, "--resume")
    assert again.codes() == [0, 0], complaints(tmp_path / "again")
    assert differing(left(tmp_path / "run"), straight) == []


def test_a_frozen_rank_is_named_and_the_others_end(words, tmp_path):
    company = commanded(tmp_path / "said", 3, *words, "--run", tmp_path / "run", change=DyingAt(1, 7, signal.SIGSTOP))
    frozen = company.members.pop(1)
    try:
        assert company.codes() == [6, 6]
    finally:
        frozen.kill()
    (line,) = complaints(tmp_path / "said")
    assert "error: rank 1 (on " in line and "no longer answers" in line


@pytest.mark.parametrize("asked", [0, 1])
def test_a_signal_to_one_rank_saves_and_ends_all_after_the_same_step(words, straight, tmp_path, asked):
    run = ("--run", tmp_path / "run")
    company = commanded(tmp_path / "said", 2, *words, *run, change=DyingAt(asked, 15, signal.SIGTERM))
    assert company.codes() == [143, 143]
    (line,) = complaints(tmp_path / "said")
    assert "stopped after step 16 of 36, saved" in line
    assert commanded(tmp_path / "again", 2, *words, *run, "--resume").codes() == [0, 0]
    assert differing(left(tmp_path / "run"), straight) == []


class NotANumberAt:
    """One rank's part of the loss is not a number from a step on."""

    def __call__(self, rank):
        from alexnet.training.step import Step

        learn = Step.__call__

        def step(this, batch, number, rate):
            return learn(this, batch, number, rate) * (float("nan") if rank == 1 and number >= 13 else 1)

        Step.__call__ = step


def test_a_loss_that_is_not_finite_on_one_rank_ends_all_at_that_step(words, tmp_path):
    company = commanded(tmp_path / "said", 2, *words, "--run", tmp_path / "run", change=NotANumberAt())
    assert company.codes() == [5, 5]
    (line,) = complaints(tmp_path / "said")
    assert "the loss is nan at step 14" in line


class SmallDisk:
    """The first rank cannot write files of this size."""

    def __call__(self, rank):
        import resource

        if rank == 0:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))


def test_a_full_disk_on_the_first_rank_ends_all(words, tmp_path):
    company = commanded(tmp_path / "said", 2, *words, "--run", tmp_path / "run", change=SmallDisk())
    assert company.codes() == [4, 4]
    assert "cannot write" in complaints(tmp_path / "said")[-1]


class Missing:
    """Rank 1 does not come."""

    def __call__(self, rank):
        from datetime import timedelta

        from alexnet.runtime import ranks

        ranks.ARRIVAL = timedelta(seconds=2)
        if rank == 1:
            os._exit(0)


def test_a_rank_that_never_comes_is_named(words, tmp_path):
    company = commanded(tmp_path / "said", 2, *words, "--run", tmp_path / "run", change=Missing())
    assert company.codes() == [4, 0]
    (line,) = complaints(tmp_path / "said")
    assert "rank 1 of 2 has not come within 2 s" in line and line.endswith("start it too, or start fewer")


class NoSuchNetwork:
    """The processes are to talk over a device that is not there."""

    def __call__(self, rank):
        os.environ["GLOO_SOCKET_IFNAME"] = "nosuch0"


def test_a_network_that_is_not_there_is_named_with_the_setting(words, tmp_path):
    company = commanded(tmp_path / "said", 2, *words, "--run", tmp_path / "run", change=NoSuchNetwork())
    assert company.codes() == [4, 4]
    for line in complaints(tmp_path / "said"):
        assert "no connection with the other processes (" in line and "GLOO_SOCKET_IFNAME" in line


def test_towers_without_enough_processes_are_refused_with_the_command_that_starts_them(alexnet, pictures):
    ended = alexnet("train", pictures, "--recipe", "paper", "--parallel.towers", 2)
    assert ended.one_line("train", 2) == (
        "--parallel.towers: 2 need a multiple of 2 processes, and there is one; start them with: "
        "torchrun --nproc-per-node 2 -m -- alexnet train ..."
    )


def test_a_layout_that_the_network_does_not_allow_is_refused_before_anything_is_begun(pictures, tmp_path):
    words = ("train", pictures, "--recipe", "cifar-18pct", "--quiet", "--learning.epochs", 1, "--run", tmp_path / "run")
    refused = commanded(tmp_path / "said", 2, *words, "--parallel.connected", 2)
    assert refused.codes() == [2, 2]
    (line,) = complaints(tmp_path / "said")
    assert "--parallel.connected: fc10 of cifar-18pct cannot be divided into 2 equal shares" in line
    again = commanded(tmp_path / "again", 2, *words)
    assert again.codes() == [0, 0], complaints(tmp_path / "again")


def test_where_torchrun_restarts_the_run_has_to_be_named(alexnet, pictures, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "2")
    ended = alexnet("train", pictures, "--recipe", "cifar-18pct")
    assert ended.one_line("train", 2) == "--run: name the run's folder; after a restart it has to be found again"
