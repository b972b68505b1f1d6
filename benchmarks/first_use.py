"""What compiling costs: the first step of a process with an empty cache, and of one that finds the machine code there.

    python benchmarks/first_use.py [--lineage paper] [--products float32] [--repeats 5]

A step of 128 images, update included; what a fourth step takes is subtracted. Each repeat has a cache of its own.
Last line: one JSON object, seconds: medians, and all of them.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch

from alexnet.runtime.devices import Machine, this_machine
from stock import of_these
from training_step import our_step

BATCH = 128


def measure(lineage: str, machine: Machine) -> float:
    """In this process."""
    network, step = our_step(lineage, machine, BATCH)
    images = torch.randn(BATCH, *network.lineage.input, device=machine.device)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.arange(BATCH, device=machine.device) % network.lineage.classes
    seconds = []
    for _ in range(4):
        started = time.perf_counter()
        step(images, labels)
        seconds.append(time.perf_counter() - started)
    return seconds[0] - seconds[-1]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lineage", default="paper")
    parser.add_argument("--products", choices=["float32"], help="by default this machine's best kind")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--here", action="store_true", help="one process only, this one")
    options = parser.parse_args()
    machine = this_machine()
    if options.products:
        machine = replace(machine, products=torch.float32, reason="as asked")
    if options.here:
        print(measure(options.lineage, machine))
        return
    words = [sys.executable, str(Path(__file__)), "--here", "--lineage", options.lineage]
    words += ["--products", options.products] if options.products else []
    seconds: dict[str, list[float]] = {"compiling": [], "from the cache": []}
    for _ in range(options.repeats):
        with tempfile.TemporaryDirectory() as cache:
            for each in seconds.values():
                variables = os.environ | {"NUMBA_CACHE_DIR": cache}
                done = subprocess.run(words, env=variables, check=True, capture_output=True, text=True)
                each.append(round(float(done.stdout.splitlines()[-1]), 3))
    print(f"{options.lineage} on {machine}")
    for what, each in seconds.items():
        print(f"  {what:15} {median(each):6.2f} s ({min(each):.2f} to {max(each):.2f}, {options.repeats} times)")
    found = {what: median(each) for what, each in seconds.items()}
    print(json.dumps(of_these(machine) | {"lineage": options.lineage} | found | {"all": seconds}))


if __name__ == "__main__":
    main()
