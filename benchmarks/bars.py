"""Every bar for speed and memory on two cores, or on a GPU where one is: measured, one after the other, and judged.

    python benchmarks/bars.py [--into FOLDER] [--only layers peak-memory ...] [--cifar FOLDER]

Forty minutes (on a GPU ten), in which nothing else may run. Each benchmark's JSON is kept in FOLDER (runs/bars) under
the name of its record, and what is there already is not measured again: a run that is stopped goes on. Bars of a step
are stated for matrix units (AMX); without them PyTorch's own products in float32 are half as fast as in bf16, not a
fifth, and 8 and 6 times are out of reach. Last line: one JSON object, of each bar what is asked, what was seen, and
whether it is met.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from math import isnan, nan, sqrt
from pathlib import Path
from statistics import mean, variance
from typing import Any, NamedTuple

import torch

from alexnet.runtime.commit import write_whole

HERE = Path(__file__).parent
Record = dict[str, Any]

# By the name of a record, the words that measure it; the last needs CIFAR-10.
MEASURED = {
    "first-use": ["first_use.py"],
    "first-use-source-2012": ["first_use.py", "--lineage", "source-2012"],
    "training-step-paper": ["training_step.py"],
    "training-step-source-2012": ["training_step.py", "--lineage", "source-2012"],
    "training-step-paper-float32": ["training_step.py", "--products", "float32", "--without", "b2", "b1", "t"],
    "training-step-cifar-18pct": ["training_step.py", "--lineage", "cifar-18pct", "--without", "b2"],
    "layers": ["layers.py", "--only", "following"],
    "evaluation": ["evaluation.py"],
    "peak-memory": ["peak_memory.py"],
    "parallel": ["parallel.py", "--repeats", "9", "--layouts", "one", "towers", "data"],
    "same-error": ["same_error.py", "CIFAR10", "--epochs", "5"],
}

# The same of one H200.
MEASURED_ON_GPU = {
    "training-step-paper": ["training_step.py", "--without", "b2"],
    "training-step-paper-1024": ["training_step.py", "--batch", "1024", "--without", "b2"],
    "training-step-paper-8192": ["training_step.py", "--batch", "8192", "--without", "b0", "b1", "b2", "t"],
    "training-step-cifar-18pct": ["training_step.py", "--lineage", "cifar-18pct", "--without", "b1", "b2"],
    "layers": ["layers.py", "--batch", "512", "--only", "following", "update"],
    "evaluation": ["evaluation.py", "--images", "480"],
    "peak-memory": ["peak_memory.py", "--batch", "1024"],
    "end-to-end": ["end_to_end.py", "--batch", "1024"],
    "training-step-paper-b2": ["training_step.py", "--without", "b0", "b1", "t"],  # last: it may not compile in time
}


class Bar(NamedTuple):
    """What is asked of a record: `figure` of it is at least, or at `most`, so much."""

    what: str
    record: str
    figure: Callable[[Record], float]
    asked: float
    most: bool = False

    def judged(self, record: Record | None) -> dict[str, Any]:
        """What was seen, if there is a record that has it, and whether it will do."""
        seen = nan if record is None else self.figure(record)
        if isnan(seen):
            return {"asked": self.asked, "seen": None, "met": False}
        return {"asked": self.asked, "seen": seen, "met": seen <= self.asked if self.most else seen >= self.asked}


def times(*sides: str) -> Callable[[Record], float]:
    """How many times as fast as the best of these sides of a training step."""
    return lambda record: record["ours"] / max(record[side] for side in sides)


def chain(name: str, ours: str, stock: str) -> Callable[[Record], float]:
    """How many times as long as ours the stock side takes, or ours as long as a copy; not a number where there is
    neither: a processor without units for bf16 is not measured in it."""
    return lambda record: record[name].get(stock, nan) / record[name].get(ours, nan)


def of_a_step(lineage: str) -> list[Bar]:
    """The bars of a whole training step."""
    record = f"training-step-{lineage}"
    return [
        Bar(f"{lineage}, times B0", record, times("b0"), 8),
        Bar(f"{lineage}, times B1", record, times("b1"), 6),
        Bar(f"{lineage}, times the best of B0, B1, B2", record, times("b0", "b1", "b2"), 1.3),
        Bar(f"{lineage}, times T", record, times("t"), 1.1),
        Bar(f"{lineage}, share of the product's rate", record, lambda record: record["share_of_matmul"], 0.4),
    ]


def apart(record: Record) -> float:
    """How far our mean error is from PyTorch's, in what such a difference is uncertain by."""
    fast, plain = ([run["error"] for run in record[side]] for side in ("fast", "plain"))
    return abs(mean(fast) - mean(plain)) / sqrt(variance(fast) / len(fast) + variance(plain) / len(plain))


