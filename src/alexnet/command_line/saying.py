"""What people read: complaints, errors in percent."""

import sys

from alexnet.runtime.errors import AlexNetError, Interrupted
from alexnet.runtime.plain import plain

AVERAGED = {1: "one view", 5: "five patches averaged (its recipe has no reflections)", 10: "ten views averaged"}


def complain(verb: str, error: AlexNetError) -> None:
    """One line on standard error."""
    kind = "" if isinstance(error, Interrupted) else "error: "
    print(f"alexnet {plain(verb)}: {kind}{plain(str(error))}", file=sys.stderr)


def both_errors(top1: float, top5: float, classes: int) -> str:
    """`1.13 % top-1, 0.20 % top-5`; among five classes or fewer the right one is always in the first five."""
    return f"{top1:.2%} top-1" + (f", {top5:.2%} top-5" if classes > 5 else "")
