"""Epochs of batches: made one ahead by a thread while the network works on the last (section 4.1)."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alexnet.data.augment import Alterations, Images, altered, drawn, order
from alexnet.data.squares import Squares
from alexnet.data.statistics import Statistics


@dataclass(frozen=True)
class Batch:
    """What one step learns from.

    images    float32[B, patch, patch, 3]
    labels    int64[B]
    samples   int64[B]   numbers of the pictures
    """

    images: NDArray[np.float32]
    labels: NDArray[np.int64]
    samples: NDArray[np.int64]


class Batches:
    """The training batches of any epoch, from any step of it: a function of (seed, epoch, step) and nothing else.

    The last batch of an epoch may be smaller; its gradient is the mean over its own images, as in 2012.
    """

    def __init__(self, squares: Squares, images: Images, statistics: Statistics, seed: int, batch: int) -> None:
        self.squares, self.images, self.statistics = squares, images, statistics
        self.seed, self.batch = seed, batch

    def __len__(self) -> int:
        """Steps in an epoch."""
        return (len(self.squares) + self.batch - 1) // self.batch

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, both counted from 0. Raises BadInputError naming a damaged picture."""
        count = len(self.squares)
        samples = order(self.images, self.seed, epoch, count)
        alterations = drawn(self.images, self.statistics, self.seed, epoch, count)
        with ThreadPoolExecutor(1) as ahead:

            def begin(step: int):  # type: ignore[no-untyped-def]
                return ahead.submit(self._make, samples, alterations, step)

            coming = begin(first_step) if first_step < len(self) else None
            for step in range(first_step, len(self)):
                assert coming is not None
                batch = coming.result()
                if step + 1 < len(self):
                    coming = begin(step + 1)
                yield batch

    def _make(self, samples: NDArray[np.int64], alterations: Alterations, step: int) -> Batch:
        positions = np.arange(step * self.batch, min((step + 1) * self.batch, len(samples)))
        which = samples[positions]
        squares = self.squares.gather(which)
        images = altered(squares, alterations.choose(positions), self.images, self.statistics)
        return Batch(images, self.squares.labels[which], which)
