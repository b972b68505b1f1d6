"""Processes that work together: who is who, and what they tell each other.

Without torchrun there is one process, alone, and everything here is nothing to do. Ranks lie in a grid: `towers` of
them hold one network between them (Section 3.2), and each such group learns from its own share of every batch.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from hashlib import sha256
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from alexnet.runtime.errors import BadInputError, UsageError
from alexnet.runtime.neighbours import Neighbours

PATIENCE = timedelta(hours=6)  # of a collective: rank 0 may measure a million pictures; `pulse.py` sees who is gone
DIGEST = 32  # bytes
T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process among the others.

    rank      its number, from 0; the first one writes the run's folder and speaks
    world     how many there are
    towers    over how many of them each network is divided
    mesh      the grid (data, tower); None for a process by itself
    session   a name that these processes share, and no earlier ones
    sharing   whether two of them compute on one GPU, which NCCL does not serve: all talk by Gloo, by way of the
              processor's memory
    """

    rank: int = 0
    world: int = 1
    towers: int = 1
    mesh: DeviceMesh | None = None
    session: str = ""
    sharing: bool = False

    def __str__(self) -> str:
        if self.world == 1:
            return ""
        each = f"each share divided over {self.towers}" if self.towers > 1 else "one process each"
        return f"; {self.world} processes: each batch in {self.shares} share{'s' if self.shares > 1 else ''}, {each}"

    @property
    def first(self) -> bool:
        """Whether it writes the run's folder, and speaks."""
        return self.rank == 0

    @property
    def tower(self) -> int:
        """Which tower is here, from 0."""
        return self.rank % self.towers

    @property
    def share(self) -> int:
        """Which share of each batch is computed here, from 0."""
        return self.rank // self.towers

    @property
    def shares(self) -> int:
        """Into how many shares each batch is divided."""
        return self.world // self.towers

    def divided(self, towers: int, option: str = "towers") -> "Ranks":
        """The same processes with each network divided over `towers` of them, as `option` says. Raises UsageError."""
        if self.world % towers:
            command = f"torchrun --nproc-per-node {towers} -m -- alexnet train ..."
            raise UsageError(
                f"--parallel.{option}: {towers} need a multiple of {towers} processes, and there "
                f"{'is one' if self.world == 1 else f'are {self.world}'}; start them with: {command}"
            )
        if not dist.is_initialized():
            return self
        kind = "cuda" if torch.cuda.is_available() else "cpu"
        mesh = init_device_mesh(kind, (self.world // towers, towers), mesh_dim_names=("data", "tower"))
        return replace(self, towers=towers, mesh=mesh)

    def agree(self, facts: Mapping[str, str]) -> None:
        """Raise BadInputError, on every rank, where one has another value of a fact than rank 0."""
        if self.world == 1:
            return
        digests = b"".join(sha256(value.encode()).digest() for value in facts.values())
        own = torch.frombuffer(bytearray(digests), dtype=torch.uint8)
        everyone = [torch.empty_like(own) for _ in range(self.world)]
        dist.all_gather(everyone, own)
        for rank, theirs in enumerate(everyone):
            for name, one, other in zip(facts, everyone[0].split(DIGEST), theirs.split(DIGEST), strict=True):
                if not torch.equal(one, other):
                    raise BadInputError(
                        f"rank {rank}: has {name} other than rank 0's; start every process with the same command, "
                        "on the same data, with the same program, on machines of one kind"
                    )

    def highest(self, *values: float) -> list[float]:
        """Of each value the highest that any rank gives."""
        if self.world == 1:
            return list(values)
        together = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(together, dist.ReduceOp.MAX)
        return [float(value) for value in together]

    def total(self, numbers: Tensor) -> Tensor:
        """The sum over the batch's shares, in place."""
        if self.shares > 1:
            assert self.mesh is not None
            dist.all_reduce(numbers, group=self.mesh.get_group("data"))
        return numbers

    def over_towers(self, numbers: Tensor) -> Tensor:
        """The sum over the processes that have one network between them, in place."""
        if self.towers > 1:
            assert self.mesh is not None
            dist.all_reduce(numbers, group=self.mesh.get_group("tower"))
        return numbers

    def from_first(self, value: Any) -> Any:
        """What rank 0 gives, on every rank; anything that JSON can hold."""
        if self.world == 1:
            return value
        return json.loads(self.bytes_from_first(json.dumps(value).encode()))

    def bytes_from_first(self, content: bytes) -> bytes:
        """The bytes that rank 0 gives, on every rank."""
        if self.world == 1:
            return content
        length = torch.tensor([len(content)])
        dist.broadcast(length, 0)
        buffer = bytearray(content if self.first else int(length))
        dist.broadcast(torch.frombuffer(buffer, dtype=torch.uint8), 0)
        return bytes(buffer)

    def spread(self, tensor: Tensor) -> None:
        """Fill `tensor` with rank 0's, on every rank."""
        if self.world > 1:
            dist.broadcast(tensor, 0)

    def neighbours(self) -> Neighbours | None:
        """This process and the other shares' that see its memory; None where there are none. All ranks ask at once."""
        return Neighbours.of(self.mesh.get_group("data"), PATIENCE) if self.mesh and self.shares > 1 else None

    def collected(self, piece: Tensor) -> Iterator[Tensor]:
        """The several towers' pieces, of one shape, one after the other: on rank 0; nothing on the others.

        Nothing is sent until it is gone through.
        """
        if self.share:
            return
        assert self.mesh is not None
        group = self.mesh.get_group("tower")
        if not self.first:
            dist.send(piece.cpu().contiguous(), group=group, group_dst=0)
            return
        yield piece
        for tower in range(1, self.towers):
            theirs = torch.empty(piece.shape, dtype=piece.dtype)  # as it is sent, from the processor's memory
            dist.recv(theirs, group=group, group_src=tower)
            yield theirs

    def in_turn(self, what: Callable[[], T]) -> T:
        """What `what` gives, done first by one process of each machine: what it fetches, the others find there."""
        early = os.environ.get("LOCAL_RANK", "0") == "0"
        found = what() if early else None
        self.wait()
        return what() if found is None else found

    def wait(self) -> None:
        """Go on when every rank has come here."""
        if self.world > 1:
            dist.barrier()


ALONE = Ranks()
