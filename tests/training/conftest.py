"""Short runs, of one process and of several, and what they leave when nothing befalls them."""

import pytest
from resuming import Watching, begin, left, stopped, with_dropout

from alexnet.data.sources import open_dataset
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


@pytest.fixture(scope="session")
def dataset(pictures):
    return open_dataset(str(pictures))


@pytest.fixture(scope="session")
def recipe(small_recipe):
    settings = {"learning.epochs": "3", "learning.schedule": "stall", "learning.patience": "1", "learning.rate": "0.01"}
    return small_recipe.altered({**settings, "images.patch_shared_by": "3", "images.order": "shuffled"})


@pytest.fixture(scope="session")
def lineage():
    return with_dropout("cifar-18pct")


@pytest.fixture(scope="session")
def undisturbed(recipe, dataset, lineage, tmp_path_factory):
    """What an undisturbed run leaves."""
    path = tmp_path_factory.mktemp("undisturbed") / "run"
    assert not stopped(begin(recipe, dataset, path, Watching(), lineage))
    return left(path)
