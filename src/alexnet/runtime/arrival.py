"""How processes that torchrun has started find each other: by the store that it, or rank 0, keeps for all of them."""

import os
import socket
import time
from collections.abc import Sequence
from datetime import timedelta

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore, TCPStore

from alexnet.runtime.errors import MachineError
from alexnet.runtime.ranks import ALONE, PATIENCE, Ranks

ARRIVAL = timedelta(minutes=5)  # of the slowest process, after the first


def may_restart() -> bool:
    """Whether torchrun starts these processes again when one is lost."""
    return int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0")) > 0


def restarts() -> int:
    """How often torchrun has started this process again; on another machine it may count otherwise."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def remembered(name: str, now: bool, otherwise: bool) -> bool:
    """Whether `name` was said `now`, or before torchrun started these processes again; `otherwise` where its store does
    not outlive them. Raises MachineError when the store cannot be reached."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return False
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return otherwise
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


def joined() -> Ranks:
    """This process among those that torchrun started with it; alone without torchrun.

    Raises MachineError when the others do not come or cannot be reached, two of several machines' processes have one
    GPU between them, or one sees no GPU and others do.
    """
    if "RANK" not in os.environ:
        return ALONE
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    meeting = store()
    session = _session(meeting, rank, world)
    kept = PrefixStore(session, meeting)
    kept.set(f"gpu/{rank}", f"{machine_here()} {_own_gpu()}")
    sharing = shared([kept.get(f"gpu/{other}").decode() for other in range(world)])
    backend = f"cpu:gloo,cuda:{'gloo' if sharing else 'nccl'}" if torch.cuda.is_available() else "gloo"
    try:
        dist.init_process_group(backend, store=kept, rank=rank, world_size=world, timeout=PATIENCE)
    except RuntimeError as error:
        raise MachineError(
            f"{name_here()}: no connection with the other processes ({_first_line(error)}); GLOO_SOCKET_IFNAME, for "
            "GPUs NCCL_SOCKET_IFNAME, names the network to use"
        ) from error
    return Ranks(rank, world, session=session, sharing=sharing).divided(1)


def _own_gpu() -> str:
    """Make this process's GPU the current one: of those that it sees, which may be one. Returns which card it is."""
    if not torch.cuda.is_available():
        return "none"
    torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    return str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid)


def shared(gpus: Sequence[str]) -> bool:
    """Whether two processes have the same of these, `MACHINE CARD`, one for each rank; a card may be `none`.

    Raises MachineError where that is so on one of several machines: these talk by NCCL, which does not serve them; and
    where one sees no GPU and others do.
    """
    machines, cards = zip(*(gpu.split(" ", 1) for gpu in gpus), strict=True)
    if set(cards) == {"none"}:
        return False
    if "none" in cards:
        rank = cards.index("none")
        raise MachineError(f"rank {rank} (on {machines[rank]}): sees no GPU, others do; start it where there is one")
    twice = [machine for rank, machine in enumerate(machines) if gpus[rank] in gpus[:rank]]
    if twice and len(set(machines)) > 1:
        raise MachineError(f"{twice[0]}: has fewer GPUs than processes; start one process for each GPU")
    return bool(twice)


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
