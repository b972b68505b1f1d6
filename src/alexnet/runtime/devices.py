"""Where the arithmetic runs and in which precision, chosen by itself and said."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import torch

from alexnet.runtime.memory import keep_memory

ARITHMETIC = ("torch", "numpy", "numba", "llvmlite", "triton", "pillow", "simplejpeg")  # what numbers come out of
PACKAGES = ("alexnet", *ARITHMETIC, "safetensors", "scikit-learn", "pyarrow")


@dataclass(frozen=True)
class Machine:
    """One device and the precision of its products; weights and sums are float32.

    With products in torch.float64 they are float64 too: the witness that layouts are compared by.
    """

    device: torch.device
    products: torch.dtype
    reason: str

    @property
    def sums(self) -> torch.dtype:
        """The kind of weights, sums and the loss."""
        return torch.promote_types(self.products, torch.float32)

    @property
    def kind(self) -> str:
        """What decides how its arithmetic rounds: processes that learn together are on machines of one kind."""
        if self.device.type == "cuda":
            return name_of(self.device)
        units = torch.cpu._is_amx_tile_supported(), torch.cpu._is_avx512_bf16_supported()
        return f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, bf16 units {units}"

    @contextmanager
    def precision(self) -> Iterator[None]:
        """Run the network's products in `products`."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.products == torch.bfloat16):
            yield

    def __str__(self) -> str:
        return f"{name_of(self.device)}, {str(self.products).removeprefix('torch.')} products ({self.reason})"


def this_machine() -> Machine:
    """The fastest device here, with bf16 products where it multiplies them faster than float32.

    Call it before the first arithmetic of a process: numbers below 1e-38 count as 0 from here on, in every thread.
    Small velocities decay into that range and make a CPU's step several times slower.
    """
    torch.set_flush_denormal(True)
    keep_memory()
    if torch.cuda.is_available():
        torch.backends.cudnn.deterministic = True  # or the same run leaves other bits each time
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        reason = "its matrix units compute bf16" if bf16 else "no bf16 units"
        return Machine(torch.device("cuda"), torch.bfloat16 if bf16 else torch.float32, reason)
    if torch.cpu._is_amx_tile_supported():
        return Machine(torch.device("cpu"), torch.bfloat16, "AMX computes bf16 several times faster")
    if torch.cpu._is_avx512_bf16_supported():
        return Machine(torch.device("cpu"), torch.bfloat16, "AVX-512 computes bf16 twice as fast")
    return Machine(torch.device("cpu"), torch.float32, "no bf16 units")


def name_of(device: torch.device) -> str:
    """What people call the device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"CPU ({torch.backends.cpu.get_cpu_capability()}, {threads} thread{'s' if threads > 1 else ''})"


def environment(machine: Machine) -> dict[str, object]:
    """What a record needs to be judged: machine, versions, threads. No names of hosts, users or folders."""
    return {
        "device": name_of(machine.device),
        "products": str(machine.products).removeprefix("torch."),
        "processor": platform.machine() if machine.device.type == "cuda" else machine.kind,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.system(),
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := version_of(name))},
    }


def version_of(package: str) -> str | None:
    """The version that is installed; None where there is none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
