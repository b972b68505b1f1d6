"""The names that a pattern stands for, as in a shell: `train-{000000..000009}.tar`, `{train,val}/0.tar`."""

import re
from collections.abc import Iterable, Iterator
from itertools import islice

from alexnet.runtime.errors import BadInputError

MANY = 100_000  # no data set has so many shards, and `{0..999999999999}` should not fill the memory
BRACES = re.compile(r"\{([^{}]*)\}")
RANGE = re.compile(r"([0-9]{1,18})\.\.([0-9]{1,18})")


def expanded(pattern: str) -> list[str]:
    """The names in order, each once; the pattern itself when it has no braces.

    Raises BadInputError when braces hold neither a range nor a list, or stand for more than MANY names.
    """
    names = list(islice(_expanded(pattern, pattern), MANY + 1))
    if len(names) > MANY:
        raise BadInputError(f"{pattern}: stands for more than {MANY:,} names; write a smaller range")
    return sorted(set(names))


def _expanded(name: str, pattern: str) -> Iterator[str]:
    braces = BRACES.search(name)
    if braces is None:
        yield name
        return
    for choice in _choices(braces[1], pattern):
        yield from _expanded(name[: braces.start()] + choice + name[braces.end() :], pattern)


def _choices(inside: str, pattern: str) -> Iterable[str]:
    if bounds := RANGE.fullmatch(inside):
        first, last = bounds.groups()
        width = max(len(first), len(last)) if "0" in (first[0], last[0]) else 0
        smaller, larger = sorted((int(first), int(last)))
        return (str(number).zfill(width) for number in range(smaller, larger + 1))
    if "," in inside:
        return inside.split(",")
    raise BadInputError(f"{pattern}: {{{inside}}} is neither a range nor a list; write {{000..009}} or {{train,val}}")
