"""Processes that work together agree before they begin: about what is to be done, and what is gone on with."""

import signal

import pytest
from mishaps import (
    Different,
    DyingAt,
    Missing,
    NoSuchNetwork,
    NoWord,
    Replaced,
    Restarted,
)
from resuming import differing, left
from torch.distributed import TCPStore

from company import commanded, complaints


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (Different("--learning.momentum", "0.8"), "a recipe"),
        (Different("--seed", "7"), "a recipe"),
        (Different(program="another"), "a program"),
        (Different(kind="another"), "a kind of processor"),
        (Different(numba="another"), "a version of numba"),
    ],
)
def test_a_rank_that_does_not_agree_is_refused_before_the_first_step(words, tmp_path, change, said):
    company = commanded(tmp_path / "said", 2, *words, "--run", tmp_path / "run", change=change)
    assert company.codes() == [3, 3]
    (line,) = complaints(tmp_path / "said")
    assert line.startswith(f"alexnet train: error: rank 1: has {said} other than rank 0's; start every process with")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("said", ["--run", "--recipe"])
def test_a_word_that_one_machine_was_not_given_is_asked_for_or_taken_over(words, tmp_path, said):
    """Nobody waits for an answer to what the others did not ask."""
    company = commanded(tmp_path / "said", 2, *words, "--run", tmp_path / "run", change=NoWord(said))
    assert company.codes() == ([0, 0] if said == "--run" else [3, 3]), complaints(tmp_path / "said")
    assert (tmp_path / "run" / "result.json").exists() == (said == "--run")


def test_layouts_that_differ_are_refused_before_any_group_is_formed(words, tmp_path):
    towers = Different("--parallel.towers", "2", ranks=(2, 3))
    company = commanded(tmp_path / "said", 4, *words, "--run", tmp_path / "run", change=towers)
    assert company.codes() == [3, 3, 3, 3]
    (line,) = complaints(tmp_path / "said")
    assert "rank 2: has a recipe other than rank 0's" in line


@pytest.mark.parametrize("told", [0, 1])
def test_where_one_rank_is_told_to_resume_all_do(words, straight, tmp_path, told):
    """A lost pod comes back with --resume; the processes on the other are started again with their first words."""
    run = ("--run", tmp_path / "run")
    company = commanded(tmp_path / "said", 2, *words, *run, change=DyingAt(1, 15, signal.SIGTERM))
    assert company.codes() == [143, 143]
    again = commanded(tmp_path / "again", 2, *words, *run, change=Different("--resume", ranks=(told,)))
    assert again.codes() == [0, 0], complaints(tmp_path / "again")
    assert differing(left(tmp_path / "run"), straight) == []


@pytest.mark.parametrize("count", [0, 1])
def test_a_restart_goes_on_with_what_was_begun_and_not_with_an_older_run(words, straight, tmp_path, count):
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    run = ("--run", tmp_path / "run")
    began = commanded(tmp_path / "0", 2, *words, *run, change=Restarted(store.port, 0, DyingAt(0, 15, signal.SIGKILL)))
    assert sorted(began.codes()) == [-signal.SIGKILL, 6]
    # Another machine that joins has torchrun start all again, which it does not count.
    again = commanded(tmp_path / "1", 2, *words, *run, change=Restarted(store.port, count))
    assert again.codes() == [0, 0], complaints(tmp_path / "1")
    assert differing(left(tmp_path / "run"), straight) == []

    later = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    for start in (0, 1):
        company = commanded(tmp_path / f"later {start}", 2, *words, *run, change=Restarted(later.port, start))
        assert company.codes() == [3, 3]
        (line,) = complaints(tmp_path / f"later {start}")
        assert "holds a run already; --resume goes on with it" in line


def test_other_pictures_on_one_machine_are_refused(words, own_pictures, tmp_path):
    (own_pictures / "red" / "00.jpg").rename(own_pictures / "red" / "99.jpg")
    other = Replaced(str(words[1]), str(own_pictures))
    company = commanded(tmp_path / "said", 2, *words, "--run", tmp_path / "run", change=other)
    assert company.codes() == [3, 3]
    (line,) = complaints(tmp_path / "said")
    assert "rank 1: has pictures or classes other than rank 0's" in line


def test_a_rank_that_never_comes_is_named(words, tmp_path):
    company = commanded(tmp_path / "said", 2, *words, "--run", tmp_path / "run", change=Missing())
    assert company.codes() == [4, 0]
    (line,) = complaints(tmp_path / "said")
    assert "rank 1 of 2 has not come within 2 s" in line and line.endswith("start it too, or start fewer")


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
