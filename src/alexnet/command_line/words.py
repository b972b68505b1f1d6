"""Words in, options out. The only door to argparse."""

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from alexnet.runtime.errors import UsageError
from alexnet.runtime.suggestions import did_you_mean

Result = dict[str, Any]  # what --json prints
Options = argparse.Namespace

DATA = "a store, digits, class folders, ImageNet's archives or Kaggle's folders, Parquet, tars, CIFAR-10, hf:OWNER/NAME"
RUN = "a run's folder, as alexnet train made it"


class Parser(argparse.ArgumentParser):
    """argparse, with errors as ours and the nearest name for a wrong one."""

    def error(self, message: str) -> NoReturn:
        """What argparse calls for anything it cannot read. Raises UsageError."""
        raise UsageError(f"{message}; see alexnet {self.prog.split()[-1]} --help")

    def read(self, words: Sequence[str]) -> argparse.Namespace:
        """Parse all of `words`. Raises UsageError."""
        options, unknown = self.parse_known_intermixed_args(words)
        if unknown and not unknown[0].startswith("-"):
            raise UsageError(f"{unknown[0]}: one word too many; see alexnet {self.prog.split()[-1]} --help")
        if unknown:
            known = [name for action in self._actions for name in action.option_strings]
            raise UsageError(f"{unknown[0]}: no such option; {did_you_mean(unknown[0].split('=')[0], known)}")
        return options


def parser(verb: str, description: str) -> Parser:
    """A verb's parser, with --json."""
    made = Parser(prog=f"alexnet {verb}", description=description, allow_abbrev=False)
    made.add_argument("--json", action="store_true", help="make the last line of standard output one JSON object")
    return made
