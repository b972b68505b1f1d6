"""What did you mean?"""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`did you mean X?`, or the whole list when nothing is near."""
    choices = list(known)
    near = get_close_matches(word, choices, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(choices)}"
