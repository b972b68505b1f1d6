"""What people see while they wait."""

import io

import pytest
from rich.console import Console

from alexnet.training import progress
from alexnet.training.progress import Display


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when a test says so."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_the_pace_is_that_of_this_work_not_of_the_same_work_before(clock):
    display = Display()
    display.console = Console(file=io.StringIO())
    for _ in range(2):
        for done in (50, 250, 350):
            clock[0] += 10
            display.work("judging", done, 350)
        clock[0] += 1000  # an epoch
    said = display.console.file.getvalue().splitlines()
    assert [line for line in said if "350 of 350" in line] == ["judging: 350 of 350, 15/s, 0:00 left"] * 2
