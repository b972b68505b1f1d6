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

AHEAD = 2  # batches made before they are asked for


@dataclass(frozen=True)
class Batch:
    """What one step learns from, before any arithmetic; or the share of it that is here.

    patches   uint8[B, patch, patch, 3]   cut, not yet mirrored; pinned where a GPU fetches them
    done      what is done to each
    labels    int64[B]
    samples   int64[B]                    numbers of the pictures
    row       the place of the first in the whole batch
    counted   how many of these count: B, or 0 where the whole batch has fewer images than there are shares
    whole     images in the whole batch
    """

    patches: Tensor
    done: Alterations
    labels: NDArray[np.int64]
    samples: NDArray[np.int64]
    row: int
    counted: int
    whole: int

    def portions(self, size: int) -> list["Batch"]:
        """The same in portions of at most `size` images; 0: all in one."""
        count = len(self.labels)
        if not 0 < size < count:
            return [self]
        return [self._part(slice(start, min(start + size, count))) for start in range(0, count, size)]

    def _part(self, rows: slice) -> "Batch":
        which = np.arange(rows.start, rows.stop)
        return Batch(
            self.patches[rows], self.done.choose(which), self.labels[rows], self.samples[rows],
            self.row + rows.start, len(which) if self.counted else 0, self.whole,
        )  # fmt: skip


class Batches:
    """The training batches of any epoch, from any step of it: a function of (seed, epoch, step) and nothing else.

    batch    images a step, over all ranks
    rank     of `ranks`: which share of each batch is made here
    pinned   whether patches lie in memory that a GPU can fetch from by itself

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
        pinned: bool = False,
    ) -> None:
        self.squares, self.images, self.statistics = squares, images, statistics
        self.seed, self.batch, self.rank, self.ranks, self.pinned = seed, batch, rank, ranks, pinned

    def __len__(self) -> int:
        """Steps in an epoch."""
        return (len(self.squares) + self.batch - 1) // self.batch

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, both counted from 0. Raises BadInputError naming a damaged picture."""
        count = len(self.squares)
        samples = order(self.images, self.seed, epoch, count)
        alterations = drawn(self.images, self.statistics, self.seed, epoch, count)
        coming: deque[Future[Batch]] = deque()
        steps = iter(range(first_step, len(self)))
        with ThreadPoolExecutor(1, "batches") as maker:
            try:
                while True:
                    while len(coming) < AHEAD and (step := next(steps, None)) is not None:
                        coming.append(maker.submit(self._make, samples, alterations, step))
                    if not coming:
                        return
                    yield coming.popleft().result()
            finally:
                maker.shutdown(cancel_futures=True)

    def _make(self, samples: NDArray[np.int64], alterations: Alterations, step: int) -> Batch:
        whole = np.arange(step * self.batch, min((step + 1) * self.batch, len(samples)))
        share = np.array_split(whole, self.ranks)[self.rank]
        positions = share if len(share) else whole[:1]  # somebody has to be there when gradients are averaged
        size, which, done = self.images.patch, samples[positions], alterations.choose(positions)
        patches = torch.empty((len(which), size, size, 3), dtype=torch.uint8, pin_memory=self.pinned)
        self.squares.patches(which, done.corners, patches.numpy())
        row = int(positions[0] - whole[0])
        return Batch(patches, done, self.squares.labels[which], which, row, len(share), len(whole))
