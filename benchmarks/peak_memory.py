"""The most memory a training step of the full network takes: ours and PyTorch's, each in a process of its own.

    python benchmarks/peak_memory.py [--batch 128]

Peak resident memory after three steps (on a GPU five, so that ours is recorded; its memory there), and what of it was
there before the network was made. `stock.py` says what B0 and B1 are. Last line: one JSON object, MB.
"""

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path

import torch

from alexnet.runtime.devices import this_machine
from stock import of_these, paper_network, step_of
from training_step import our_step


def peak() -> float:
    """Of this process, so far, in MB: what PyTorch has taken of a GPU, where there is one."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_reserved() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def measure(side: str, batch: int) -> dict[str, float]:
    """Some steps of one side."""
    machine = this_machine()
    form = torch.contiguous_format if side == "b0" else torch.channels_last
    images = torch.empty(batch, 3, 224, 224, device=machine.device, memory_format=form).normal_()
    labels, before = torch.randint(0, 1000, (batch,), device=machine.device), peak()
    if side == "ours":
        _, step = our_step("paper", machine, batch)
    else:
        step = step_of(paper_network(), machine, tuned=side == "b1")
    for _ in range(3 if machine.device.type == "cpu" else 5):
        step(images, labels)
    return {"before": before, "peak": peak()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--side", help="one side only, in this process")
    options = parser.parse_args()
    if options.side:
        print(json.dumps(measure(options.side, options.batch)))
        return
    found = {}
    for side in ("ours", "b0", "b1"):
        words = [sys.executable, str(Path(__file__)), "--side", side]
        done = subprocess.run([*words, "--batch", str(options.batch)], check=True, capture_output=True, text=True)
        found[side] = json.loads(done.stdout.splitlines()[-1])
    print(f"paper, batches of {options.batch}, on {this_machine()}; MB")
    for side, memory in found.items():
        print(f"  {side:5} {memory['peak']:8,.0f}, of which before {memory['before']:,.0f}")
    print(json.dumps(of_these(this_machine()) | {"batch": options.batch} | found))


if __name__ == "__main__":
    main()
