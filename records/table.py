"""The README's results, from the records here.

python records/table.py           prints the table
python records/table.py --write   puts it into the README
"""

import json
import sys
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
BEGIN, END = "<!-- results -->\n", "<!-- /results -->\n"


def read(path: Path) -> Any:
    """A JSON file."""
    return json.loads(path.read_text())


def learning_seconds(journal: list[Any]) -> float:
    """How long the steps took, pictures read and judged aside."""
    seconds, before = 0.0, 0
    for event in journal:
        if event["event"] == "training":
            seconds, before = seconds + event["seconds_per_step"] * (event["step"] - before), event["step"]
    return seconds


def row(record: Path) -> str:
    """One line of the table: median error over the trials and their range, beside what the author reported."""
    about = read(record / "about.json")
    trials = sorted(path.parent for path in record.glob("*/result.json"))
    results = [read(trial / "result.json") for trial in trials]
    journals = [[json.loads(line) for line in (trial / "journal.jsonl").read_text().splitlines()] for trial in trials]
    seconds = [learning_seconds(journal) for journal in journals]
    errors = sorted(result["top1_error"] for result in results)
    error = f"{median(errors):.2%}"
    if len(errors) > 1:
        error += f" ({errors[0]:.2%} to {errors[-1]:.2%}, {len(errors)} seeds)"
    environment = read(trials[0] / "environment.json")
    cells = (
        f"[{about['what']}](records/{record.name})",
        error,
        about["reported"],
        f"{results[0]['epochs']} epochs, {median(seconds) / 60:.1f} minutes on {environment['device']}",
    )
    return "| " + " | ".join(cells) + " |\n"


def table() -> str:
    """The whole table as Markdown."""
    head = "| run | top-1 error, held-out | reported | cost |\n|---|---|---|---|\n"
    return head + "".join(
        row(path.parent) for path in sorted(HERE.glob("*/about.json")) if any(path.parent.glob("*/result.json"))
    )


def block(readme: str) -> str:
    """The part of the README that the table fills."""
    return readme[readme.index(BEGIN) + len(BEGIN) : readme.index(END)]


if __name__ == "__main__":
    if "--write" in sys.argv:
        text = README.read_text()
        README.write_text(text.replace(BEGIN + block(text) + END, BEGIN + table() + END))
    print(table(), end="")
