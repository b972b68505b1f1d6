"""Epochs of batches, made ahead by threads while the network works (section 4.1)."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alexnet.data.augment import Alterations, Images, drawn, order
from alexnet.data.squares import Squares
from alexnet.data.statistics import Statistics

AHEAD = 2  # portions made before they are asked for


@dataclass(frozen=True)
class Batch:
    """What one step learns from, before any arithmetic; or the portion of it that is here and computed at a time.

    patches   uint8[B, patch, patch, 3]   cut, not yet mirrored; pinned where a GPU fetches them
    done      what is done to each
    labels    int64[B]
    samples   int64[B]                    numbers of the pictures
    row       the place of the first in the whole batch
    counted   how many of these count: B, or 0 where this process has no images of the whole batch left
    whole     images in the whole batch
    last      whether this process has seen all of the whole batch then
    """

    patches: Tensor
    done: Alterations
    labels: NDArray[np.int64]
    samples: NDArray[np.int64]
    row: int
    counted: int
    whole: int
    last: bool


class Batches:
    """The training batches of any epoch, from any step of it: a function of (seed, epoch, step) and nothing else.

    batch     images a step, over all ranks
    rank      of `ranks`: which share of each batch is made here
    portion   images that are computed at a time; 0: the whole share
    group     images, counted from the start of a batch, that one process computes together
    pinned    whether patches lie in memory that a GPU can fetch from by itself

    The last batch of an epoch may be smaller; its gradient is the mean over its own images, as in 2012.
    """

    def __init__(
        self,
        squares: Squares,
        images: Images,
        statistics: Statistics,
        seed: int,
        batch: int,
        *,
        rank: int = 0,
        ranks: int = 1,
        portion: int = 0,
        group: int = 1,
        pinned: bool = False,
    ) -> None:
        self.squares, self.images, self.statistics = squares, images, statistics
        self.seed, self.batch, self.rank, self.ranks, self.pinned = seed, batch, rank, ranks, pinned
        self.portion, self.group = portion, group

    def __len__(self) -> int:
        """Steps in an epoch."""
        return (len(self.squares) + self.batch - 1) // self.batch

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, both counted from 0, portion by portion: as many of each batch on every rank.

        Raises BadInputError naming a damaged picture.
        """
        count = len(self.squares)
        samples = order(self.images, self.seed, epoch, count)
        alterations = drawn(self.images, self.statistics, self.seed, epoch, count)
        coming: deque[Future[Batch]] = deque()
        portions = ((step, *rows) for step in range(first_step, len(self)) for rows in self._rows(step, count))
        with ThreadPoolExecutor(1, "batches") as maker:
            try:
                while True:
                    while len(coming) < AHEAD and (portion := next(portions, None)) is not None:
                        coming.append(maker.submit(self._make, samples, alterations, *portion))
                    if not coming:
                        return
                    yield coming.popleft().result()
            finally:
                maker.shutdown(cancel_futures=True)

    def _rows(self, step: int, count: int) -> list[tuple[NDArray[np.int64], bool]]:
        """Which places of the step's batch each portion here has, and whether it is the last."""
        whole = min(self.batch, count - step * self.batch)
        groups = np.array_split(np.arange(-(-whole // self.group)), self.ranks)
        share, largest = groups[self.rank], self.group * len(groups[0])
        rows = np.arange(self.group * share[0], min(self.group * (share[-1] + 1), whole)) if len(share) else share
        size = self.portion or largest
        portions = -(-min(largest, whole) // size)
        return [(rows[size * number : size * (number + 1)], number == portions - 1) for number in range(portions)]

    def _make(
        self, samples: NDArray[np.int64], alterations: Alterations, step: int, rows: NDArray[np.int64], last: bool
    ) -> Batch:
        start = step * self.batch
        here = rows if len(rows) else np.zeros(1, np.int64)  # somebody has to be there when gradients are averaged
        size, which, done = self.images.patch, samples[start + here], alterations.choose(start + here)
        patches = torch.empty((len(which), size, size, 3), dtype=torch.uint8, pin_memory=self.pinned)
        self.squares.patches(which, done.corners, patches.numpy())
        whole = min(self.batch, len(samples) - start)
        return Batch(patches, done, self.squares.labels[which], which, int(here[0]), len(rows), whole, last)