def of_its_bytes(record: Record) -> float:
    """What follows conv1, in the time that its bytes take: for each activity in bf16 it reads it and writes 0.36 (what
    is pooled, and from where), and going back reads these, reads the activity again and writes its gradient."""
    return chain("relu1 + norm1 + pool1", "bfloat16 copy", "bfloat16 both")(record) * 2 / (1.36 + 2.36)


def beyond(record: Record) -> float:
    """Memory that a step adds to the images, of what B1's adds."""
    ours, b1 = (record[side]["peak"] - record[side]["before"] for side in ("ours", "b1"))
    return float(ours / b1)


def update_of_its_bytes(record: Record) -> float:
    """The update, in the time that the 20 bytes of each of 61 million weights take: both are read and written, the
    gradient is read, the copy written."""
    return record["update"]["bfloat16 both"] / (20 * 0.0609652 / record["limits"]["copy_gbps"] * 1e3)


BARS = [
    *of_a_step("paper"),
    *of_a_step("source-2012"),
    Bar("paper in float32, times B0", "training-step-paper-float32", times("b0"), 2.4),
    Bar("cifar-18pct, times B0", "training-step-cifar-18pct", times("b0"), 2),
    Bar("norm1 in float32, copies", "layers", chain("norm1 alone", "float32 copy", "float32 both"), 2.5, True),
    Bar("norm1 in float32, times stock", "layers", chain("norm1 alone", "float32 both", "stock both"), 30),
    *[
        Bar(f"what follows conv1 in {kind}, times stock", "layers",
            chain("relu1 + norm1 + pool1", f"{kind} both", "stock both"), 10)
        for kind in ("float32", "bfloat16")
    ],
    Bar("ten views, times stock", "evaluation", lambda record: record["ours"] / record["stock"], 2.5),
    Bar("peak memory, of B1's", "peak-memory", lambda record: record["ours"]["peak"] / record["b1"]["peak"], 1, True),
    *[
        Bar(f"{lineage}: {what}, s", record, lambda record, what=what: record[what], seconds, True)  # type: ignore[misc]
        for lineage, record in (("paper", "first-use"), ("source-2012", "first-use-source-2012"))
        for what, seconds in (("compiling", 10), ("from the cache", 1))
    ],
    Bar("two shares, of one process", "parallel", lambda record: record["data"]["efficiency"], 0.9),
    Bar("two towers, of one process", "parallel", lambda record: record["towers"]["efficiency"], 0.85),
    Bar("a tower's memory, of one process", "parallel",
        lambda record: record["towers"]["held_mb"] / record["one"]["held_mb"], 0.55, True),
    *[
        Bar(f"{layout}: bytes counted, from the formula", "parallel",
            lambda record, layout=layout: abs(record[layout]["bytes_counted"] / record[layout]["bytes_by_formula"] - 1),  # type: ignore[misc]
            0, True)
        for layout in ("towers", "data")
    ],
    Bar("error of five seeds, standard errors from PyTorch's", "same-error", apart, 2, True),
]  # fmt: skip

