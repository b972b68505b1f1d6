"""The command line: one file a verb. Each parses, calls one function and shows.

Nothing heavy is imported before a verb needs it: `alexnet --help` answers without torch.
"""

import io
import json
import signal
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from alexnet.command_line.saying import complain
from alexnet.command_line.words import Result
from alexnet.runtime.errors import Interrupted, PeerError, UsageError, explain_os_error, understood
from alexnet.runtime.streams import let_go, open_closed_ones
from alexnet.runtime.suggestions import did_you_mean

HELP = """alexnet VERB ...: the 2012 ImageNet system, as printed and as it was really run

  prepare SOURCE STORE        pictures from anywhere, once, into squares that training reads fast
  inspect LINEAGE             its layers, parameters and multiply-adds; --against OTHER: every difference
  train DATA                  a run: learn from pictures, in a folder that can be resumed
  evaluate RUN... DATA        top-1 and top-5 error on held-out pictures; several runs make an ensemble
  classify RUN IMAGE...       the five most probable classes of each picture
  report RUN                  one HTML page: curves, kernels, predictions, numbers

DATA and SOURCE are a store that prepare made, `digits` (built in), a folder of class folders (with or without train/
and val/), ImageNet's own archives or Kaggle's folders, Parquet or `hf:OWNER/NAME`, WebDataset tars, CIFAR-10's files.
`alexnet VERB --help` lists a verb's options; --json makes the last line JSON.
"""

VERBS = ("prepare", "inspect", "train", "evaluate", "classify", "report")  # in the order of the story, each a file here


def main(words: Sequence[str] | None = None) -> int:
    """Run one verb; the exit code says how it ended (runtime/errors.py lists them)."""
    verb, *rest = (sys.argv[1:] if words is None else words) or ["--help"]
    open_closed_ones()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal without Unicode, a name that is not UTF-8
    try:
        try:
            _run(verb, rest)
        finally:
            _flush()
    except BrokenPipeError:  # `| head`: nobody is left to read; on standard error that is seen to where it is written
        let_go(sys.stdout)
        return 0
    except KeyboardInterrupt:
        complain(verb, stopped := Interrupted("stopped", signal.SIGINT))
        return stopped.exit_code
    except Exception as error:
        if not (told := understood(error, verb)):
            raise
        if not (isinstance(told, PeerError) and told.silent):
            complain(verb, told)
        return told.exit_code
    return 0


def _flush() -> None:
    """Here and not at the interpreter's end, where nobody could catch what it raises."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        let_go(sys.stdout)
        raise explain_os_error(error, "standard output") from error


def _run(verb: str, words: Sequence[str]) -> None:
    if verb in ("-h", "--help"):
        print(HELP, end="")
        return
    if verb not in VERBS:
        raise UsageError(f"{verb}: no such verb; {did_you_mean(verb, VERBS)}")
    run: Callable[[Sequence[str]], Result] = import_module(f"alexnet.command_line.{verb}").run
    result = run(words)
    if "--json" in words and result:  # of several processes the first one speaks
        print(json.dumps(result))
