"""What working together costs: layouts of the same batch over processes, interleaved; bytes; memory.

    python benchmarks/parallel.py [--lineage paper] [--batch 128] [--repeats 20] [--layouts one ...] [--gigabits 1]
                                  [--products float32]

Each layout is a set of processes of its own, each of which takes the step of `alexnet train` on pictures made up
beforehand; one layout computes at a time. `one` has two threads, the others one for each process. Bytes are counted
where tensors are handed to the process group, and compared with the formula; where the machine lets us have a network
of our own, also on its loopback device, which can be slowed down to so many gigabits a second. Last line: one JSON
object.
"""

import argparse
import ctypes
import json
import os
import resource
import shlex
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from itertools import chain
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch.distributed import TCPStore

from alexnet.data.augment import Alterations
from alexnet.data.batches import Portion
from alexnet.data.statistics import Statistics
from alexnet.network.lineages import lineage
from alexnet.network.towers import Towers
from alexnet.runtime import checkpoint
from alexnet.runtime.devices import Machine, this_machine
from alexnet.runtime.pulse import at_work
from alexnet.training.recipes import RECIPES
from alexnet.training.step import Step
from exchanges import Counted, Layout, counted, formula
from stock import of_these

LAYOUTS = {  # how, and the threads of each process
    "one": (Layout(), 2),
    "one thread": (Layout(), 1),
    "towers": (Layout(over=2), 1),
    "hybrid": (Layout(over=2, hybrid=True), 1),
    "data": (Layout(shares=2), 1),
    "two by two": (Layout(shares=2, over=2), 1),
    "four": (Layout(shares=4), 1),
}


def member(name: str, which: str, size: int, products: str) -> None:
    """One process of a layout: takes steps when it is told to, and says how long they took."""
    layout = LAYOUTS[name][0]
    with at_work(print) as company:
        ranks = company.divided(layout.over)
        machine, recipe = machine_with(products), RECIPES[which]
        table = lineage(which)
        towers = Towers(table, ranks, layout.hybrid)
        side, patch = recipe.images.side, recipe.images.patch
        shares = np.array_split(np.arange(size), ranks.shares)
        share = shares[ranks.share]
        parts = np.array_split(share, towers.parts)
        own, counts = parts[towers.part], tuple(len(each) for each in parts)
        random = np.random.default_rng(0)
        patches = random.integers(0, 256, (size, patch, patch, 3), dtype=np.uint8)[own]
        done = Alterations(np.zeros((size, 2), np.int64), random.random(size) < 0.5, np.zeros((size, 3), np.float32))
        labels = random.integers(0, table.classes, size)
        batch = Portion(
            torch.from_numpy(patches), done.choose(own), own, labels[share], int(share[0]), counts,
            len(share) / size, len(own) / size, tuple(map(len, shares)), size, True,
        )  # fmt: skip
        measured = Statistics(np.full((side, side, 3), 128, np.float32), np.ones(3), np.eye(3))
        before, held_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, Held().now()
        step = Step(recipe, towers, recipe.images, measured, machine)
        for number, line in enumerate(sys.stdin):
            wire, began = on_the_wire(), time.perf_counter()
            modes = {"step": torch.enable_grad, "count": Counted, "hold": Held, "save": Held}
            with modes[line.strip()]() as mode:
                if line.strip() == "save":
                    save(step, number)
                else:
                    loss = step(batch, number, lambda layer, bias: 0.01)
                ranks.highest(0.0)  # as after every step of a run
            answer = {
                "seconds": time.perf_counter() - began,
                "loss": float(ranks.total(loss.clone())),
                "wire": on_the_wire() - wire,
                "sent": mode.sent if isinstance(mode, Counted) else [],
                "held": mode.most - held_before if isinstance(mode, Held) else 0,
                "resident_before": before * 1024 / 1e6,
                "resident": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
            }
            print(json.dumps(answer), flush=True)


def save(step: Step, number: int) -> None:
    """What a run does to save, into a folder that is removed again."""
    weights, velocity = map(step.towers.stream, (step.update.weights, step.update.velocity))
    if step.ranks.first:
        with TemporaryDirectory() as folder:
            checkpoint.save(Path(folder), number, weights, velocity, {})
    for _ in chain(weights.pieces, velocity.pieces):
        pass


def machine_with(products: str) -> Machine:
    """This machine; with products of its own choice where none are named."""
    machine = this_machine()
    return replace(machine, products=getattr(torch, products), reason="as asked") if products else machine


class Heap(ctypes.Structure):
    """What glibc's mallinfo2 fills."""

    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"
    )]  # fmt: skip


class Held:
    """The most memory that is in use while the block runs, in MB: looked at every half millisecond."""

    def __init__(self) -> None:
        self.libc = ctypes.CDLL("libc.so.6")
        self.libc.mallinfo2.restype = Heap
        self.most, self.over = 0.0, threading.Event()

    def now(self) -> float:
        """In use at this moment."""
        heap = self.libc.mallinfo2()
        lines = Path("/proc/self/status").read_text().splitlines()
        in_common = [int(line.split()[1]) for line in lines if line.startswith("RssShmem:")]  # kB, touched here
        return float(heap.uordblks + heap.hblkhd) / 1e6 + sum(in_common) * 1024 / 1e6

    def __enter__(self) -> "Held":
        self.thread = threading.Thread(target=self._look)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()

    def _look(self) -> None:
        while not self.over.wait(0.0005):
            self.most = max(self.most, self.now())


def on_the_wire() -> int:
    """Bytes that have left over the loopback device of this network namespace."""
    lines = [line.split() for line in Path("/proc/net/dev").read_text().splitlines() if "lo:" in line]
    return int(lines[0][9])


