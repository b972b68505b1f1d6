"""Section 4.1: patches, reflections and colour shifts, as printed and as they were really run.

What happens to a sample is a row of a table drawn from (seed, epoch); nothing random is stored.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from alexnet.data.statistics import Statistics
from alexnet.runtime.randomness import Purpose, numbers

Colour = Literal["none", "eigenvalue", "deviation"]
Floats = NDArray[np.float32]

SPREAD = 0.1  # standard deviation of alpha, section 4.1


@dataclass(frozen=True)
class Images:
    """How pictures become what the network sees; one part of a recipe.

    side               the square cut from each picture, pixels
    patch              the patch of it that enters the network, pixels
    positions          how many places a training patch can start at, along each axis
    reflections        whether half of the training patches are mirrored
    patch_shared_by    how many neighbours share one patch and reflection (32 in the 2012 program)
    order              "shuffled" anew each epoch, or "fixed": shuffled once, as the 2012 files were
    shape              "cropped" to the central square, or "squashed" into it
    mean               "at-patch": the mean image where the patch was cut; "centre": always its central part
    scale              what mean-subtracted pixels are multiplied by; 1 in 2012
    colour             "eigenvalue": section 4.1 read literally, on pixels between 0 and 1; "deviation": as run, with
                       its square root on 0 to 255, and the image divided by 1.1; "none"
    colour_until       epoch, of learning.planned_epochs, from which colour shifts are off; 0: never
    """

    side: int = 256
    patch: int = 224
    positions: int = 33
    reflections: bool = True
    patch_shared_by: int = 1
    order: Literal["shuffled", "fixed"] = "shuffled"
    shape: Literal["cropped", "squashed"] = "cropped"
    mean: Literal["at-patch", "centre"] = "at-patch"
    scale: float = 1.0
    colour: Colour = "none"
    colour_until: int = 0


@dataclass(frozen=True)
class Alterations:
    """What is done to each of N samples.

    corners    int64[N, 2]     row and column where the patch starts
    mirrored   bool[N]         left and right exchanged
    shifts     float32[N, 3]   added to R, G, B, in grey levels
    divisor    what the image and its shift are divided by
    """

    corners: NDArray[np.int64]
    mirrored: NDArray[np.bool_]
    shifts: Floats
    divisor: float = 1.0

    @property
    def shifted(self) -> bool:
        """Whether any colour is."""
        return bool(self.shifts.any())

    def choose(self, which: NDArray[np.int64]) -> "Alterations":
        """Those of some samples, in this order."""
        return Alterations(self.corners[which], self.mirrored[which], self.shifts[which], self.divisor)


def order(images: Images, seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """The sample that stands at each position of an epoch: int64[count]."""
    turn = epoch if images.order == "shuffled" else 0
    return numbers(seed, Purpose.ORDER, turn).permutation(count)


def drawn(images: Images, statistics: Statistics, seed: int, epoch: int, count: int) -> Alterations:
    """What happens at each position of an epoch. Positions of one group of `patch_shared_by` share their patch."""
    groups = -(-count // images.patch_shared_by)
    generator = numbers(seed, Purpose.PATCHES, epoch)
    # A smaller choice of positions (32 of 33 in the paper, 30 in Caffe) starts at the top left.
    corners = generator.integers(0, images.positions, (groups, 2))
    mirrored = generator.random(groups) < (0.5 if images.reflections else 0)
    group = np.arange(count) // images.patch_shared_by
    on = images.colour != "none" and not 0 < images.colour_until <= epoch
    shifts = colour_shifts(statistics, images.colour, seed, epoch, count) if on else np.zeros((count, 3), np.float32)
    divisor = 1 + SPREAD if on and images.colour == "deviation" else 1.0
    return Alterations(corners[group], mirrored[group], shifts, divisor)


def colour_shifts(statistics: Statistics, colour: Colour, seed: int, epoch: int, count: int) -> Floats:
    """Section 4.1 (b): eigenvectors times alpha times eigenvalues, alpha drawn once per image and pass.

    returns   float32[count, 3], in grey levels of 0 to 255
    """
    alphas = numbers(seed, Purpose.COLOUR, epoch).standard_normal((count, 3)) * SPREAD
    # On pixels between 0 and 1 an eigenvalue is 255^2 times smaller, and the shift is scaled back by 255.
    sizes = np.sqrt(statistics.eigenvalues) if colour == "deviation" else statistics.eigenvalues / 255
    return np.asarray((alphas * sizes) @ statistics.eigenvectors.T, dtype=np.float32)


def view(count: int, corner: tuple[int, int], mirrored: bool) -> Alterations:
    """The same patch of each of `count` images, unshifted: what judging looks at."""
    return Alterations(
        np.tile(np.array(corner, dtype=np.int64), (count, 1)),
        np.full(count, mirrored),
        np.zeros((count, 3), np.float32),
    )
