"""What follows a convolution, on an NVIDIA GPU, in Triton.

A thread has eight neighbouring maps of a pixel, which lie side by side in memory, and asks the threads beside it for
the few that its windows reach beyond; a warp has as many pixels of one tower as fit. Backward, a thread has all pixels
that a pooling's windows begin with, so that each window is read once. Triton's interpreter runs the same code on a
processor, for the tests.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
import triton
import triton.language as tl
from torch import Tensor

if TYPE_CHECKING:
    from alexnet.kernels.after_convolution import Following

PROGRAMS = 4096  # of the backward, at most: each leaves its part of the biases' gradient
NOBODY = tl.constexpr(255)  # in place of a winner where the rectifier behind the pooling let nothing through


def knows(size: int, stride: int) -> bool:
    """Whether there is a kernel for such a pooling: one whose windows overlap two by two at most."""
    return size <= 2 * stride and stride <= 3


def forward(parts: Sequence[Tensor], bias: Tensor | None, out: Tensor, winners: Tensor, what: "Following") -> None:
    """Fill `out` and `winners`, uint8[N, H', W', C]; what lies in one part or one for each tower, all channels last."""
    pitch, sides = parts[0].shape[1], (*parts[0].shape[2:], *out.shape[2:])
    units = out.shape[0] * out.shape[2] * out.shape[3]
    for x, ours in _towers(parts, what):
        constants = constants_of(what, x.shape[1], bias is not None)
        grid = (triton.cdiv(units, constants["tile"]),)
        _forward[grid](x, x if bias is None else bias[ours], out[:, ours], _of(winners, ours), units, *sides, pitch,
                       out.shape[1], *what.norm[2:], **constants, num_warps=1, enable_fp_fusion=True)  # fmt: skip


def backward(
    parts: Sequence[Tensor],
    bias: Tensor | None,
    g: Tensor,
    winners: Tensor,
    gradients: Sequence[Tensor],
    what: "Following",
) -> Tensor | None:
    """Fill the parts' gradients; all channels last. Returns the biases', float32[C], if there are any."""
    (height, width), (rows, columns), pitch = parts[0].shape[2:], g.shape[2:], parts[0].shape[1]
    blocks = triton.cdiv(height, what.pool[1]), triton.cdiv(width, what.pool[1])
    units, found = g.shape[0] * blocks[0] * blocks[1], []
    for (x, ours), (gradient, _) in zip(_towers(parts, what), _towers(gradients, what), strict=True):
        constants = constants_of(what, x.shape[1], bias is not None)
        tiles, lanes, groups = triton.cdiv(units, constants["tile"]), constants["lanes"], constants["groups"]
        programs = min(tiles, PROGRAMS)
        sums = gradient if bias is None else torch.empty(programs, lanes, 8, device=x.device)
        _backward[programs,](
            x, x if bias is None else bias[ours], g[:, ours], _of(winners, ours), gradient, sums, units, tiles,
            height, width, rows, columns, *blocks, pitch, g.shape[1], *what.norm[2:],
            **constants, num_warps=1, enable_fp_fusion=True,
        )  # fmt: skip
        if bias is not None:
            found.append(sums[:, : lanes // groups * groups].reshape(-1, 8 * groups).sum(0)[: x.shape[1]])
    return torch.cat(found) if found else None


def _towers(parts: Sequence[Tensor], what: "Following") -> Iterator[tuple[Tensor, slice]]:
    """The maps that are normalized together, and which they are of all."""
    towers, n, *_ = what.norm
    apart = parts if len(parts) > 1 else parts[0].chunk(towers if n else 1, 1)
    for number, x in enumerate(apart):
        yield x, slice(number * x.shape[1], (number + 1) * x.shape[1])


def _of(winners: Tensor, ours: slice) -> Tensor:
    return winners[..., ours] if winners.numel() else winners


def constants_of(what: "Following", share: int, biased: bool) -> dict[str, Any]:
    """What the kernels are compiled for, where a part has `share` maps."""
    _, n, _, _, beta = what.norm
    groups = -(-share // 8)
    lanes = max(32, triton.next_power_of_2(groups))
    size, stride = what.pool
    return {
        "share": share, "groups": groups, "lanes": lanes, "tile": lanes // groups,
        "below": n // 2, "above": max(0, n - 1 - n // 2), "normalized": n > 0, "roots": beta == 0.75,
        "biased": biased, "rectified": what.rectified, "last": what.last, "size": size, "stride": stride,
    }  # fmt: skip


@triton.jit
def _apart(x, lanes: tl.constexpr):
    """[lanes, 8] -> eight [lanes]."""
    even, odd = tl.split(tl.reshape(x, (lanes, 4, 2)))
    first, third = tl.split(tl.reshape(even, (lanes, 2, 2)))
    second, fourth = tl.split(tl.reshape(odd, (lanes, 2, 2)))
    x0, x4 = tl.split(first)
    x1, x5 = tl.split(second)
    x2, x6 = tl.split(third)
    x3, x7 = tl.split(fourth)
    return x0, x1, x2, x3, x4, x5, x6, x7


@triton.jit
def _joined(x0, x1, x2, x3, x4, x5, x6, x7, lanes: tl.constexpr):
    """Eight [lanes] -> [lanes, 8]."""
    even = tl.reshape(tl.join(tl.join(x0, x4), tl.join(x2, x6)), (lanes, 4))
    odd = tl.reshape(tl.join(tl.join(x1, x5), tl.join(x3, x7)), (lanes, 4))
    return tl.reshape(tl.join(even, odd), (lanes, 8))


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
def _window_sum(apart, lane, group, at: tl.constexpr, below: tl.constexpr, above: tl.constexpr, groups: tl.constexpr,
                lanes: tl.constexpr):  # fmt: skip
    """Over the maps at - below to at + above."""
    s = apart[at]
    for reach in tl.static_range(1, below + 1):
        s += _neighbour(apart, lane, group, at - reach, groups, lanes)
    for reach in tl.static_range(1, above + 1):
        s += _neighbour(apart, lane, group, at + reach, groups, lanes)
    return s


@triton.jit
def _window_sums(x, lane, group, below: tl.constexpr, above: tl.constexpr, groups: tl.constexpr,
                 lanes: tl.constexpr):  # fmt: skip
    """Over the window around each of a thread's maps; past the tower x is 0."""
    a = _apart(x, lanes)
    return _joined(
        _window_sum(a, lane, group, 0, below, above, groups, lanes),
        _window_sum(a, lane, group, 1, below, above, groups, lanes),
        _window_sum(a, lane, group, 2, below, above, groups, lanes),
        _window_sum(a, lane, group, 3, below, above, groups, lanes),
        _window_sum(a, lane, group, 4, below, above, groups, lanes),
        _window_sum(a, lane, group, 5, below, above, groups, lanes),
        _window_sum(a, lane, group, 6, below, above, groups, lanes),
        _window_sum(a, lane, group, 7, below, above, groups, lanes),
        lanes,
    )  # fmt: skip


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
def _largest(v, other):
    """Of both; what is not a number stays so."""
    return tl.maximum(v, other, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def _threads(groups: tl.constexpr, lanes: tl.constexpr):
    """[lanes] of each: which of the tile's units, which group of maps, whether there is one, and the lane."""
    lane = tl.arange(0, lanes)
    return lane // groups, lane % groups, lane < lanes // groups * groups, lane


@triton.jit
def _maps(group, here, share: tl.constexpr):
    """The numbers of a thread's maps and whether they are there: [lanes, 8]."""
    map_ = group[:, None] * 8 + tl.arange(0, 8)[None, :]
    there = here[:, None]
    if share % 8:
        there = there & (map_ < share)
    return map_, there


@triton.jit
def _forward(x, bias, out, winners, units, height, width, rows, columns, x_maps, out_maps, k, alpha, beta,
             share: tl.constexpr, groups: tl.constexpr, lanes: tl.constexpr, tile: tl.constexpr,
             below: tl.constexpr, above: tl.constexpr, normalized: tl.constexpr, roots: tl.constexpr,
             biased: tl.constexpr, rectified: tl.constexpr, last: tl.constexpr, size: tl.constexpr,
             stride: tl.constexpr):  # fmt: skip
    unit, group, here, lane = _threads(groups, lanes)
    unit += tl.program_id(0) * tile
    here = here & (unit < units)
    map_, there = _maps(group, here, share)
    image, row, column = unit // (rows * columns), unit // columns % rows, unit % columns
    first = (image.to(tl.int64) * height + row * stride) * width + column * stride
    source = x + first[:, None] * x_maps + map_
    best = tl.full((lanes, 8), float("-inf"), tl.float32)
    place = tl.zeros((lanes, 8), tl.int32)
    for code in range(size * size):
        down, right = code // size, code % size
        inside = there & ((row * stride + down < height) & (column * stride + right < width))[:, None]
        v = tl.load(source + (down * width + right) * x_maps, inside, 0.0).to(tl.float32)
        if biased:
            v += tl.load(bias + map_, there, 0.0).to(tl.float32)
        if rectified:
            v = _largest(v, 0.0)
        if normalized:
            s = _window_sums(v * v, lane, group, below, above, groups, lanes)
            power, _ = _power(k + alpha * s, beta, roots)
            v *= power
        place = tl.where(inside & ~(v <= best), code, place)
        best = tl.where(inside, _largest(v, best), best)
    if last:
        place = tl.where(best <= 0, NOBODY, place)
        best = _largest(best, 0.0)
    to = unit.to(tl.int64)[:, None] * out_maps + map_
    tl.store(out + to, best, there)
    if size > 1 or last:
        tl.store(winners + to, place.to(tl.uint8), there)


@triton.jit
def _window(g, winners, image, r, c, there, rows, columns, g_maps, map_, kept: tl.constexpr):
    """The gradient and the winners of the window in row r and column c; nobody's where there is none."""
    inside = there & ((r >= 0) & (r < rows) & (c >= 0) & (c < columns))[:, None]
    at = ((image.to(tl.int64) * rows + r) * columns + c)[:, None] * g_maps + map_
    down = tl.load(g + at, inside, 0.0)
    won = down
    if kept:
        won = tl.load(winners + at, inside, NOBODY)
    return down, won


@triton.jit
def _won(down, window, i: tl.constexpr, j: tl.constexpr, size: tl.constexpr):
    """With what a pixel in row i and column j of a window gets from it."""
    if i < size and j < size:
        down += tl.where(window[1] == i * size + j, window[0].to(tl.float32), 0.0)
    return down


@triton.jit
def _backward(x, bias, g, winners, gradient, sums, units, tiles, height, width, rows, columns, high_blocks, wide_blocks,
              x_maps, g_maps, k, alpha, beta,
              share: tl.constexpr, groups: tl.constexpr, lanes: tl.constexpr, tile: tl.constexpr,
              below: tl.constexpr, above: tl.constexpr, normalized: tl.constexpr, roots: tl.constexpr,
              biased: tl.constexpr, rectified: tl.constexpr, last: tl.constexpr, size: tl.constexpr,
              stride: tl.constexpr):  # fmt: skip
    place, group, laid, lane = _threads(groups, lanes)
    gathered = tl.zeros((lanes, 8), tl.float32)
    kept: tl.constexpr = size > 1 or last
    for number in range(tl.program_id(0), tiles, tl.num_programs(0)):
        unit = number * tile + place
        map_, there = _maps(group, laid & (unit < units), share)
        image, r, c = unit // (high_blocks * wide_blocks), unit // wide_blocks % high_blocks, unit % wide_blocks
        own = _window(g, winners, image, r, c, there, rows, columns, g_maps, map_, kept)
        above_, before, corner = own, own, own
        if size > stride:
            above_ = _window(g, winners, image, r - 1, c, there, rows, columns, g_maps, map_, kept)
            before = _window(g, winners, image, r, c - 1, there, rows, columns, g_maps, map_, kept)
            corner = _window(g, winners, image, r - 1, c - 1, there, rows, columns, g_maps, map_, kept)
        for i in tl.static_range(stride):
            for j in tl.static_range(stride):
                row, column = r * stride + i, c * stride + j
                inside = there & ((row < height) & (column < width))[:, None]
                pixel = ((image.to(tl.int64) * height + row) * width + column)[:, None]
                if not kept:
                    down = own[0].to(tl.float32)
                else:
                    down = _won(tl.zeros((lanes, 8), tl.float32), own, i, j, size)
                    down = _won(down, above_, i + stride, j, size)
                    down = _won(down, before, i, j + stride, size)
                    down = _won(down, corner, i + stride, j + stride, size)
                v = tl.load(x + pixel * x_maps + map_, inside, 0.0).to(tl.float32)
                if biased:
                    v += tl.load(bias + map_, there, 0.0).to(tl.float32)
                if rectified:
                    v = _largest(v, 0.0)
                if normalized:
                    s = _window_sums(v * v, lane, group, below, above, groups, lanes)
                    power, inverse = _power(k + alpha * s, beta, roots)
                    down *= power
                    taken = down * (v * inverse)
                    if share % 8:
                        taken = tl.where(there, taken, 0.0)  # what is no map of the tower's counts for nothing
                    shared = _window_sums(taken, lane, group, above, below, groups, lanes)
                    down -= 2 * alpha * beta * v * shared
                if rectified:
                    down = tl.where(v > 0, down, 0.0)
                tl.store(gradient + pixel * x_maps + map_, down, inside)
                if biased:
                    gathered += down  # 0 where there is no pixel: no window has its largest there
    if biased:
        at = tl.arange(0, lanes)[:, None] * 8 + tl.arange(0, 8)[None, :]
        tl.store(sums + tl.program_id(0) * lanes * 8 + at, gathered)
