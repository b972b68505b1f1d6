"""Processes that work together end together: in one line, naming who and what, with nothing lost but what is said."""

import signal
import time

import pytest
from mishaps import (
    AskedWhileJudging,
    DyingAt,
    NotANumberAt,
    OutOfMemory,
    ReadingAsItGoes,
    SlowDisk,
    SmallDisk,
    SmallDiskAndDying,
    StoreWithTheFirst,
)
from resuming import differing, left

from alexnet.runtime import checkpoint
from company import commanded, complaints


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


def test_a_loss_that_is_not_finite_on_one_rank_ends_all_at_that_step(words, tmp_path):
    company = commanded(tmp_path / "said", 2, *words, "--run", tmp_path / "run", change=NotANumberAt())
    assert company.codes() == [5, 5]
    (line,) = complaints(tmp_path / "said")
    assert "the loss is nan at step 14" in line


def test_a_full_disk_on_the_first_rank_ends_all(words, tmp_path):
    company = commanded(tmp_path / "said", 2, *words, "--run", tmp_path / "run", change=SmallDisk())
    assert company.codes() == [4, 4]
    assert "cannot write" in complaints(tmp_path / "said")[-1]


@pytest.mark.parametrize("asked", [0, 1])
def test_a_signal_while_it_judges_saves_and_resuming_judges_again(words, straight, tmp_path, asked):
    run = ("--run", tmp_path / "run")
    company = commanded(tmp_path / "said", 2, *words, *run, change=AskedWhileJudging(asked))
    assert company.codes() == [143, 143]
    (line,) = complaints(tmp_path / "said")
    assert "stopped after step 6 of 36, saved" in line
    assert left(tmp_path / "run")["state"]["errors"] == []
    assert commanded(tmp_path / "again", 2, *words, *run, "--resume").codes() == [0, 0]
    assert differing(left(tmp_path / "run"), straight) == []


def test_nobody_says_saved_before_it_is(words, straight, tmp_path):
    """Who has nothing to write would end first, and its word would end the one that writes."""
    run = ("--run", tmp_path / "run")
    company = commanded(tmp_path / "said", 2, *words, *run, change=SlowDisk(1, 3, signal.SIGTERM))
    assert company.codes() == [143, 143]
    (line,) = complaints(tmp_path / "said")
    assert "stopped after step 4 of 36, saved" in line
    assert left(tmp_path / "run")["state"]["step"] == 4


def test_a_full_disk_is_told_when_a_signal_asks_for_the_end(words, tmp_path):
    change = SmallDiskAndDying(1, 3, signal.SIGTERM)
    company = commanded(tmp_path / "said", 2, *words, "--run", tmp_path / "run", change=change)
    assert company.codes() == [4, 4]
    assert "cannot write" in complaints(tmp_path / "said")[-1]


def test_who_loses_the_store_with_the_first_process_says_so(words, tmp_path):
    company = commanded(tmp_path / "said", 2, *words, "--run", tmp_path / "run", change=StoreWithTheFirst(8))
    assert company.codes() == [-signal.SIGKILL, 6]
    line = complaints(tmp_path / "said")[-1]  # behind PyTorch's own, of where in its code
    assert (
        "alexnet train: error: rank 1 (on " in line
        and "the store at 127.0.0.1 port " in line
        and "no longer answers" in line
    )


def test_what_the_machine_refuses_to_one_ends_all_with_its_code(words, tmp_path):
    company = commanded(tmp_path / "said", 2, *words, "--run", tmp_path / "run", change=OutOfMemory())
    assert company.codes() == [4, 4]
    (line,) = complaints(tmp_path / "said")
    assert "error: memory: not enough; end other programs" in line
