"""Who reads on, and who does not: standard output and standard error closed, full, or left by their reader."""

import json
import os
import subprocess
import sys

import pytest

SMALL = ("--recipe", "cifar-18pct", "--learning.epochs", "2", "--learning.batch", "8")


def ended(*words, unbuffered="", **streams):
    command = [sys.executable, "-m", "alexnet", *map(str, words)]
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered, "OMP_NUM_THREADS": "1"}
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    return subprocess.run(command, text=True, check=False, env=environment, **given)


@pytest.fixture
def left():
    """A pipe whose reader has left."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        yield pipe


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["inspect", "paper"], ["inspect", "--json"]])
def test_nobody_reading_on_is_no_error(left, words, unbuffered):
    found = ended(*words, unbuffered=unbuffered, stdout=left)
    assert (found.returncode, found.stderr) == (0, "")


def test_a_run_goes_on_when_nobody_reads_what_it_says(left, pictures, tmp_path):
    found = ended("train", pictures, *SMALL, "--run", tmp_path / "run", "--json", stderr=left)
    assert found.returncode == 0 and json.loads(found.stdout.splitlines()[-1])["epochs"] == 2
    assert (tmp_path / "run" / "result.json").exists()


def test_a_full_disk_behind_standard_error_ends_nothing(pictures, own_run):
    with open("/dev/full", "w") as full:
        found = ended("evaluate", own_run, pictures, "--json", stderr=full)
        assert found.returncode == 0 and json.loads(found.stdout.splitlines()[-1])["images"] == 6
        assert ended("inspect", "nothing", stderr=full).returncode == 2


def test_a_closed_standard_error_ends_nothing(pictures, own_run):
    found = ended("evaluate", own_run, pictures, "--json", stderr=None, preexec_fn=lambda: os.close(2))
    assert found.returncode == 0 and json.loads(found.stdout.splitlines()[-1])["images"] == 6


@pytest.mark.parametrize("closed", [(2,), (1, 2), (0, 1, 2)])
def test_what_libraries_say_on_a_closed_standard_error_lies_in_no_file(tmp_path, closed):
    """The next file that is opened would have its number."""
    script = (
        "import os, sys\nfrom alexnet.command_line import main\nmain(['inspect'])\nprint('café', file=sys.stderr)\n"
    )
    script += "with open(sys.argv[1], 'w') as file:\n    os.write(2, b'!')\n    assert file.fileno() not in {1, 2}"
    command = [sys.executable, "-c", script, str(tmp_path / "file")]
    found = subprocess.run(
        command, preexec_fn=lambda: [*map(os.close, closed)], env={**os.environ, "LC_ALL": "C"}, check=False
    )
    assert found.returncode == 0 and (tmp_path / "file").read_bytes() == b""


def test_what_is_wrong_with_one_picture_is_not_taken_for_a_reader_who_left(left, pictures, own_run):
    good = pictures / "red" / "00.jpg"
    found = ended("classify", own_run, good, pictures / "missing.jpg", good, "--json", stderr=left)
    assert found.returncode == 3 and len(json.loads(found.stdout.splitlines()[-1])["predictions"]) == 2
    assert ended("inspect", "nothing", stderr=left).returncode == 2


def test_a_full_disk_behind_standard_output_is_one_line():
    with open("/dev/full", "w") as full:
        found = ended("inspect", "paper", stdout=full)
    assert found.returncode == 4 and found.stderr.count("\n") == 1
    assert found.stderr.startswith("alexnet inspect: error: standard output: cannot write: no space left on device; ")
