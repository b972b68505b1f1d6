"""Normalization across maps (section 3.3), on the processor: a row of an image at a time, in compiled code.

For the paper's window of five, neighbours pass from vector to vector. For others some pixels' maps lie apart in the
cache: zeros before, between and behind the towers' shares, as many as a window reaches over their ends, so that sums
need no ends.
"""

from typing import Any, NamedTuple

from alexnet.kernels.compiled import compiled_part
from alexnet.kernels.lanes_numba import LANES, beside, every, where
from alexnet.kernels.memory_numba import Floats, behind, put, put_past, soon_read, soon_written, take
from alexnet.kernels.norm_numba import Norm, divided_back, power, sums

SHARES = 16  # towers' shares of pixels that lie apart at once


class Across(NamedTuple):
    """Normalization across maps, to compiled code.

    n        how many maps a window has
    share    how many a tower has
    ragged   the same if it is not so many whole sixteens, else None
    least    0 where a rectifier is before it, else minus infinity: what is less becomes that
    floor    no gradient passes where an activity is not above it: 0, or what is not a number
    """

    norm: Norm
    n: int
    share: int
    ragged: int | None
    least: Any
    floor: Any


@compiled_part
def spread(x: Floats, at: int, v: Floats, to: int, shares: int, gap: int, how: Across, least: Any) -> None:
    """Some shares, widened, to where they lie apart. What is less than `least` becomes that; what is not a number stays
    so."""
    for each in range(shares):
        start, first = at + each * how.share, to + each * (how.share + gap)
        for i in range(0, how.share, LANES):
            left = behind(how.ragged, i)
            put(v, first + i, left, _no_less(take(x, start + i, left), least))


@compiled_part
def normalize(x: Floats, at: int, v: Floats, into: Floats, to: int, filled: Floats, soon: int, shares: int, how: Across,
              any_window: bool | None, past: bool | None) -> None:  # fmt: skip
    """into = v / d ^ beta with d = k + alpha * window sums of v^2, for a row that begins at `at` and `to`.

    x's next row, and `filled` from `soon` on, which is written afterwards, are called into the cache meanwhile, or
    computing and waiting would take turns. v has `room`. Where `past` is not None, the paper's window puts past the
    caches.
    """
    if any_window is None:
        _normalize_five(x, at, into, to, filled, soon, shares, how, past)
        return
    gap, share, row = how.n // 2, how.share, shares * how.share
    for begun in range(0, shares, SHARES):
        some = min(SHARES, shares - begun)
        spread(x, at + begun * share, v, gap, some, gap, how, how.least)
        for each in range(some):
            apart, here = each * (share + gap), (begun + each) * share
            for i in range(0, share, LANES):
                soon_read(x, at + row + here + i)
                soon_written(filled, soon + here + i)
                own = take(v, apart + gap + i) * power(_energy(v, apart + i, how), how.norm)
                put(into, to + here + i, behind(how.ragged, i), own)


@compiled_part
def normalize_back(x: Floats, at: int, v: Floats, g: Floats, given: int, e: Floats, into: Floats, shares: int,
                   how: Across, any_window: bool | None, far: bool | None) -> None:  # fmt: skip
    """into = g d^-beta - 2 alpha beta v * transposed window sums of g v d^(-beta - 1), and 0 where v <= floor.

    g   from `given` on; in memory if it is `far`; written over for other windows than the paper's
    e   has `room`, too, and holds zeros
    """
    if any_window is None:
        _normalize_five_back(x, at, g, given, into, shares, how, far)
        return
    gap, share, row, norm = how.n // 2, how.share, shares * how.share, how.norm
    above, factor = how.n - 1 - gap, (norm.alpha + norm.alpha) * norm.beta
    for begun in range(0, shares, SHARES):
        some = min(SHARES, shares - begun)
        spread(x, at + begun * share, v, gap, some, gap, how, how.least)
        for each in range(some):
            apart, here = each * (share + gap), (begun + each) * share
            for i in range(0, share, LANES):
                left = behind(how.ragged, i)
                soon_read(x, at + row + here + i)
                own, theirs = take(v, apart + gap + i), take(g, given + here + i)
                direct, shared = divided_back(own, theirs, _energy(v, apart + i, how), norm)
                put(g, given + here + i, left, direct)
                put(e, apart + gap + i, left, shared)
        for each in range(some):
            apart, here = each * (share + gap), (begun + each) * share
            for i in range(0, share, LANES):
                soon_written(into, at + row + here + i)
                own, total = take(v, apart + gap + i), sums(e, apart + gap - above + i, how.n, 1)
                passed = where(own <= how.floor, norm.zero, take(g, given + here + i) - factor * own * total)
                put(into, at + here + i, behind(how.ragged, i), passed)


