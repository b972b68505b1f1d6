"""A short run of several processes, and what it leaves when nothing befalls it."""

import pytest
from resuming import left

from company import commanded, complaints


@pytest.fixture(scope="session")
def words(pictures):
    """Six epochs of six steps."""
    numbers = ("--learning.epochs", 6, "--learning.batch", 5, "--learning.rate", 0.002)
    return ("train", pictures, "--recipe", "cifar-18pct", "--quiet", *numbers)


@pytest.fixture(scope="session")
def straight(words, tmp_path_factory):
    """What an undisturbed run of two processes leaves."""
    path = tmp_path_factory.mktemp("straight")
    assert commanded(path / "said", 2, *words, "--run", path / "run").codes() == [0, 0], complaints(path / "said")
    return left(path / "run")
