"""Processes of one machine that hold tensors once between them, of which each writes a part.

Their memory is a file without a name, which the others open by its number in the process that made it: however
processes end, nothing is left behind.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from hashlib import sha256
from itertools import accumulate
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

LINE = 64  # bytes: each tensor begins a line of the cache
ROWS = 16  # are shared out together, so that tiles and blocks of a product stay whole
NONE = -1


class Neighbours:
    """This process among those of a group that see each other's memory.

    ranks     theirs within the group, in order
    patience  of a meeting
    """

    def __init__(self, group: dist.ProcessGroup, ranks: Sequence[int], patience: timedelta) -> None:
        self.number, self.count = ranks.index(dist.get_rank(group)), len(ranks)
        if self.count < dist.get_world_size(group):
            everyone = [dist.get_global_rank(group, rank) for rank in ranks]
            group = dist.new_group(everyone, patience, backend="gloo", use_local_synchronization=True)
        self.group = group

    @classmethod
    def of(cls, group: dist.ProcessGroup, patience: timedelta) -> "Neighbours | None":
        """Those of this process in the group, whose members all ask at once; None where there are none."""
        here = dist.get_rank(group)
        digest = sha256((_place() or f"rank {here}").encode()).digest()
        places = _told(group, int.from_bytes(digest[:8], "little", signed=True))
        ranks = [rank for rank, place in enumerate(places) if place == places[here]]
        return cls(group, ranks, patience) if len(ranks) > 1 else None

    def rows(self, count: int) -> slice:
        """Which of so many rows of a tensor are written here; none, where there are few."""
        blocks = -(-count // ROWS)
        return slice(*(ROWS * (blocks * number // self.count) for number in (self.number, self.number + 1)))

    def in_common(self, tensors: Sequence[Tensor]) -> list[Tensor] | None:
        """Tensors like these, the same for all, in memory that all see: what one writes, the others
        read once all have come to `wait`. None for all where one cannot see it; raises nothing of its own.

        tensors   [rows, ...] of any kinds, without gaps
        """
        ends = list(accumulate(-(-each.nbytes // LINE) * LINE for each in tensors))
        memory = self._memory(ends[-1])
        if memory is None:
            return None
        pieces = torch.tensor_split(memory, ends[:-1])
        common = [
            piece[: each.nbytes].view(each.dtype).view_as(each) for piece, each in zip(pieces, tensors, strict=True)
        ]
        for ours, own in zip(common, tensors, strict=True):
            rows = self.rows(len(own))
            ours[rows].copy_(own[rows])  # not the others': a page counts for whoever has touched it
        self.wait()
        return common

    def wait(self) -> None:
        """Go on when all of them have come here."""
        dist.barrier(self.group)

    def _memory(self, size: int) -> Tensor | None:
        """uint8[size], the same memory for all; None where one of them cannot have it."""
        process, file, memory = NONE, NONE, None
        with suppress(OSError):
            if self.number == 0:
                process = int(os.readlink("/proc/self"))  # its number in this /proc, which os.getpid() may not be
                file = os.memfd_create("alexnet")
        first = f"/proc/{_told(self.group, process)[0]}/fd/{_told(self.group, file)[0]}"
        with suppress(OSError, RuntimeError):  # another user's process, or a limit of this one's
            if os.readlink(first).startswith("/memfd:alexnet"):
                memory = torch.from_file(first, shared=True, size=size, dtype=torch.uint8)
        everyone = _told(self.group, int(memory is not None))
        if file != NONE:
            os.close(file)
        return memory if all(everyone) else None


def _told(group: dist.ProcessGroup, own: int) -> list[int]:
    """What each member of the group says."""
    every = torch.empty(dist.get_world_size(group), dtype=torch.int64)
    dist.all_gather(list(every.view(-1, 1)), torch.tensor([own]), group)
    told: list[int] = every.tolist()
    return told


def _place() -> str:
    """Where processes see each other's: one system since it started, the same numbers for processes, one network (what
    has an address of its own is a machine of its own). Empty where they cannot."""
    if not hasattr(os, "memfd_create"):  # Linux alone has it
        return ""
    try:
        system = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return " ".join((system, os.readlink("/proc/self/ns/pid"), os.readlink("/proc/self/ns/net")))
    except OSError:
        return ""
