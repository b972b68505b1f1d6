"""What processes hand to their process groups: counted there, and by formula."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from alexnet.network.layers import FullyConnected
from alexnet.network.lineages import Lineage
from alexnet.network.shares import added_up
from alexnet.network.towers import exchanged, hybrid_of, tower_of

SMALL = 100  # bytes of what ranks agree about after each step


@dataclass(frozen=True)
class Layout:
    """How a run lies over processes.

    shares   of each batch
    over     how many processes have one network between them
    hybrid   whether its fully connected layers alone are divided over them
    """

    shares: int = 1
    over: int = 1
    hybrid: bool = False

    @property
    def processes(self) -> int:
        """All of them."""
        return self.shares * self.over


def formula(whole: Lineage, layout: Layout, batch: int, size: int) -> dict[str, float]:
    """Bytes that each process sends in a step, by what they are.

    batch   images a step, over all processes
    size    bytes of a number: 2 in bf16
    """
    here = (hybrid_of if layout.hybrid else tower_of)(whole, layout.over)
    numbers = {name: batch / layout.shares * sum(both) for name, both in exchanged(here).items()}
    convolutions = sum(row.parameters for row in here.table() if not isinstance(row.layer, FullyConnected))
    if layout.hybrid:
        numbers["convolutions' gradients"] = in_a_ring(layout.over) * convolutions
    if layout.shares > 1:
        numbers |= added_up(here, batch, layout.shares)
    return {name: size * number for name, number in numbers.items()}


def in_a_ring(processes: int) -> float:
    """How often each number of a sum leaves a process: twice, but for its own part."""
    return 2 * (processes - 1) / processes


def counted(sent: list[tuple[str, int]], layout: Layout) -> float:
    """Bytes that a process sends for what it handed to its process groups, where these are of one size; one of a
    hybrid's several shares apart."""
    assert not (layout.hybrid and layout.shares > 1)
    assert 1 in (layout.over, layout.shares) or layout.over == layout.shares
    leaves = {
        "allgather": max(layout.over, layout.shares) - 1,
        "alltoall_base": (layout.over - 1) / layout.over,
        "allreduce": in_a_ring(layout.over if layout.hybrid else layout.shares),
    }
    return sum(leaves[name] * size for name, size in sent if size > SMALL)


class Counted(TorchDispatchMode):
    """Every tensor that is handed to a process group: what was asked, and bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[tuple[str, int]] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.name()
        if name.startswith("c10d::"):
            given = args[1] if "allgather" in name else args[0]
            tensors = [given] if isinstance(given, Tensor) else given
            self.sent.append((name.removeprefix("c10d::").rstrip("_"), sum(each.nbytes for each in tensors)))
        return function(*args, **(kwargs or {}))
