"""Maps in the lanes of a warp, for kernels in Triton: what follows a convolution is computed of these.

A thread has eight neighbouring maps of a pixel, which lie side by side in memory, and asks the threads beside it for
the few that its windows reach beyond; a warp has as many pixels of one tower as fit. (Of more than 256 maps a
thread has more than eight: there are more lanes than threads then.) Numbers are float32[lanes, 8].
"""

from typing import Any

import triton
import triton.language as tl


def constants_of(share: int) -> dict[str, Any]:
    """What kernels are compiled for where a tower has `share` maps: in how many groups of eight, on how many lanes, and
    how many pixels these are."""
    groups = -(-share // 8)
    lanes = max(32, triton.next_power_of_2(groups))
    return {"share": share, "groups": groups, "lanes": lanes, "tile": lanes // groups}


@triton.jit
def threads(groups: tl.constexpr, lanes: tl.constexpr):
    """[lanes] of each: which of the tile's pixels, which group of maps, whether there is one, and the lane."""
    lane = tl.arange(0, lanes)
    return lane // groups, lane % groups, lane < lanes // groups * groups, lane


@triton.jit
def maps_of(group, here, share: tl.constexpr):
    """The numbers of a thread's maps, and whether they are there: [lanes, 8]."""
    map_ = group[:, None] * 8 + tl.arange(0, 8)[None, :]
    there = here[:, None]
    if share % 8:
        there = there & (map_ < share)
    return map_, there


@triton.jit
def largest(v, other):
    """Of both; what is not a number stays so."""
    return tl.maximum(v, other, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def first_largest(best, winner, v, place):
    """The larger and its place; of equals the first one's. What is not a number stays so, in whoever's place."""
    return largest(v, best), tl.where(v > best, place, winner)


@triton.jit
def activity(loaded, bias, map_, there, biased: tl.constexpr, rectified: tl.constexpr):
    """What a convolution left, with its bias, rectified."""
    v = loaded.to(tl.float32)
    if biased:
        v += tl.load(bias + map_, there, 0.0).to(tl.float32)
    if rectified:
        v = largest(v, 0.0)
    return v


@triton.jit
def normalized(v, lane, group, k, alpha, beta, below: tl.constexpr, above: tl.constexpr, roots: tl.constexpr,
               groups: tl.constexpr, lanes: tl.constexpr):  # fmt: skip
    """v / (k + alpha * its window's energy) ^ beta."""
    power, _ = _power(k + alpha * _window_sums(v * v, lane, group, below, above, groups, lanes), beta, roots)
    return v * power


@triton.jit
def normalized_back(v, down, there, lane, group, k, alpha, beta, below: tl.constexpr, above: tl.constexpr,
                    roots: tl.constexpr, share: tl.constexpr, groups: tl.constexpr, lanes: tl.constexpr):  # fmt: skip
    """The gradient for v, where `down` is the one for what `normalized` makes of it."""
    power, inverse = _power(k + alpha * _window_sums(v * v, lane, group, below, above, groups, lanes), beta, roots)
    down *= power
    taken = down * (v * inverse)
    if share % 8:
        taken = tl.where(there, taken, 0.0)  # what is no map of the tower's counts for nothing
    return down - 2 * alpha * beta * v * _window_sums(taken, lane, group, above, below, groups, lanes)


@triton.jit
def _power(d, beta, roots: tl.constexpr):
    """d ^ -beta and 1 / d; for the paper's 0.75 by roots."""
    if roots:
        root = tl.rsqrt(d)
        power, inverse = root * tl.sqrt(root), root * root
    else:
        power, inverse = tl.exp2(-beta * tl.log2(d)), 1.0 / d
    return power, inverse


@triton.jit
def _window_sums(x, lane, group, below: tl.constexpr, above: tl.constexpr, groups: tl.constexpr, lanes: tl.constexpr):
    """Over the maps from `below` before each to `above` behind it; beyond the tower's x is 0.

    Maps lie in blocks of a window's n. A window begins in one and ends in the next: a sum up to the first one's end and
    one from the second one's begin, each of which is one addition more than its neighbour's.
    """
    n: tl.constexpr = below + 1 + above
    apart = _apart(x, lanes)
    near = (_neighbour(apart, lane, group, -below, groups, lanes),)
    for at in tl.static_range(1, 8 + n - 1):
        near = near + (_neighbour(apart, lane, group, at - below, groups, lanes),)  # noqa: RUF005
    end: tl.constexpr = 7 // n * n + n - 1
    begun, left = (near[0],), (near[end],)
    for at in tl.static_range(1, 8 + n - 1):
        begun = begun + (near[at] if at % n == 0 else begun[at - 1] + near[at],)  # noqa: RUF005
    for at in tl.static_range(end - 1, -1, -1):
        left = (near[at] if at % n == n - 1 else near[at] + left[0],) + left  # noqa: RUF005
    sums = ()
    for at in tl.static_range(8):
        sums = sums + (begun[at + n - 1] if at % n == 0 else left[at] + begun[at + n - 1],)  # noqa: RUF005
    return _together(sums, lanes)


@triton.jit
def _neighbour(apart, lane, group, at: tl.constexpr, groups: tl.constexpr, lanes: tl.constexpr):
    """What lies `at` maps from the thread's first one; 0 beyond the tower."""
    away: tl.constexpr = at // 8
    x = apart[at % 8]
    if away < 0:
        x = tl.where(group + away >= 0, tl.gather(x, tl.maximum(lane + away, 0), 0), 0.0)
    if away > 0:
        x = tl.where(group + away < groups, tl.gather(x, tl.minimum(lane + away, lanes - 1), 0), 0.0)
    return x


@triton.jit
def _apart(x, lanes: tl.constexpr):
    """[lanes, 8] -> eight [lanes], which a thread has in as many registers: nothing moves."""
    even, odd = tl.split(tl.reshape(x, (lanes, 4, 2)))
    first, third = tl.split(tl.reshape(even, (lanes, 2, 2)))
    second, fourth = tl.split(tl.reshape(odd, (lanes, 2, 2)))
    x0, x4 = tl.split(first)
    x1, x5 = tl.split(second)
    x2, x6 = tl.split(third)
    x3, x7 = tl.split(fourth)
    return x0, x1, x2, x3, x4, x5, x6, x7


@triton.jit
def _together(x, lanes: tl.constexpr):
    """Eight [lanes] -> [lanes, 8]."""
    even = tl.reshape(tl.join(tl.join(x[0], x[4]), tl.join(x[2], x[6])), (lanes, 4))
    odd = tl.reshape(tl.join(tl.join(x[1], x[5]), tl.join(x[3], x[7])), (lanes, 4))
    return tl.reshape(tl.join(even, odd), (lanes, 8))
