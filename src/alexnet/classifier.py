"""A trained network ready to use: a picture in, names out."""

import os
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from alexnet.data.augment import view
from alexnet.data.decode import Pixels, read, square
from alexnet.data.presentation import Presentation
from alexnet.data.statistics import Statistics
from alexnet.evaluation.views import probabilities, views
from alexnet.network.alexnet import AlexNet, put_weights
from alexnet.runtime import checkpoint
from alexnet.runtime.devices import Machine, this_machine
from alexnet.runtime.errors import BadInputError
from alexnet.runtime.run_folder import RunFolder
from alexnet.training.recipe import Recipe
from alexnet.training.train import STATISTICS

Picture = str | os.PathLike[str] | ArrayLike  # a file, or what is uint8[H, W, 3] as an array


class Classifier:
    """A run's network with everything it needs to look at a picture: classes, mean image, geometry.

    >>> Classifier.load("runs/mine").classify("cat.jpg")       # doctest: +SKIP
    [('cat', 0.93), ('dog', 0.05), ...]
    """

    def __init__(
        self,
        network: AlexNet,
        classes: tuple[str, ...],
        recipe: Recipe,
        statistics: Statistics,
        machine: Machine,
        step: str,
    ) -> None:
        self.network = network.to(machine.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self.classes, self.recipe, self.statistics, self.machine = classes, recipe, statistics, machine
        self.checkpoint = step  # "step-000000123"

    @classmethod
    def load(cls, run: str | Path) -> Self:
        """The newest whole checkpoint of a run.

        Raises BadInputError when there is no run, nothing is learned yet, a file is damaged, or weights or statistics
        belong to another network.
        """
        folder = RunFolder(Path(run))
        recipe = Recipe.from_json(folder.read_text("recipe.json"), str(folder.path / "recipe.json"))
        classes = folder.classes()
        path = checkpoint.newest(folder.checkpoints, only=checkpoint.WEIGHTS)
        if path is None:
            raise BadInputError(f"{run}: nothing learned yet; alexnet train --resume goes on with it")
        network = AlexNet(recipe.network.build(), classes=len(classes), seed=None)
        put_weights(network, checkpoint.read_tensors(path / checkpoint.WEIGHTS), str(path / checkpoint.WEIGHTS))
        statistics = Statistics.read(folder.path / STATISTICS)
        side = recipe.images.side
        if statistics.mean.shape != (side, side, 3):
            raise BadInputError(
                f"{folder.path / STATISTICS}: a mean image of {_by(statistics.mean.shape)}, not {_by((side, side, 3))} "
                "as the recipe has it; train again"
            )
        return cls(network, classes, recipe, statistics, this_machine(), path.name)

    def classify(self, image: Picture, views: int = 1) -> list[tuple[str, float]]:
        """The five most probable classes and their probabilities, the most probable first.

        image   a file, or what is uint8[H, W, 3] as an array; views is 1 or 10
        Raises BadInputError naming a file that is missing or damaged, or an array of another kind.
        """
        images = self.recipe.images
        shares = probabilities(self.network, self._square(image), images, self.statistics, self.machine, views)[0]
        best = shares.topk(min(5, len(self.classes)))
        return [(self.classes[i], p) for p, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)]

    def activations(self, image: Picture, *names: str) -> dict[str, Tensor]:
        """The named activities of one picture's central view, by name; all when none is named.

        returns   float32[1, C, H, W] or float32[1, D] each
        """
        images = self.recipe.images
        (((top, left), mirrored),) = views(images, 1)
        patch = torch.from_numpy(self._square(image)[:, top : top + images.patch, left : left + images.patch])
        shown = Presentation(images, self.statistics, self.machine.device)
        with torch.no_grad():  # inference mode's tensors are nothing to learn on
            found: dict[str, Tensor] = self.network.activations(shown(patch, view(1, (top, left), mirrored)), *names)
        return found

    def code(self, image: Picture) -> Tensor:
        """Section 6.1: the activities of the last hidden layer, before dropout's halving.

        returns   float32[4096]; the CIFAR networks' are of other lengths
        """
        name = self.network.lineage.code
        return self.activations(image, name)[name].flatten()

    def _square(self, image: Picture) -> Pixels:
        images = self.recipe.images
        pixels = read(Path(os.fsdecode(image))) if isinstance(image, str | os.PathLike) else _pixels(image)
        return square(pixels, images.side, images.shape)[None].copy()


def _pixels(image: ArrayLike) -> Pixels:
    try:
        pixels = np.asarray(image)
        kind = f"{pixels.dtype}{list(pixels.shape)}"
    except (ValueError, TypeError):  # lists of several lengths, a tensor on a GPU
        pixels, kind = np.empty(0), f"of the kind {type(image).__name__}"
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise BadInputError(f"the image: is {kind}; give a file or uint8[H, W, 3], RGB")
    return pixels


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
