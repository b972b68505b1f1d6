"""Normalization across maps (section 3.3), on the processor: a row of an image at a time, in compiled code.

For the paper's window of five, neighbours pass from vector to vector. For others some pixels' maps lie apart in the
cache: zeros before, between and behind the towers' shares, as many as a window reaches over their ends, so that sums
need no ends.
"""

from typing import Any

from alexnet.kernels.compiled import compiled_part, soon_read, soon_written
from alexnet.kernels.lanes_numba import LANES, behind, beside, every, put, take, where
from alexnet.kernels.lines import Floats, divided_back, power, sums

SHARES = 16  # towers' shares of pixels that lie apart at once


@compiled_part
def spread(x: Floats, at: int, v: Floats, to: int, shares: int, share: int, gap: int, ragged: int | None,
           least: Any) -> None:  # fmt: skip
    """Some shares, widened, to where they lie apart. What is below `least` becomes that: 0 is the rectifier; what is
    not a number stays so."""
    for each in range(shares):
        start, first = at + each * share, to + each * (share + gap)
        for i in range(0, share, LANES):
            own = take(x, start + i, behind(ragged, i))
            put(v, first + i, behind(ragged, i), where(own < least, least, own))


@compiled_part
def normalize(x: Floats, at: int, v: Floats, into: Floats, to: int, shares: int, share: int, n: int, row: int,
              filled: Floats, soon: int, least: Any, wide: Any, ragged: int | None, paper: bool | None,
              exact: bool | None, other: bool | None) -> None:  # fmt: skip
    """into = v / d ^ beta with d = k + alpha * window sums of v^2, from `at` and `to` on.

    row      how many numbers further its next row of x stands; `filled`, from `soon` on, is written afterwards: both
             are called into the cache meanwhile, or computing and waiting would take turns
    """
    if other is None:
        _normalize_five(x, at, into, to, shares, share, row, filled, soon, least, wide, ragged, paper, exact)
        return
    gap = n // 2
    for begun in range(0, shares, SHARES):
        some = min(SHARES, shares - begun)
        spread(x, at + begun * share, v, gap, some, share, gap, ragged, least)
        for each in range(some):
            apart, here = each * (share + gap), (begun + each) * share
            for i in range(0, share, LANES):
                soon_read(x, at + row + here + i)
                soon_written(filled, soon + here + i)
                d = _energy(v, apart + i, n, wide)
                own = take(v, apart + gap + i)
                put(into, to + here + i, behind(ragged, i), own * power(d, wide, paper, exact))


@compiled_part
def normalize_back(x: Floats, at: int, v: Floats, g: Floats, e: Floats, into: Floats, shares: int, share: int, n: int,
                   row: int, least: Any, floor: Any, wide: Any, ragged: int | None, paper: bool | None,
                   exact: bool | None, other: bool | None) -> None:  # fmt: skip
    """into = g d^-beta - 2 alpha beta v * transposed window sums of g v d^(-beta - 1), and 0 where v <= floor."""
    if other is None:
        _normalize_five_back(x, at, g, into, shares, share, row, least, floor, wide, ragged, paper, exact)
        return
    gap, above, zero, factor = n // 2, n - 1 - n // 2, wide[3], (wide[1] + wide[1]) * wide[2]
    for begun in range(0, shares, SHARES):
        some = min(SHARES, shares - begun)
        spread(x, at + begun * share, v, gap, some, share, gap, ragged, least)
        for each in range(some):
            apart, here = each * (share + gap), (begun + each) * share
            for i in range(0, share, LANES):
                soon_read(x, at + row + here + i)
                d, own = _energy(v, apart + i, n, wide), take(v, apart + gap + i)
                direct, shared = divided_back(own, take(g, here + i), d, wide, paper, exact)
                put(g, here + i, behind(ragged, i), direct)
                put(e, apart + gap + i, behind(ragged, i), shared)
        for each in range(some):
            apart, here = each * (share + gap), (begun + each) * share
            for i in range(0, share, LANES):
                soon_written(into, at + row + here + i)
                own, total = take(v, apart + gap + i), sums(e, apart + gap - above + i, n, 1)
                passed = where(own <= floor, zero, take(g, here + i) - factor * own * total)
                put(into, at + here + i, behind(ragged, i), passed)