def room(how: Across) -> int:
    """How long an array is in which some shares lie apart, and what is taken beyond them."""
    gap: int = how.n // 2
    return SHARES * (how.share + gap) + gap + 2 * LANES


@compiled_part
def _energy(v: Floats, first: int, how: Across) -> Any:
    """k + alpha * (the squares of a window's numbers from `first` on), for sixteen."""
    one = take(v, first)
    total = one * one
    for reach in range(1, how.n):
        one = take(v, first + reach)
        total = total + one * one
    return how.norm.k + how.norm.alpha * total


@compiled_part
def _normalize_five(x: Floats, at: int, into: Floats, to: int, filled: Floats, soon: int, shares: int, how: Across,
                    past: bool | None) -> None:  # fmt: skip
    """`normalize` for the paper's window."""
    nothing, norm, share, row = every(how.norm.zero), how.norm, how.share, shares * how.share
    for start in range(0, row, share):
        own = _no_less(take(x, at + start, behind(how.ragged, 0)), how.least)
        energy = own * own
        before = beside(nothing, energy, 1)
        for i in range(0, share, LANES):
            soon_read(x, at + row + start + i)
            following, left = nothing, behind(how.ragged, i)
            if i + LANES < share:
                there = at + start + i + LANES
                following = _no_less(take(x, there, behind(how.ragged, i + LANES)), how.least)
            its = following * following
            pairs = energy + beside(energy, its, 1)
            y = own * power(norm.k + norm.alpha * _five(before, pairs, energy, its), norm)
            if past is None:
                soon_written(filled, soon + start + i)
                put(into, to + start + i, left, y)
            else:
                put_past(into, to + start + i, left, y)
            own, energy, before = following, its, pairs


@compiled_part
def _normalize_five_back(x: Floats, at: int, g: Floats, given: int, into: Floats, shares: int,
                         how: Across, far: bool | None) -> None:  # fmt: skip
    """`normalize_back` for the paper's window: sixteen are finished once the next sixteen's part is known."""
    nothing, norm, share, row = every(how.norm.zero), how.norm, how.share, shares * how.share
    last, direct, shared, before_shared, to = nothing, nothing, nothing, nothing, at
    left = behind(how.ragged, 0)
    for start in range(0, row, share):
        own = _no_less(take(x, at + start, behind(how.ragged, 0)), how.least)
        energy = own * own
        before = beside(nothing, energy, 1)
        for i in range(0, share, LANES):
            following, here = nothing, start + i
            soon_read(x, at + row + here)
            if far is not None:
                soon_read(g, given + row + here)
            if i + LANES < share:
                following = _no_less(take(x, at + here + LANES, behind(how.ragged, i + LANES)), how.least)
            its = following * following
            pairs = energy + beside(energy, its, 1)
            d = norm.k + norm.alpha * _five(before, pairs, energy, its)
            ours, theirs = divided_back(own, take(g, given + here, behind(how.ragged, i)), d, norm)
            if i > 0:
                shared_pairs = _finish(into, to, left, last, direct, before_shared, shared, theirs, how)
            else:
                if start > 0:
                    _finish(into, to, left, last, direct, before_shared, shared, nothing, how)
                shared_pairs = beside(nothing, theirs, 1)
            last, direct, before_shared, shared, to = own, ours, shared_pairs, theirs, at + here
            left = behind(how.ragged, i)
            own, energy, before = following, its, pairs
    _finish(into, to, left, last, direct, before_shared, shared, nothing, how)


@compiled_part
def _finish(into: Floats, to: int, left: int | None, v: Any, direct: Any, before: Any, shared: Any, following: Any,
            how: Across) -> Any:  # fmt: skip
    """Put sixteen gradients. Returns their pairs of what is shared."""
    norm, pairs = how.norm, shared + beside(shared, following, 1)
    own = direct - (norm.alpha + norm.alpha) * norm.beta * v * _five(before, pairs, shared, following)
    put_past(into, to, left, where(v <= how.floor, norm.zero, own))
    return pairs


@compiled_part
def _no_less(x: Any, least: Any) -> Any:
    return where(x < least, least, x)


@compiled_part
def _five(before: Any, pairs: Any, one: Any, following: Any) -> Any:
    """Sums of five neighbours, of the numbers, their pairs with the next one, and the sixteen on both sides."""
    return (beside(before, pairs, 14) + pairs) + beside(one, following, 2)
