"""Sections 2 and 4.1: the mean image and the principal components of RGB over the training set.

Both are sums of whole numbers, so they do not depend on the order, the number of threads or interruptions.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alexnet.data.decode import Pixels
from alexnet.data.squares import PORTION, Progress, Squares
from alexnet.kernels.colour_products import colour_products
from alexnet.runtime.arrays import from_bytes, read_arrays, to_bytes, write_arrays
from alexnet.runtime.errors import BadInputError


@dataclass(frozen=True)
class Statistics:
    """What training subtracts and adds.

    mean            float32[side, side, 3]   the mean image, 0 to 255
    eigenvalues     float64[3]               of the RGB covariance on the 0 to 255 scale, ascending
    eigenvectors    float64[3, 3]            in columns, in the order of the eigenvalues; rows are R, G, B
    """

    mean: NDArray[np.float32]
    eigenvalues: NDArray[np.float64]
    eigenvectors: NDArray[np.float64]

    def write(self, path: Path) -> None:
        """Keep them in a file."""
        write_arrays(path, vars(self))

    def to_bytes(self) -> bytes:
        """For other processes."""
        return to_bytes(vars(self))

    @classmethod
    def from_bytes(cls, content: bytes) -> "Statistics":
        """What another process measured."""
        return cls(**from_bytes(content))

    @classmethod
    def read(cls, path: Path) -> "Statistics":
        """Read them back. Raises BadInputError when the file is missing or damaged."""
        try:
            return cls(**read_arrays(path))
        except TypeError as error:
            raise BadInputError(f"{path}: holds something else ({error}); train again") from error


@dataclass
class Sums:
    """What the statistics are computed from.

    images     how many squares were added
    total      int64[side, side, 3]   their sum, pixel by pixel
    products   int64[3, 3]            the sum of R, G, B times R, G, B over all pixels
    """

    images: int
    total: NDArray[np.int64]
    products: NDArray[np.int64]

    @classmethod
    def nothing(cls, side: int) -> "Sums":
        """Before the first square."""
        return cls(0, np.zeros((side, side, 3), np.int64), np.zeros((3, 3), np.int64))

    @classmethod
    def of(cls, squares: Pixels) -> "Sums":
        """Of uint8[N, side, side, 3]."""
        narrow = np.uint16 if len(squares) <= 256 else np.int64  # 256 bytes at most, added up
        return cls(len(squares), squares.sum(axis=0, dtype=narrow).astype(np.int64), colour_products(squares))

    def add(self, other: "Sums") -> None:
        """Take in the sums of other squares."""
        self.images += other.images
        self.total += other.total
        self.products += other.products

    def statistics(self) -> Statistics:
        """Raises ZeroDivisionError before the first square."""
        pixels = self.images * self.total.shape[0] ** 2
        mean_colour = self.total.sum(axis=(0, 1)) / pixels
        covariance = self.products / pixels - np.outer(mean_colour, mean_colour)
        values, vectors = np.linalg.eigh(covariance)
        signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), range(3)])  # eigh leaves each sign to chance
        return Statistics((self.total / self.images).astype(np.float32), values.clip(0), vectors * signs)


def statistics(squares: Squares, progress: Progress) -> Statistics:
    """Go through the training squares once."""
    sums = Sums.nothing(squares.side)
    for start in range(0, len(squares), PORTION):
        numbers = np.arange(start, min(start + PORTION, len(squares)))
        sums.add(Sums.of(squares.gather(numbers)))
        progress(start + len(numbers), len(squares))
    return sums.statistics()
