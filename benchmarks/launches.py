"""What a recorded training step launches on a GPU, and how long each kernel takes.

    python benchmarks/launches.py [--lineage paper] [--batch 128] [--steps 5]

Microseconds a step, from PyTorch's profiler. Last line: one JSON object.
"""

import argparse
import json

import torch
from torch.profiler import ProfilerActivity, profile

from alexnet.runtime.devices import this_machine
from alexnet.runtime.replay import BEFORE
from stock import of_these
from training_step import our_step


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lineage", default="paper")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=5)
    options = parser.parse_args()
    machine = this_machine()
    network, step = our_step(options.lineage, machine, options.batch)
    side = network.lineage.side
    images = torch.randn(options.batch, 3, side, side, device=machine.device) * 60
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, network.lineage.classes, (options.batch,), device=machine.device)
    for _ in range(BEFORE + 2):
        step(images, labels)
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        for _ in range(options.steps):
            step(images, labels)
        torch.cuda.synchronize()
    kernels = [
        (event.device_time_total / options.steps, event.count / options.steps, event.key)
        for event in seen.key_averages()
        if event.device_time_total
    ]
    kernels.sort(reverse=True)
    total = sum(microseconds for microseconds, _, _ in kernels)
    print(f"{options.lineage}, batches of {options.batch}, on {machine}: {total:,.0f} microseconds a step")
    for microseconds, count, name in kernels:
        print(f"{microseconds:10.1f} in {count:5.1f}  {name[:120]}")
    listed = [[round(microseconds, 1), count, name[:80]] for microseconds, count, name in kernels]
    record = {"lineage": options.lineage, "batch": options.batch, "total": round(total, 1), "kernels": listed}
    print(json.dumps(of_these(machine) | record))


if __name__ == "__main__":
    main()
