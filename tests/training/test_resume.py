"""Kill it whenever you like: a run killed and resumed again and again ends with the bits of one that was not."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from resuming import differing, left

from alexnet.runtime import checkpoint

KILLS, EPOCHS = 10, 8
NURSERY = Path(__file__).with_name("nursery.py")


class Nursery:
    """Starts commands quickly, each in a process of its own, one at a time."""

    def __init__(self, folder):
        self.errors, self.child = folder / "stderr", 0
        self.server = subprocess.Popen(
            [sys.executable, str(NURSERY)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert self.server.stdout.readline() == "ready\n"

    def start(self, *words):
        """Begin a command and give its process number."""
        assert not self.child
        self.child = int(self._asked(json.dumps({"words": [str(word) for word in words], "errors": str(self.errors)})))
        return self.child

    def end(self, sent=None):
        """Send the command a signal, if one is given; wait for its end and give its exit code and what it said."""
        if sent:
            os.kill(self.child, sent)
        code, self.child = int(self._asked("over")), 0
        return code, self.errors.read_text()

    def _asked(self, line):
        self.server.stdin.write(line + "\n")
        self.server.stdin.flush()
        return self.server.stdout.readline()

    def close(self):
        if self.child:
            self.end(signal.SIGKILL)
        self.server.stdin.close()
        self.server.wait()
        self.server.stdout.close()


@pytest.fixture(scope="module")
def nursery(tmp_path_factory):
    opened = Nursery(tmp_path_factory.mktemp("nursery"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def command(pictures):
    """Eight epochs of six steps."""
    numbers = ("--learning.epochs", EPOCHS, "--learning.batch", 5, "--learning.rate", 0.002)
    return ("train", pictures, "--recipe", "cifar-18pct", "--quiet", *numbers, "--run")


@pytest.fixture(scope="module")
def straight(nursery, command, tmp_path_factory):
    """What an undisturbed run leaves."""
    path = tmp_path_factory.mktemp("straight") / "run"
    nursery.start(*command, path)
    code, said = nursery.end()
    assert code == 0, said
    return left(path)


def lines(path, event=b""):
    """How many lines of the journal are there by now, of this kind of event."""
    journal = path / "journal.jsonl"
    return sum(event in line for line in journal.read_bytes().splitlines()) if journal.exists() else 0


def wait_for(moment):
    """Until something is so in a running command; fail when it never is."""
    end = time.monotonic() + 60
    while not moment():
        assert time.monotonic() < end, "it never came so far"
        time.sleep(0.001)


def resuming(path):
    return ["--resume"] if (path / "recipe.json").exists() else []


def kept(path):
    """Judgings and lines of the journal at the newest checkpoint: where the next process will go on."""
    newest = checkpoint.newest(path / "checkpoints")
    state = checkpoint.load(newest).state if newest else {"errors": [], "lines": 0}
    return len(state["errors"]), state["lines"]


def identity(path):
    """Which file the journal is: a process that goes on writes it anew."""
    return (path / "journal.jsonl").stat().st_ino if (path / "journal.jsonl").exists() else 0


def kill_at_some_moment(nursery, path, moments, in_a_save):
    """Kill the command that was just started: about when it saves, or anywhere in its first steps and before them."""
    (judged, told), before, further = kept(path), identity(path), moments.randrange(5)

    def reached():
        new = identity(path) != before
        saves = new and lines(path, b"judging") > judged  # a save follows the judging of an epoch
        return saves if in_a_save else not further or (new and lines(path) >= told + further)

    wait_for(reached)
    time.sleep(moments.uniform(0, 0.04 if in_a_save else 0.02 if further else 0.3))
    return nursery.end(signal.SIGKILL)


def test_killed_again_and_again_a_run_ends_with_the_bits_of_one_that_was_not(nursery, command, straight, tmp_path):
    seed = random.SystemRandom().randrange(2**32)
    moments, path, phases = random.Random(seed), tmp_path / "run", []
    while len(phases) < KILLS and kept(path)[0] < EPOCHS:
        nursery.start(*command, path, *resuming(path))
        code, said = kill_at_some_moment(nursery, path, moments, in_a_save=len(phases) % 2 == 1)
        assert code in (-signal.SIGKILL, 0), said  # 0: at its very end, it was faster
        whole = [entry.name for entry in path.glob("checkpoints/*")]
        phases.append("saving" if any("partial" in name for name in whole) else max(whole, default="nothing saved"))
    print(f"seed {seed}, killed at: {', '.join(phases)}")
    assert len(phases) >= 6
    nursery.start(*command, path, *resuming(path))
    code, said = nursery.end()
    assert code == 0, said
    assert differing(left(path), straight) == []
    assert len(list(path.glob("checkpoints/*"))) == 2 and not list(path.rglob("*.partial"))


@pytest.mark.parametrize(("sent", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_run_after_its_step_saved_and_resumable(
    nursery, command, straight, tmp_path, sent, exit_code
):
    path = tmp_path / "run"
    nursery.start(*command, path)
    wait_for(lambda: lines(path) >= 5)
    code, said = nursery.end(sent)
    assert code == exit_code
    steps = left(path)["state"]["step"]
    assert steps >= 5 and (path / "checkpoints" / f"step-{steps:09}").exists()
    assert len(said.splitlines()) == 1
    assert f"{path}: stopped after step {steps} of 48, saved; " in said and "--resume" in said
    nursery.start(*command, path, "--resume")
    assert nursery.end()[0] == 0
    assert differing(left(path), straight) == []


def test_a_second_signal_ends_at_once_and_nothing_is_lost_but_the_steps_since_the_last_save(
    nursery, command, straight, tmp_path
):
    path = tmp_path / "run"
    number = nursery.start(*command, path)
    wait_for(lambda: lines(path) >= 9)
    os.kill(number, signal.SIGTERM)
    assert nursery.end(signal.SIGINT) == (130, "alexnet train: stopped\n")
    assert left(path)["state"]["step"] in (6, 12)
    nursery.start(*command, path, "--resume")
    assert nursery.end()[0] == 0
    assert differing(left(path), straight) == []


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_stopped_before_its_first_step_the_same_folder_can_be_used(nursery, command, straight, tmp_path, sent):
    for attempt in range(5):  # on a busy machine the run may be over before the signal comes
        path = tmp_path / f"run-{attempt}"
        nursery.start(*command, path)
        wait_for((path / ".lock").exists)
        code, said = nursery.end(sent)
        if code:
            break
    assert code == (130 if sent == signal.SIGINT else -signal.SIGKILL)
    assert len(said.splitlines()) == (sent == signal.SIGINT)
    nursery.start(*command, path, *resuming(path))
    code, said = nursery.end()
    assert code == 0, said
    assert differing(left(path), straight) == []


def test_a_folder_that_another_process_trains_in_is_refused_and_the_other_goes_on(
    nursery, command, straight, tmp_path, alexnet
):
    path = tmp_path / "run"
    number = nursery.start(*command, path)
    wait_for((path / "journal.jsonl").exists)
    os.kill(number, signal.SIGSTOP)
    try:
        for more in (["--resume"], []):
            ended = alexnet(*command, path, *more)
            assert ended.code == (4 if more else 3), ended.err
            assert len(ended.err.splitlines()) == 1
            assert not more or f"{path}: in use by process {number} on " in ended.err
    finally:
        code, said = nursery.end(signal.SIGCONT)
    assert code == 0, said
    assert differing(left(path), straight) == []
