"""The tables of speed in README.md and docs/performance.md, from the records here.

    python benchmarks/tables.py [--write]

Prints them, or puts each between its marks.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent
SIDES = ("b0", "b1", "b2", "t")

Record = dict[str, Any]


def record(name: str) -> Record:
    """What a benchmark left."""
    found: Record = json.loads((HERE / "records" / f"{name}.json").read_text())
    return found


def pace(value: float) -> str:
    """Images a second."""
    return f"{value:,.1f}" if value < 1000 else f"{value:,.0f}"


def steps(ending: str) -> str:
    """Whole training steps of one machine: images a second with the slowest and the quickest, and how many times."""
    lines = ["| images/s | ours | B0 | B1 | B2 | T | share of the matrix product's rate |", "|---" * 7 + "|"]
    for lineage, words in (
        ("paper", "`paper`"), ("source-2012", "`source-2012`"), ("cifar-18pct", "`cifar-18pct`"),
        ("paper-float32", "`paper`, `--products float32`"),
    ):  # fmt: skip
        if not (HERE / "records" / f"training-step-{lineage}{ending}.json").exists():
            continue  # without units for bf16 the last is the first
        one = record(f"training-step-{lineage}{ending}")
        spread = {side: " to ".join(map(pace, each)) for side, each in one["spread"].items()}
        cells = [f"{pace(one[side])} ({spread[side]})" if side in one else "-" for side in ("ours", *SIDES)]
        times = [f"{one['ours'] / one[side]:.2f} times" if side in one else "-" for side in SIDES]
        lines.append(f"| {words} | {' | '.join(cells)} | {one['share_of_matmul']:.0%} |")
        lines.append(f"| ours is | | {' | '.join(times)} | |")
    return "\n".join(lines) + "\n"


def following(name: str) -> str:
    """What follows a convolution, of one machine: milliseconds, and copies of the tensor."""
    lines = ["| | ours | stock | times stock | copies of the tensor |", "|---" * 5 + "|"]
    for chain, of in record(name).items():
        if not isinstance(of, dict) or "stock forward" not in of:
            continue
        stock = f"{of['stock forward']:.0f} + {of['stock both'] - of['stock forward']:.0f}"
        for kind in (kind for kind in ("float32", "bfloat16") if f"{kind} both" in of):
            forward, both, copy = (of[f"{kind} {what}"] for what in ("forward", "both", "copy"))
            lines.append(
                f"| {chain}, {kind} | {forward:.1f} + {both - forward:.1f} | {stock} | {of['stock both'] / both:.1f} "
                f"| {both / copy:.2f} of {copy:.1f} |"
            )
    return "\n".join(lines) + "\n"


def products(name: str) -> str:
    """Convolutions and fully connected layers of one machine: milliseconds, and PyTorch's best layout."""
    lines = ["| | ours | PyTorch's | times PyTorch's |", "|---" * 4 + "|"]
    for layer, of in record(name).items():
        if not isinstance(of, dict) or "ours forward" not in of:
            continue
        stock = min((side for side in of if side.endswith(" both") and side != "ours both"), key=of.__getitem__)
        forward, both = of["ours forward"], of["ours both"]
        other, whole = of[stock.replace(" both", " forward")], of[stock]
        cells = f"{forward:.1f} + {both - forward:.1f} | {other:.1f} + {whole - other:.1f} | {whole / both:.2f}"
        lines.append(f"| {layer} | {cells} |")
    return "\n".join(lines) + "\n"


def end_to_end() -> str:
    """What pictures cost a training step."""
    one = record("end-to-end")
    low, high = ({side: pace(each[end]) for side, each in one["spread"].items()} for end in (0, 1))
    cells = [f"{pace(one[side])} ({low[side]} to {high[side]})" for side in ("resident", "fetched")]
    head = "| images/s, `paper` | on one batch that is there | with pictures as training makes them | left |\n"
    line = f"| {one['repeats']} turns of {one['steps']} steps | {' | '.join(cells)} | {one['left']:.1%} |\n"
    return head + "|---" * 4 + "|\n" + line


