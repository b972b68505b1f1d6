"""What processes hand to their process groups, counted there."""

from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


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