BARS_ON_GPU = [
    *[
        Bar(f"{size}, times {side.upper()}", f"training-step-paper{ending}", times(side), asked)
        for size, ending, side, asked in (
            (128, "", "b0", 4), (128, "", "b1", 2.5), (1024, "-1024", "b0", 5), (1024, "-1024", "b1", 3),
            (128, "-b2", "b2", 1.3),
        )
    ],
    *[
        Bar(f"{size}, share of the product's rate", f"training-step-paper{ending}",
            lambda record: record["share_of_matmul"], asked)
        for size, ending, asked in ((128, "", 0.28), (1024, "-1024", 0.4), (8192, "-8192", 0.42))
    ],
    Bar("1024, images a second", "training-step-paper-1024", lambda record: record["ours"], 75_000),
    Bar("cifar-18pct, times B0", "training-step-cifar-18pct", times("b0"), 5),
    Bar("norm1, copies (2.5 at 80 %)", "layers", chain("norm1 alone", "bfloat16 copy", "bfloat16 both"), 3.1, True),
    Bar("norm1 in float32, times stock", "layers", chain("norm1 alone", "float32 both", "stock both"), 12),
    Bar("what follows conv1, of its bytes' time", "layers", of_its_bytes, 1.3, True),
    Bar("update, of its bytes' time", "layers", update_of_its_bytes, 1.2, True),
    Bar("update, times fused SGD", "layers", chain("update", "bfloat16 both", "stock both"), 1.5),
    Bar("ten views, times stock", "evaluation", lambda record: record["ours"] / record["stock"], 8),
    Bar("memory beyond the images, of B1's", "peak-memory", beyond, 1 / 3, True),
    Bar("what pictures leave of the pace", "end-to-end", lambda record: record["left"], 0.95),
]  # fmt: skip


def measure(name: str, words: list[str], into: Path) -> Record | None:
    """The record of that name, measured unless it is there; None where its benchmark failed, which has said why."""
    file = into / f"{name}.json"
    if file.exists():
        commit = json.loads(file.read_text()).get("commit")
        print(f"{name}: there already, by the program of {commit}: {file}", file=sys.stderr)
    else:
        began = time.monotonic()
        command = [sys.executable, str(HERE / words[0]), *words[1:]]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            print(f"{name}: failed with {done.returncode}", file=sys.stderr)
            return None
        write_whole(file, json.dumps(json.loads(done.stdout.splitlines()[-1]), indent=1) + "\n")
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    record: Record = json.loads(file.read_text())
    return record


def main() -> None:
    """Measure and print."""
    on_gpu = torch.cuda.is_available()
    measured, bars = (MEASURED_ON_GPU, BARS_ON_GPU) if on_gpu else (MEASURED, BARS)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--into", type=Path, default=Path("runs/bars"))
    parser.add_argument("--only", nargs="+", choices=measured, metavar="RECORD", help=f"some of {', '.join(measured)}")
    parser.add_argument("--cifar", metavar="FOLDER", help="CIFAR-10, for the errors of five seeds")
    options = parser.parse_args()
    if "same-error" in (options.only or ()) and not options.cifar:
        parser.error("same-error needs --cifar FOLDER")
    options.into.mkdir(parents=True, exist_ok=True)
    found: dict[str, dict[str, Any]] = {}
    for name, words in measured.items():
        if name not in (options.only or measured) or ("CIFAR10" in words and not options.cifar):
            continue
        record = measure(name, [options.cifar if word == "CIFAR10" else word for word in words], options.into)
        for bar in (bar for bar in bars if bar.record == name):
            one = found[bar.what] = bar.judged(record)
            sign, verdict = "at most" if bar.most else "at least", "met" if one["met"] else "NOT MET"
            seen = " not seen" if one["seen"] is None else f"{one['seen']:9.3f}"
            print(f"{bar.what:48} {seen}   {sign} {bar.asked:<5g} {verdict}", flush=True)
    missed = [what for what, one in found.items() if not one["met"]]
    print(f"{len(found) - len(missed)} of {len(found)} bars met" + "".join(f"; not: {what}" for what in missed))
    print(json.dumps(found))
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
