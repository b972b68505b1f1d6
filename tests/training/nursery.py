"""A process that has imported everything once and forks a child for each command: seconds become milliseconds.

`python nursery.py` says "ready"; it reads lines of JSON, `{"words": [...], "errors": FILE}`, and answers each with the
child's number. The next line asks for its exit code (negative for a signal); until then the number is the child's own,
even when it has ended, so that it can be sent signals without looking.
"""

import json
import os
import signal
import sys
import threading
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))  # where `preloaded` is


def child(words: list[str], errors: str) -> int:
    """One command of its own; standard error goes to a file."""
    from alexnet.command_line import main

    signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a terminal; a shell's background ignores it
    with open(errors, "wb") as file:
        os.dup2(file.fileno(), 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return main(words)


def serve() -> None:
    """Until standard input ends."""
    import torch

    import preloaded  # noqa: F401

    assert torch.get_num_threads() == 1 and threading.active_count() == 1, "a fork copies one thread only"
    print("ready", flush=True)
    for line in sys.stdin:
        number = os.fork()
        if not number:
            code = 1
            try:
                code = child(**json.loads(line))
            finally:
                os._exit(code)
        print(number, flush=True)
        sys.stdin.readline()
        _, status = os.waitpid(number, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    serve()
