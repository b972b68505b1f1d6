"""Rows that are stored in groups and can only be read a group at a time: the groups used last are kept."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alexnet.runtime.randomness import Purpose, numbers

KEPT = 256 * 2**20  # bytes; ImageNet's groups on the hub have 11 MB each, all of CIFAR-10 has 16
GROUPS = 1  # the stream that orders groups, beside that which orders pictures


class RowGroups:
    """Rows by number, from any thread.

    rows   how many each group has
    read   group number -> its rows: something with `nbytes` that can be indexed

    At most KEPT bytes are kept, or one group if that is larger. A group is read by one thread while the others wait:
    they would mostly want the same one.
    """

    def __init__(self, rows: Sequence[int], read: Callable[[int], Any]) -> None:
        self._ends = np.cumsum(rows)
        self._read = read
        self._kept: OrderedDict[int, Any] = OrderedDict()
        self._size = 0
        self._reading = Lock()

    def row(self, number: int) -> Any:
        """One row. Raises what `read` raises."""
        group = int(np.searchsorted(self._ends, number, side="right"))
        with self._reading:
            rows = self._group(group)
        return rows[number - int(self._ends[group])]  # below zero: counted from the group's end

    def _group(self, group: int) -> Any:
        if group in self._kept:
            self._kept.move_to_end(group)
            return self._kept[group]
        rows = self._read(group)
        self._kept[group] = rows
        self._size += rows.nbytes
        while self._size > KEPT and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            self._size -= oldest.nbytes
        return rows


def stretches(rows: Sequence[int], sizes: Sequence[int]) -> NDArray[np.int64]:
    """int64[N], the stretch of each row: groups drawn at random, of half of KEPT together.

    So the groups of one stretch stay while those of the next are read.

    rows    how many each group has
    sizes   bytes of each group
    """
    stretch = np.zeros(len(sizes), np.int64)
    number = filled = 0
    for group in numbers(0, Purpose.STORE, GROUPS).permutation(len(sizes)).tolist():
        filled += sizes[group]
        if filled > KEPT // 2:
            number, filled = number + 1, sizes[group]
        stretch[group] = number
    return np.repeat(stretch, rows)
