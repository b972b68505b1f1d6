"""Pictures as squares of one size, or patches of them: gathered by threads into one array, in any order."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from alexnet.data.decode import Pixels, Shape, square
from alexnet.data.pictures import Pictures

IN_MEMORY = 2**30  # bytes of squares that are kept; CIFAR-10 is 0.2, the digits 0.3, ImageNet 252 GB
PORTION = 256  # images read between two reports of progress

Progress = Callable[[int, int], None]  # done, of how many
Corners = NDArray[np.int64]


def threads_here() -> int:
    """As many threads as this process may use cores."""
    return len(os.sched_getaffinity(0))


class Squares:
    """The pictures of one split, cut square (section 2).

    threads   how many gather; what they gather does not depend on it
    """

    def __init__(self, pictures: Pictures, side: int, shape: Shape, threads: int | None = None) -> None:
        self.pictures, self.side, self.shape = pictures, side, shape
        self.threads = threads or threads_here()
        self._kept: Pixels | None = None
        self._pool = ThreadPoolExecutor(self.threads)

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def labels(self) -> NDArray[np.int64]:
        """int64[N]."""
        return self.pictures.labels

    def keep(self, progress: Progress) -> None:
        """Read every picture now and keep it, if all fit in memory. Raises BadInputError naming a damaged one."""
        if self._kept is None and len(self) * self.side**2 * 3 <= IN_MEMORY:
            kept = np.empty((len(self), self.side, self.side, 3), np.uint8)
            for start in range(0, len(self), PORTION):
                numbers = np.arange(start, min(start + PORTION, len(self)))
                kept[numbers] = self.gather(numbers)
                progress(start + len(numbers), len(self))
            self._kept = kept

    def gather(self, numbers: NDArray[np.int64], pinned: bool = False) -> Pixels:
        """The squares of these numbers: uint8[B, side, side, 3]. Raises BadInputError naming a damaged picture.

        pinned   whether they lie in memory that a GPU can fetch from by itself
        """
        shape = len(numbers), self.side, self.side, 3
        whole = pinned_memory(shape) if pinned else np.empty(shape, np.uint8)
        self.patches(numbers, np.zeros((len(numbers), 2), np.int64), whole)
        return whole

    def patches(self, numbers: NDArray[np.int64], corners: Corners, into: Pixels) -> None:
        """Fill `into`, uint8[B, size, size, 3], with the patch of each square that starts at its corner, int64[B, 2].

        Raises BadInputError naming a damaged picture, the first of the batch.
        """
        size = into.shape[1]
        wanted = list(zip(numbers.tolist(), corners.tolist(), into, strict=True))

        def cut(some: slice) -> None:
            for number, (top, left), place in wanted[some]:
                place[...] = self._square(number)[top : top + size, left : left + size]

        share = -(-len(wanted) // self.threads) or 1
        list(self._pool.map(cut, (slice(start, start + share) for start in range(0, len(wanted), share))))

    def _square(self, number: int) -> Pixels:
        if self._kept is not None:
            kept: Pixels = self._kept[number]
            return kept
        return square(self.pictures.pixels(number), self.side, self.shape)


def pinned_memory(shape: tuple[int, ...]) -> Pixels:
    """uint8 of that shape, in memory that a GPU can fetch from by itself."""
    import torch

    whole: Pixels = torch.empty(shape, dtype=torch.uint8, pin_memory=True).numpy()
    return whole
