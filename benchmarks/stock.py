"""The sides that ours is compared with: what a careful person writes with PyTorch's own modules.

B0   the lineage's network in float32, PyTorch's defaults
B1   the best settings: channels last, fused SGD, bf16 products where the machine has units for them, and on a GPU
     cuDNN's choice by trial
B2   B1 under torch.compile; on a GPU with mode="reduce-overhead", which records it as ours is recorded
T    the one-weird-trick network, which has no normalization, under B1's settings
"""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alexnet.runtime.devices import Machine, environment
from alexnet.runtime.replay import BEFORE, OnGpu

ON_GPU = 4  # calls in a row


def paper_network() -> nn.Module:
    """The paper's layers from stock modules; its normalization crosses the towers, which costs nothing more."""

    def norm() -> nn.Module:
        return nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)  # PyTorch divides alpha by 5

    network = nn.Sequential(
        nn.ZeroPad2d((0, 3, 0, 3)), nn.Conv2d(3, 96, 11, 4), nn.ReLU(), norm(), nn.MaxPool2d(3, 2),
        nn.Conv2d(96, 256, 5, padding=2, groups=2), nn.ReLU(), norm(), nn.MaxPool2d(3, 2),
        nn.Conv2d(256, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 384, 3, padding=1, groups=2), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1, groups=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Flatten(), nn.Linear(9216, 4096), nn.ReLU(), nn.Dropout(),
        nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 1000),
    )  # fmt: skip
    return _started(network)


class NormWithinMap(nn.Module):
    """What people write for the CIFAR-10 networks' normalization; PyTorch has no module for it."""

    def __init__(self, size: int, alpha: float, beta: float = 0.75, k: float = 1.0) -> None:
        super().__init__()
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, x: Tensor) -> Tensor:
        """float[N, C, H, W] -> the same."""
        mean = F.avg_pool2d(x.square(), self.size, 1, self.size // 2)
        return x / (self.k + self.alpha * self.size**2 * mean) ** self.beta


def source_network() -> nn.Module:
    """`source-2012`'s layers: normalized before the rectifier, and in layer 2 once more within each map."""

    def norm() -> nn.Module:
        return nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2.0)

    network = nn.Sequential(
        nn.ZeroPad2d((0, 3, 0, 3)), nn.Conv2d(3, 96, 11, 4), norm(), nn.MaxPool2d(3, 2), nn.ReLU(),
        nn.Conv2d(96, 256, 5, padding=2, groups=2), nn.ReLU(), norm(), NormWithinMap(5, 4e-5), nn.MaxPool2d(3, 2),
        *list(paper_network())[9:],
    )  # fmt: skip
    return _started(network)


def cifar_network() -> nn.Module:
    """`cifar-18pct`'s layers."""
    network = nn.Sequential(
        nn.Conv2d(3, 32, 5, padding=2), nn.MaxPool2d(3, 2, ceil_mode=True), nn.ReLU(), NormWithinMap(3, 5e-5 / 9),
        nn.Conv2d(32, 32, 5, padding=2), nn.ReLU(), nn.AvgPool2d(3, 2, ceil_mode=True), NormWithinMap(3, 5e-5 / 9),
        nn.Conv2d(32, 64, 5, padding=2), nn.ReLU(), nn.AvgPool2d(3, 2, ceil_mode=True),
        nn.Flatten(), nn.Linear(1024, 10),
    )  # fmt: skip
    return _started(network)


def one_weird_trick() -> nn.Module:
    """torchvision's AlexNet."""
    network = nn.Sequential(
        nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Flatten(), nn.Dropout(), nn.Linear(9216, 4096), nn.ReLU(),
        nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 1000),
    )  # fmt: skip
    return _started(network)


def _started(network: nn.Module) -> nn.Module:
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.normal_(module.weight, 0, 0.01)
            nn.init.zeros_(module.bias)
    return network


def step_of(
    network: nn.Module, machine: Machine, *, tuned: bool, compiled: bool = False
) -> Callable[[Tensor, Tensor], Any]:
    """A whole training step, update included: images and labels in."""
    network = network.to(machine.device)
    if tuned:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    sgd = torch.optim.SGD(network.parameters(), 0.01, 0.9, weight_decay=0.0005, fused=True if tuned else None)
    on_gpu = machine.device.type == "cuda"
    forward: Any = torch.compile(network, mode="reduce-overhead" if on_gpu else None) if compiled else network

    def step(images: Tensor, labels: Tensor) -> Tensor:
        sgd.zero_grad(set_to_none=True)
        half = torch.autocast(machine.device.type, torch.bfloat16, enabled=tuned and machine.products == torch.bfloat16)
        # Ours leaves the same bits each time; stock may take cuDNN's fastest.
        with torch.backends.cudnn.flags(enabled=True, benchmark=tuned, deterministic=False):
            with half:
                loss = F.cross_entropy(forward(images).float(), labels)
            loss.backward()
            sgd.step()
        return loss

    return step


def of_these(machine: Machine) -> dict[str, Any]:
    """What a benchmark's figures are of: machine, versions, and the commit, "-dirty" where files differ from it."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude", "*"]
    try:
        commit = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = "unknown"
    return environment(machine) | {"commit": commit}


def finished(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def interleaved(sides: dict[str, Callable[[], object]], repeats: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each side, in turn, after two turns that do not count.

    On a GPU a turn is several calls, and each has its share: as in training, nobody waits for one before the next.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    calls = ON_GPU if device.type == "cuda" else 1
    for repeat in range(-2, repeats):
        for name, work in sides.items():
            finished(device)
            started = time.perf_counter()
            for _ in range(calls):
                work()
            finished(device)
            if repeat >= 0:
                seconds[name].append((time.perf_counter() - started) / calls)
    return seconds


def recorded(work: Callable[[], object], device: torch.device) -> Callable[[], object]:
    """On a GPU the same work in one launch, as in a recorded step; elsewhere as it is."""
    if device.type != "cuda":
        return work
    recorder = OnGpu()
    with recorder.aside():
        for _ in range(BEFORE):
            work()
    replay, result = recorder.record(lambda _: work(), ())  # type: ignore[arg-type,return-value]

    def replayed(kept: object = (work, result)) -> None:  # what is replayed reads and writes what they hold
        replay()

    return replayed


def ceilings(machine: Machine, repeats: int = 7) -> dict[str, float]:
    """How fast this machine multiplies matrices (in the network's kind) and copies memory, in this run: medians."""
    side, floats = (8192, 2**30) if machine.device.type == "cuda" else (2048, 2**26)
    a = torch.randn(side, side, device=machine.device).to(machine.products)
    source = torch.randn(floats, device=machine.device)
    into = torch.empty_like(source)
    seconds = interleaved({"matmul": lambda: a @ a, "copy": lambda: into.copy_(source)}, repeats, machine.device)
    return {
        "matmul_tflops": 2 * side**3 / median(seconds["matmul"]) / 1e12,
        "copy_gbps": 2 * 4 * floats / median(seconds["copy"]) / 1e9,
    }
