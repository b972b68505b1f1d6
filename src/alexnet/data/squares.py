"""Pictures as squares of one size: kept in memory when they fit, cut anew each time when they do not."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from alexnet.data.decode import Pixels, square
from alexnet.data.pictures import Pictures

IN_MEMORY = 2**30  # bytes of squares that are kept; CIFAR-10 is 0.2, the digits 0.3, ImageNet 252 GB
PORTION = 256  # images read between two reports of progress

Progress = Callable[[int, int], None]  # done, of how many


class Squares:
    """The pictures of one split, cut square (section 2).

    `gather` gives any of them in any order; threads do the work, since Pillow lets go of Python's lock.
    """

    def __init__(self, pictures: Pictures, side: int, shape: str) -> None:
        self.pictures, self.side, self.shape = pictures, side, shape
        self._kept: Pixels | None = None
        self._threads = ThreadPoolExecutor(os.cpu_count() or 1)

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def labels(self) -> NDArray[np.int64]:
        """int64[N]."""
        return self.pictures.labels

    def fits_in_memory(self) -> bool:
        """Whether all squares together are small enough to keep."""
        return len(self) * self.side**2 * 3 <= IN_MEMORY

    def keep(self, progress: Progress) -> None:
        """Read every picture now and keep it, if all fit in memory. Raises BadInputError naming a damaged one."""
        if self._kept is None and self.fits_in_memory():
            kept = np.empty((len(self), self.side, self.side, 3), np.uint8)
            for start in range(0, len(self), PORTION):
                numbers = np.arange(start, min(start + PORTION, len(self)))
                kept[numbers] = self.gather(numbers)
                progress(start + len(numbers), len(self))
            self._kept = kept

    def gather(self, numbers: NDArray[np.int64]) -> Pixels:
        """The squares of these numbers: uint8[B, side, side, 3]. Raises BadInputError naming a damaged picture."""
        if self._kept is not None:
            return self._kept[numbers]
        squares = np.empty((len(numbers), self.side, self.side, 3), np.uint8)

        def cut(place: int) -> None:
            squares[place] = square(self.pictures.pixels(int(numbers[place])), self.side, self.shape)

        list(self._threads.map(cut, range(len(numbers))))
        return squares
