"""How pictures are prepared, and what to advise about it."""

from dataclasses import dataclass

from alexnet.data.decode import Filter, Shape
from alexnet.data.pictures import Dataset
from alexnet.data.store import Kind
from alexnet.runtime.errors import UsageError

JPEG_BYTES = 0.31 * 256 * 256  # a 256 x 256 photograph at quality 90: measured on ImageNet's originals
SMALL = 4 * 2**30  # stores of pixels up to this size stay in the system's cache


@dataclass(frozen=True)
class Preparation:
    """How pictures become squares; recorded in the store, because it moves ImageNet's errors by a point or two.

    kind       "jpeg", or "pixels": ten times as large, read ten times as fast, nothing lost
    side       of the squares
    shape      "cropped" as the paper says, or "squashed" as Caffe's users did
    filter     of the rescaling
    quality    of the JPEGs, 1 to 95: 90 keeps ImageNet in 26 GB; 2012 seems to have had 85, the next program 95
    """

    kind: Kind
    side: int = 256
    shape: Shape = "cropped"
    filter: Filter = "bicubic"
    quality: int = 90

    def check(self) -> None:
        """Raise UsageError for a number that cannot work."""
        if not 1 <= self.side <= 4096:
            raise UsageError(f"--side: {self.side}; is between 1 and 4096")
        if not 1 <= self.quality <= 95:
            raise UsageError(f"--quality: {self.quality}; is between 1 and 95")


def sizes(dataset: Dataset, side: int) -> dict[Kind, float]:
    """About how many bytes a store of each kind will take."""
    count = len(dataset.training) + len(dataset.held_out)
    return {"jpeg": count * JPEG_BYTES * (side / 256) ** 2, "pixels": count * side * side * 3.0}


def advised(dataset: Dataset, side: int) -> Kind:
    """Pixels while they are few enough to stay in memory, JPEGs from there on."""
    return "pixels" if sizes(dataset, side)["pixels"] <= SMALL else "jpeg"
