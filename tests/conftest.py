"""What several rooms' tests begin with: made-up pictures, a small finished run, the command line called in-process."""

import os
import re
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from alexnet.command_line import main
from alexnet.data.sources import open_dataset
from alexnet.training.progress import Display
from alexnet.training.recipe import Recipe
from alexnet.training.recipes import RECIPES
from alexnet.training.train import train

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # Triton reads it when it is first imported

COLOURS = {"blue": (40, 60, 200), "green": (40, 170, 60), "red": (200, 50, 40)}


def draw_class(folder: Path, colour: tuple[int, int, int], count: int, seed: int) -> None:
    """Fill `folder` with `count` speckled 40 x 40 pictures of one colour, half of them PNG, half JPEG."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    for number in range(count):
        pixels = random.normal(colour, 30, (40, 40, 3)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.{'png' if number % 2 else 'jpg'}")


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    def one_line(self, verb: str, code: int) -> str:
        """The message of a command that ended with `code`: one line in our form, nothing else."""
        assert self.code == code, self
        match = re.fullmatch(rf"alexnet {verb}: error: ([^\n]+)\n", self.err)
        assert match, self.err
        return match[1]


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three class folders of twelve pictures, told apart by colour. Read only: copy before you change it."""
    root = tmp_path_factory.mktemp("data") / "colours"
    for seed, (name, colour) in enumerate(COLOURS.items()):
        draw_class(root / name, colour, 12, seed)
    return root


@pytest.fixture
def own_pictures(pictures: Path, tmp_path: Path) -> Path:
    """The same pictures, to be changed at will."""
    return Path(shutil.copytree(pictures, tmp_path / "colours"))


@pytest.fixture(scope="session")
def small_recipe() -> Recipe:
    """The author's smallest network, two epochs of four steps."""
    return RECIPES["cifar-18pct"].altered({"learning.epochs": "2", "learning.batch": "8"})


@pytest.fixture(scope="session")
def finished_run(pictures: Path, small_recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of `small_recipe` on `pictures`, learned to its end. Read only: `own_run` is a copy."""
    run = tmp_path_factory.mktemp("runs") / "finished"
    train(small_recipe, open_dataset(str(pictures)), run, Display(quiet=True))
    return run


@pytest.fixture
def own_run(finished_run: Path, tmp_path: Path) -> Path:
    """The finished run, to be changed at will."""
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


@pytest.fixture(scope="session")
def poor_run(pictures, small_recipe, tmp_path_factory):
    """A run that has learned next to nothing. Read only."""
    run = tmp_path_factory.mktemp("runs") / "poor"
    recipe = small_recipe.altered({"learning.rate": "1e-9", "seed": "4"})
    train(recipe, open_dataset(str(pictures)), run, Display(quiet=True))
    return run


@pytest.fixture
def two(own_run, poor_run, tmp_path):
    """A run that is always right, one that is mostly wrong; and the probabilities of each."""
    other = Path(shutil.copytree(poor_run, tmp_path / "poor"))
    return own_run, other


@pytest.fixture
def alexnet(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """`alexnet("inspect", "paper")`: the command line in this process, and how it ended."""

    def call(*words: object) -> Ended:
        capsys.readouterr()
        try:
            code = main([str(word) for word in words])
        except SystemExit as end:
            code = int(end.code or 0)
        return Ended(code, *capsys.readouterr())

    return call


@pytest.fixture
def largest_file() -> Callable[[int], AbstractContextManager[None]]:
    """`with largest_file(4096):` the operating system refuses to write more than that into any one file."""

    @contextmanager
    def limit(size: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limit
