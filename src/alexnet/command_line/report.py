"""`alexnet report RUN`."""

from collections.abc import Sequence
from pathlib import Path

from alexnet.command_line.words import RUN, Result, parser


def run(words: Sequence[str]) -> Result:
    """Write a run's page."""
    known = parser("report", "One self-contained HTML page about a run.")
    known.add_argument("run", metavar="RUN", type=Path, help=RUN)
    options = known.read(words)

    from alexnet.report.page import write_report

    page = write_report(options.run)
    print(page)
    return {"report": str(page)}