class Processes:
    """Those of one layout, which wait to be told."""

    def __init__(self, name: str, which: str, size: int, products: str) -> None:
        layout, threads = LAYOUTS[name]
        world = layout.processes
        self.store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        common = os.environ | {
            "WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(self.store.port),
            "TORCHELASTIC_USE_AGENT_STORE": "True", "OMP_NUM_THREADS": str(threads),
        }  # fmt: skip
        words = [sys.executable, __file__, "--member", name, which, str(size), products]
        self.members = [
            subprocess.Popen(
                words, env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            )
            for rank in range(world)
        ]  # fmt: skip

    def step(self, kind: str = "step") -> list[dict[str, Any]]:
        """One step of all; what each says about it."""
        for each in self.members:
            assert each.stdin
            each.stdin.write(kind + "\n")
            each.stdin.flush()
        answers = []
        for each in self.members:
            assert each.stdout
            answers.append(json.loads(each.stdout.readline()))
        return answers

    def end(self) -> None:
        """All processes end."""
        for each in self.members:
            assert each.stdin
            each.stdin.close()
        for each in self.members:
            each.wait()


def warmed_up(options: argparse.Namespace) -> dict[str, Processes]:
    """The processes of each layout, two steps along."""
    asked = options.lineage, options.batch, options.products
    first = Processes("one", *asked)
    first.step()  # whoever compiles keeps 60 MB of the compiler's
    first.end()
    layouts = {name: Processes(name, *asked) for name in options.layouts}
    for layout in layouts.values():
        for _ in range(2):
            layout.step()
    return layouts


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lineage", default="paper")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--layouts", nargs="*", default=list(LAYOUTS))
    parser.add_argument("--gigabits", type=float, help="of a loopback device of our own, which all processes share")
    parser.add_argument("--products", default="", choices=["", "bfloat16", "float32"], help="of the machine otherwise")
    parser.add_argument("--member", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--own-network", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.member:
        name, which, size, products = options.member
        member(name, which, int(size), products)
        return
    if not options.own_network and shutil.which("unshare") and shutil.which("ip"):
        words = shlex.join([sys.executable, *sys.argv, "--own-network"])
        if subprocess.run(["unshare", "--net", "true"], check=False, capture_output=True).returncode == 0:
            slow = f"tc qdisc add dev lo root tbf rate {options.gigabits}gbit burst 1mb latency 100ms &&"
            begin = f"ip link set lo up && {slow if options.gigabits else ''} exec {words}"
            os.execvp("unshare", ["unshare", "--net", "sh", "-c", begin])
    if options.gigabits and not options.own_network:
        parser.error("--gigabits: needs the right to make a network of our own (unshare, ip)")
    machine = machine_with(options.products)
    layouts = warmed_up(options)
    held = {name: layout.step("hold") for name, layout in layouts.items()}
    saving = {name: layout.step("save") for name, layout in layouts.items()}
    counts = {name: layout.step("count") for name, layout in layouts.items()}
    seconds: dict[str, list[float]] = {name: [] for name in layouts}
    last: dict[str, list[dict[str, Any]]] = {}
    for _ in range(options.repeats):
        for name, layout in layouts.items():
            last[name] = layout.step()
            seconds[name].append(max(each["seconds"] for each in last[name]))
    for layout in layouts.values():
        layout.end()
    number = machine.products.itemsize
    found: dict[str, Any] = {}
    print(f"{options.lineage}, batches of {options.batch}, on {machine}; medians of {options.repeats} interleaved")
    for name in layouts:
        layout, threads = LAYOUTS[name]
        needed = formula(lineage(options.lineage), layout, options.batch, number)
        sent = counted(counts[name][0]["sent"], layout)
        paces = [options.batch / each for each in seconds[name]]
        found[name] = {
            "processes": layout.processes, "divided_over": layout.over, "hybrid": layout.hybrid, "threads": threads,
            "images_per_second": median(paces), "spread": [min(paces), max(paces)],
            "loss": last[name][0]["loss"], "bytes_by_formula": sum(needed.values()), "bytes_counted": sent,
            "bytes_on_loopback": median([each["wire"] for each in last[name]]) if options.own_network else None,
            "needed": needed, "held_mb": max(each["held"] for each in held[name]),
            "held_while_saving_mb": max(each["held"] for each in saving[name]),
            "resident_mb": max(each["resident"] for each in last[name]),
            "resident_before_mb": max(each["resident_before"] for each in last[name]),
        }  # fmt: skip
    one = found.get("one", next(iter(found.values())))
    for name, each in found.items():
        low, high = each["spread"]
        each["efficiency"] = each["images_per_second"] / one["images_per_second"]
        wire = f", {each['bytes_on_loopback'] / 1e6:.1f} on loopback of all" if options.own_network else ""
        print(
            f"  {name:11} {each['images_per_second']:7.1f} images/s ({low:.1f} to {high:.1f})"
            f"   {each['efficiency']:.2f} of one   sends {each['bytes_counted'] / 1e6:.2f} MB a step "
            f"(formula {each['bytes_by_formula'] / 1e6:.2f}{wire})   holds {each['held_mb']:,.0f} MB a process "
            f"({each['held_mb'] / one['held_mb']:.1%} of one; {each['held_while_saving_mb']:,.0f} while saving), "
            f"resident {each['resident_mb']:,.0f}, of which "
            f"{each['resident_before_mb']:,.0f} before"
        )
    asked = {name: getattr(options, name) for name in ("lineage", "batch", "repeats", "gigabits")}
    print(json.dumps(of_these(machine) | asked | found))


if __name__ == "__main__":
    main()
