"""torchrun itself, as a person types it."""

import os
import subprocess
import sys
from pathlib import Path


def torchrun(*words):
    command = [str(Path(sys.executable).with_name("torchrun")), "--nproc-per-node", "2", "-m", "--", "alexnet"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    words = [str(word) for word in words]
    return subprocess.run([*command, *words], env=environment, capture_output=True, text=True, check=False, timeout=300)


def test_it_trains_goes_on_and_judges_and_every_process_ends_well(pictures, tmp_path):
    """Judging ends at any moment of a pulse: three times, since a process once aborted at its end in two of three."""
    run = tmp_path / "run"
    numbers = ("--recipe", "cifar-18pct", "--learning.epochs", 1, "--learning.batch", 8, "--run", run)
    for words in (
        ("train", pictures, *numbers),
        ("train", pictures, *numbers, "--resume"),
        *[("evaluate", run, pictures)] * 3,
    ):
        done = torchrun(*words)
        assert done.returncode == 0 and "terminate" not in done.stderr, done.stderr
    assert "images judged: 6" in done.stdout and done.stdout.count("images judged") == 1
