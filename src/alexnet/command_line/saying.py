"""Complaints, as people read them."""

from alexnet.runtime.errors import AlexNetError, Interrupted
from alexnet.runtime.plain import plain
from alexnet.runtime.streams import standard_error


def complain(verb: str, error: AlexNetError) -> None:
    """One line on standard error, if anybody reads there."""
    kind = "" if isinstance(error, Interrupted) else "error: "
    print(f"alexnet {plain(verb)}: {kind}{plain(str(error))}", file=standard_error(), flush=True)
