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

from alexnet.runtime.run_folder import RunFolder

KILLS = 10
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
    """Four epochs of eight steps."""
    numbers = ("--learning.epochs", 4, "--learning.batch", 4, "--learning.rate", 0.002)
    return ("train", pictures, "--recipe", "cifar-18pct", "--quiet", *numbers, "--run")


@pytest.fixture(scope="module")
def straight(nursery, command, tmp_path_factory):
    """What an undisturbed run leaves, and how long it takes."""
    path = tmp_path_factory.mktemp("straight") / "run"
    started = time.monotonic()
    nursery.start(*command, path)
    code, said = nursery.end()
    assert code == 0, said
    return left(path), time.monotonic() - started


def checkpoints(path):
    return sorted(entry.name for entry in (path / "checkpoints").glob("*")) if path.exists() else []


def test_killed_again_and_again_a_run_ends_with_the_bits_of_one_that_was_not(nursery, command, straight, tmp_path):
    expected, seconds = straight
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    moments = random.Random(seed)
    path, killed = tmp_path / "run", []
    for _ in range(KILLS):
        began = (path / "recipe.json").exists()
        nursery.start(*command, path, *(["--resume"] if began else []))
        time.sleep(moments.uniform(0, seconds * 0.6))
        code, said = nursery.end(signal.SIGKILL)
        assert code in (-signal.SIGKILL, 0), said
        if code == 0:
            break
        done = checkpoints(path)
        killed.append(done[-1] if done else "before the first checkpoint")
    print(f"killed at {killed}")
    assert len(killed) >= 2
    nursery.start(*command, path, *(["--resume"] if (path / "recipe.json").exists() else []))
    code, said = nursery.end()
    assert code == 0, said
    assert differing(left(path), expected) == []
    assert len(checkpoints(path)) == 2 and not list(path.rglob("*.partial"))


def wait_for(moment, number):
    """Until something is so in a running command; fail when it never is."""
    end = time.monotonic() + 60
    while not moment():
        assert time.monotonic() < end, f"process {number} never came so far"
        time.sleep(0.002)


@pytest.mark.parametrize(("sent", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_run_after_its_step_saved_and_resumable(
    nursery, command, straight, tmp_path, sent, exit_code
):
    path = tmp_path / "run"
    number = nursery.start(*command, path)
    wait_for(lambda: (path / "journal.jsonl").exists() and len(RunFolder(path).events()) >= 5, number)
    code, said = nursery.end(sent)
    assert code == exit_code
    steps = left(path)["state"]["step"]
    assert steps >= 5 and checkpoints(path)[-1] == f"step-{steps:09}"
    assert len(said.splitlines()) == 1
    assert f"{path}: stopped after step {steps} of 32, saved; " in said and "--resume" in said
    nursery.start(*command, path, "--resume")
    assert nursery.end()[0] == 0
    assert differing(left(path), straight[0]) == []


def test_a_second_signal_ends_at_once(nursery, command, straight, tmp_path):
    path = tmp_path / "run"
    number = nursery.start(*command, path)
    wait_for(lambda: (path / "journal.jsonl").exists() and len(RunFolder(path).events()) >= 2, number)
    os.kill(number, signal.SIGINT)
    code, said = nursery.end(signal.SIGINT)
    assert code == 130 and "Traceback" not in said
    nursery.start(*command, path, "--resume")
    assert nursery.end()[0] == 0
    assert differing(left(path), straight[0]) == []


def test_killed_before_it_began_the_same_folder_can_be_used(nursery, command, straight, tmp_path):
    path = tmp_path / "run"
    number = nursery.start(*command, path)
    wait_for((path / ".lock").exists, number)
    assert nursery.end(signal.SIGKILL)[0] == -signal.SIGKILL
    begun = (path / "recipe.json").exists()
    nursery.start(*command, path, *(["--resume"] if begun else []))
    code, said = nursery.end()
    assert code == 0, said
    assert differing(left(path), straight[0]) == []


def test_a_folder_that_another_process_trains_in_is_refused_and_the_other_goes_on(
    nursery, command, straight, tmp_path, alexnet
):
    path = tmp_path / "run"
    number = nursery.start(*command, path)
    wait_for((path / "journal.jsonl").exists, number)
    os.kill(number, signal.SIGSTOP)
    try:
        for more in (["--resume"], []):
            ended = alexnet(*command, path, *more)
            assert ended.code == (4 if more else 3), ended.err
            assert len(ended.err.splitlines()) == 1
            assert not more or f"{path}: in use by process {number}; " in ended.err
    finally:
        code, said = nursery.end(signal.SIGCONT)
    assert code == 0, said
    assert differing(left(path), straight[0]) == []