def speed() -> str:
    """The README's: PyTorch's way, ours, and how many times."""
    zen4, zen3, amx, gpu = (record(name) for name in (
        "training-step-paper-zen4", "training-step-paper-zen3", "training-step-paper", "h200-training-step-paper-1024",
    ))  # fmt: skip
    narrow, memory, views = (record(f"{name}-zen4") for name in (
        "training-step-paper-float32", "peak-memory", "evaluation"))  # fmt: skip
    read = record("input-pipeline")

    def of_a_step(one: Record) -> str:
        stock = f"{one['b0']:.1f} as it comes, {one['b1']:.1f} tuned, {one['b2']:.1f} compiled"
        times = ", ".join(f"{one['ours'] / one[side]:.1f}" for side in ("b0", "b1", "b2"))
        return f"{stock} | {one['ours']:.1f} | {times} times"

    def against(one: Record, ours: str, stock: str) -> str:
        return f"{one[ours] / one[stock]:.1f}"

    rows = (
        ("a training step of `paper`, batches of 128, images a second", of_a_step(zen4)),
        ("the same in float32",
         f"{narrow['b0']:.1f} | {narrow['ours']:.1f} | {against(narrow, 'ours', 'b0')} times"),
        ("the most memory that step takes",
         f"{memory['b1']['peak'] / 1e3:.1f} GB | {memory['ours']['peak'] / 1e3:.1f} GB | "),
        ("ten-view judging, images a second",
         f"{views['stock']:.1f} | {views['ours']:.1f} | {against(views, 'ours', 'stock')} times"),
        ("reading pictures, to the network's input, images a second",
         f"{read['stock']:,.0f} (ImageFolder, DataLoader) | {read['pixels']:,.0f} from a store of pixels, "
         f"{read['jpeg']:,.0f} of JPEGs | {against(read, 'pixels', 'stock')} and {against(read, 'jpeg', 'stock')} "
         "times"),
        ("preparing photographs, images a second",
         f"{read['plain']:,.0f} (a loop with Pillow) | {read['prepare']:,.0f} | {against(read, 'prepare', 'plain')} "
         "times"),
        ("a training step on cores with AVX2 alone (Zen 3), in float32", of_a_step(zen3)),
        ("a training step on cores with AMX (November 27; not seen since)", of_a_step(amx)),
        ("the step on an H200, batches of 1024 (November 26; not seen since)",
         f"{gpu['b1']:,.0f} tuned | {gpu['ours']:,.0f} | {against(gpu, 'ours', 'b1')} times"),
    )  # fmt: skip
    return "| | PyTorch's way | here | |\n|---|---|---|---|\n" + "".join(f"| {what} | {row} |\n" for what, row in rows)


TABLES: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {"speed": speed},
    "docs/performance.md": {
        "steps": lambda: steps("-zen4"),
        "end to end": end_to_end,
        "steps with AMX": lambda: steps(""),
        "steps with AVX2": lambda: steps("-zen3"),
        "products": lambda: products("layers-zen4"),
        "products with AVX2": lambda: products("layers-zen3"),
        "following": lambda: following("layers-zen4"),
        "following with AMX": lambda: following("layers"),
        "following with AVX2": lambda: following("layers-zen3"),
    },
}


def filled(text: str, tables: dict[str, Callable[[], str]]) -> str:
    """The document with each table between its marks."""
    for name, table in tables.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
        before, rest = text.split(begin)
        text = before + begin + table() + end + rest.split(end)[1]
    return text


if __name__ == "__main__":
    for document, tables in TABLES.items():
        for table in tables.values():
            print(table())
        if "--write" in sys.argv:
            (ROOT / document).write_text(filled((ROOT / document).read_text(), tables))