@compiled_part
def room(share: int, gap: int) -> int:
    """How long an array is in which some shares lie apart, and what is taken beyond them."""
    return SHARES * (share + gap) + gap + 2 * LANES


@compiled_part
def _energy(v: Floats, first: int, n: int, wide: Any) -> Any:
    """k + alpha * (the squares of n numbers from `first` on), for sixteen."""
    one = take(v, first)
    total = one * one
    for reach in range(1, n):
        one = take(v, first + reach)
        total = total + one * one
    return wide[0] + wide[1] * total


@compiled_part
def _normalize_five(x: Floats, at: int, into: Floats, to: int, shares: int, share: int, row: int, filled: Floats,
                    soon: int, least: Any, wide: Any, ragged: int | None, paper: bool | None,
                    exact: bool | None) -> None:  # fmt: skip
    """`normalize` for the paper's window: neighbours pass from vector to vector."""
    nothing = every(wide[3])
    for start in range(0, shares * share, share):
        own = _rectified(x, at + start, behind(ragged, 0), least)
        energy = own * own
        before = beside(nothing, energy, 1)
        for i in range(start, start + share, LANES):
            soon_read(x, at + row + i)
            soon_written(filled, soon + i)
            following = nothing
            if i + LANES < start + share:
                following = _rectified(x, at + i + LANES, behind(ragged, i + LANES - start), least)
            its = following * following
            pairs = energy + beside(energy, its, 1)
            d = wide[0] + wide[1] * _five(before, pairs, energy, its)
            put(into, to + i, behind(ragged, i - start), own * power(d, wide, paper, exact))
            own, energy, before = following, its, pairs


@compiled_part
def _normalize_five_back(x: Floats, at: int, g: Floats, into: Floats, shares: int, share: int, row: int, least: Any,
                         floor: Any, wide: Any, ragged: int | None, paper: bool | None,
                         exact: bool | None) -> None:  # fmt: skip
    """`normalize_back` for the paper's window: sixteen are finished once the next sixteen's part is known."""
    nothing, factor = every(wide[3]), (wide[1] + wide[1]) * wide[2]
    for start in range(0, shares * share, share):
        own = _rectified(x, at + start, behind(ragged, 0), least)
        energy = own * own
        before = beside(nothing, energy, 1)
        last, direct, shared, shared_before = nothing, nothing, nothing, nothing
        for i in range(start, start + share + LANES, LANES):
            theirs, ours, following, its = nothing, nothing, nothing, nothing
            if i < start + share:
                soon_read(x, at + row + i)
                soon_written(into, at + row + i)
                if i + LANES < start + share:
                    following = _rectified(x, at + i + LANES, behind(ragged, i + LANES - start), least)
                its = following * following
                pairs = energy + beside(energy, its, 1)
                d = wide[0] + wide[1] * _five(before, pairs, energy, its)
                ours, theirs = divided_back(own, take(g, i, behind(ragged, i - start)), d, wide, paper, exact)
                energy, before = its, pairs
            shares_pairs = shared + beside(shared, theirs, 1)
            if i > start:
                total = _five(shared_before, shares_pairs, shared, theirs)
                passed = where(last <= floor, wide[3], direct - factor * last * total)
                put(into, at + i - LANES, behind(ragged, i - LANES - start), passed)
            last, direct, shared, shared_before, own = own, ours, theirs, shares_pairs, following


@compiled_part
def _rectified(x: Floats, at: int, left: int | None, least: Any) -> Any:
    own = take(x, at, left)
    return where(own < least, least, own)


@compiled_part
def _five(before: Any, pairs: Any, one: Any, following: Any) -> Any:
    """Sums of five neighbours, of pairs of neighbours, the sixteen pairs before, and the numbers themselves."""
    return (beside(before, pairs, 14) + pairs) + beside(one, following, 2)
