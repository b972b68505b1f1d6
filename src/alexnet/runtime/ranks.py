"""Processes that work together: who is who, and what they tell each other.

torchrun starts them and says so in the environment; without it there is one process, alone, and everything here is
nothing to do. Ranks lie in a grid: `towers` of them hold one network between them (Section 3.2), and each such group
learns from its own share of every batch.
"""

import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from hashlib import sha256
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import PrefixStore, TCPStore
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from alexnet.runtime.errors import BadInputError, MachineError, UsageError

PATIENCE = timedelta(hours=6)  # of a collective: rank 0 may measure a million pictures; `pulse.py` sees who is gone
ARRIVAL = timedelta(minutes=5)  # of the slowest process, after the first
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
    """

    rank: int = 0
    world: int = 1
    towers: int = 1
    mesh: DeviceMesh | None = None
    session: str = ""

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


def may_restart() -> bool:
    """Whether torchrun starts these processes again when one is lost."""
    return int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0")) > 0


def restarts() -> int:
    """How often torchrun has started this process again; on another machine it may count otherwise."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def remembered(name: str, now: bool) -> bool:
    """Whether `name` was said `now` or before torchrun started these processes again, which it may."""
    if not may_restart():
        return False
    kept = store()
    if now:
        kept.set(name, "")
    found: bool = kept.check([name])
    return found


def name_here() -> str:
    """What people call this process: `rank 1 (on node7)`."""
    return f"rank {os.environ.get('RANK', '0')} (on {machine_here()})"


def machine_here() -> str:
    """The name of this machine."""
    return socket.gethostname()


def store(timeout: timedelta = ARRIVAL) -> TCPStore:
    """A connection of one's own to the store that torchrun, or rank 0, keeps for all."""
    environment = os.environ
    hosts_it = environment["RANK"] == "0" and environment.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    address = environment["MASTER_ADDR"], int(environment["MASTER_PORT"])
    try:
        return TCPStore(*address, is_master=hosts_it, timeout=timeout, wait_for_workers=False, multi_tenant=True)
    except RuntimeError as error:
        raise MachineError(
            f"{name_here()}: the store at {address[0]} port {address[1]} cannot be reached ({_first_line(error)}); "
            "name an address of the first machine that the others can reach"
        ) from error


def sharing_a_gpu() -> bool:
    """Whether all processes are on this machine and there are more than its GPUs: NCCL does not serve these, Gloo does,
    by way of the processor's memory."""
    world, here = (int(os.environ.get(name, "1")) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    return 0 < torch.cuda.device_count() < here == world


def joined() -> Ranks:
    """This process among those that torchrun started with it; alone without torchrun.

    Raises MachineError when the others do not come or cannot be reached, or there are more processes than GPUs on one
    of several machines.
    """
    if "RANK" not in os.environ:
        return ALONE
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    backend = "gloo"
    if torch.cuda.is_available():
        here, cards = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if here >= cards and not sharing_a_gpu():
            raise MachineError(f"{name_here()}: there are {cards} GPUs here; start one process for each")
        torch.cuda.set_device(here % cards)
        backend = f"cpu:gloo,cuda:{'gloo' if sharing_a_gpu() else 'nccl'}"
    meeting = store()
    session = _session(meeting, rank, world)
    kept = PrefixStore(session, meeting)
    try:
        dist.init_process_group(backend, store=kept, rank=rank, world_size=world, timeout=PATIENCE)
    except RuntimeError as error:
        raise MachineError(
            f"{name_here()}: no connection with the other processes ({_first_line(error)}); GLOO_SOCKET_IFNAME, for "
            "GPUs NCCL_SOCKET_IFNAME, names the network to use"
        ) from error
    return Ranks(rank, world, session=session).divided(1)


def _session(meeting: TCPStore, rank: int, world: int) -> str:
    """A name that only these processes share, once all have come: after a restart the store still holds the last ones'.

    Each calls with a name of its own, made up now; rank 0 answers every call with its own name, until all have heard.
    """
    own = os.urandom(8).hex()
    meeting.set(f"call/{rank}", own)
    session, answered = own if rank == 0 else "", set[str]()
    until = time.monotonic() + ARRIVAL.seconds
    missing = set(range(world))
    while missing:
        if not session and meeting.check([f"answer/{own}"]):
            session = meeting.get(f"answer/{own}").decode()
        if session:
            meeting.set(f"{session}/here/{rank}", "")
            missing = {other for other in missing if not meeting.check([f"{session}/here/{other}"])}
        for other in missing if rank == 0 else ():
            if meeting.check([f"call/{other}"]) and (call := meeting.get(f"call/{other}").decode()) not in answered:
                meeting.set(f"answer/{call}", own)
                answered.add(call)
        if time.monotonic() > until:
            lost = min(missing) if session else 0
            raise MachineError(
                f"{name_here()}: rank {lost} of {world} has not come within {ARRIVAL.seconds} s; start it too, or "
                "start fewer"
            )
        time.sleep(0.01)
    return session


def parted() -> None:
    """The end of working together."""
    if dist.is_initialized():
        dist.destroy_process_group()


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
