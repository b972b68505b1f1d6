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

Numbers = NDArray[np.int64]
AHEAD = 2  # portions made before they are asked for


@dataclass(frozen=True)
class Portion:
    """What one step learns from, before any arithmetic; or the portion of it that is here and computed at a time.

    patches      uint8[B, patch, patch, 3]   cut, not yet mirrored; pinned where a GPU fetches them
    done         what is done to each
    samples      int64[B]                    numbers of the pictures
    labels       int64[P]                    of all images of the portion, which several processes may have between them
    row          the place of the portion's first in the whole batch
    counts       how many images each of these processes has, P in all; one number where there is one process
    weight       the share of the whole batch that the portion is; 0 where no images of it are left for these processes
    own_weight   the share of the whole batch that this process has of the portion
    shares       how many images each share of the batch has of its portion
    whole        images in the whole batch
    last         whether this process has seen all of the whole batch then
    """

    patches: Tensor
    done: Alterations
    samples: Numbers
    labels: Numbers
    row: int
    counts: tuple[int, ...]
    weight: float
    own_weight: float
    shares: tuple[int, ...]
    whole: int
    last: bool


class Batches:
    """The training batches of any epoch, from any step of it: a function of (seed, epoch, step) and nothing else.

    batch     images a step, over all ranks
    rank      of `ranks`: which share of each batch is made here
    part      of `parts`: which part of each portion is made here
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
        part: int = 0,
        parts: int = 1,
        portion: int = 0,
        group: int = 1,
        pinned: bool = False,
    ) -> None:
        self.squares, self.images, self.statistics = squares, images, statistics
        self.seed, self.batch, self.rank, self.ranks, self.pinned = seed, batch, rank, ranks, pinned
        self.part, self.parts, self.portion, self.group = part, parts, portion, group

    def __len__(self) -> int:
        """Steps in an epoch."""
        return (len(self.squares) + self.batch - 1) // self.batch

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Portion]:
        """The batches of one epoch, both counted from 0, portion by portion: as many of each batch on every rank.

        Raises BadInputError naming a damaged picture.
        """
        count = len(self.squares)
        samples = order(self.images, self.seed, epoch, count)
        alterations = drawn(self.images, self.statistics, self.seed, epoch, count)
        coming: deque[Future[Portion]] = deque()
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

    def _rows(self, step: int, count: int) -> list[tuple[list[Numbers], bool]]:
        """Which places of the step's batch each share has of each portion, and whether it is the last."""
        whole = np.arange(min(self.batch, count - step * self.batch))
        shares = _whole_groups(whole, self.ranks, self.group)
        largest = len(shares[0])
        size = self.portion * self.parts or largest
        starts = range(0, largest, size)
        return [([rows[start : start + size] for rows in shares], start == starts[-1]) for start in starts]

    def _make(
        self, samples: Numbers, alterations: Alterations, step: int, shares: list[Numbers], last: bool
    ) -> Portion:
        start, rows = step * self.batch, shares[self.rank]
        portion = rows if len(rows) else np.zeros(1, np.int64)  # somebody has to be there when gradients are added up
        parts = _whole_groups(portion, self.parts, self.group)
        own = start + (parts[self.part] if len(parts[self.part]) else portion[:1])
        size, which, done = self.images.patch, samples[own], alterations.choose(own)
        patches = torch.empty((len(which), size, size, 3), dtype=torch.uint8, pin_memory=self.pinned)
        self.squares.patches(which, done.corners, patches.numpy())
        whole = min(self.batch, len(samples) - start)
        return Portion(
            patches, done, which, self.squares.labels[samples[start + portion]], int(portion[0]),
            tuple(len(each) for each in parts), len(rows) / whole, len(parts[self.part]) / whole if len(rows) else 0.0,
            tuple(map(len, shares)), whole, last,
        )  # fmt: skip


def _whole_groups(rows: Numbers, parts: int, group: int) -> list[Numbers]:
    """Equal parts, but for one group, each of whole groups; the larger ones first, some perhaps empty."""
    starts = np.array_split(np.arange(0, len(rows), group), parts)
    return [rows[each[0] : each[-1] + group] if len(each) else rows[:0] for each in starts]
