"""What follows a convolution, on an NVIDIA GPU: each activity is read once, or as often as its windows overlap.

Forward, a thread goes down a column of windows and computes once what two below each other share. Backward, it has
all pixels that a window begins with, so that it reads no window twice. Without a pooling it has a few pixels, which are
all on their way before the first is computed. Triton's interpreter runs the same code on a processor, for the tests.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from alexnet.kernels.lanes_triton import (
    activity,
    constants_of,
    first_largest,
    largest,
    maps_of,
    normalized,
    normalized_back,
    threads,
)
from alexnet.kernels.launching_triton import launching

if TYPE_CHECKING:
    from alexnet.kernels.after_convolution import Following

PROGRAMS = 2048  # of a backward with biases, at most: each leaves its part of their gradient
SEVERAL = 4  # pixels of a thread where nothing is pooled
RUN = 7  # windows of a thread, at most
NOBODY = tl.constexpr(255)  # in place of a winner where the rectifier behind the pooling let nothing through


def knows(size: int, stride: int) -> bool:
    """Whether there is a kernel for such a pooling: one whose windows touch, and overlap two by two at most."""
    return stride <= size <= 2 * stride and stride <= 3


def forward(
    parts: Sequence[Tensor], bias: Tensor | None, outs: Sequence[Tensor], winners: Tensor, what: "Following"
) -> None:
    """Fill `outs` and `winners`, uint8[N, H', W', C]; all in one part or one for each tower, channels last."""
    pooled, (images, _, rows, columns) = what.pool[0] > 1, outs[0].shape
    run = triton.cdiv(rows, triton.cdiv(rows, RUN)) if pooled else 1
    units = images * triton.cdiv(rows, run) * columns
    given = (run, *parts[0].shape[2:], rows, columns) if pooled else ()
    for ours, (x, out) in _towers(what, parts, outs):
        constants = _constants(what, x.shape[1], bias)
        grid = (triton.cdiv(units, constants["tile"] * (1 if pooled else SEVERAL)),)
        with launching(x):
            (_pooled if pooled else _followed)[grid](
                x, x if bias is None else bias[ours], out, _of(winners, ours), units, *given, *_pitches(parts, outs),
                *what.norm[2:], **constants, num_warps=1, enable_fp_fusion=True,
            )  # fmt: skip


def backward(parts: Sequence[Tensor], bias: Tensor | None, gs: Sequence[Tensor], winners: Tensor,
             gradients: Sequence[Tensor], what: "Following") -> Tensor | None:  # fmt: skip
    """Fill the parts' gradients; all channels last. Returns the biases', float32[C], if there are any."""
    pooled, stride = what.pool[0] > 1, what.pool[1]
    sides, blocks = (*parts[0].shape[2:], *gs[0].shape[2:]), [triton.cdiv(n, stride) for n in parts[0].shape[2:]]
    given = (*sides, *blocks) if pooled else ()
    units = gs[0].shape[0] * (blocks[0] * blocks[1] if pooled else gs[0].shape[2:].numel())
    towers = _towers(what, parts, gs, gradients)
    share = towers[0][1][0].shape[1]
    constants = _constants(what, share, bias)
    tiles, width = triton.cdiv(units, constants["tile"] * (1 if pooled else SEVERAL)), constants["lanes"] * 8
    programs = tiles if bias is None else triton.cdiv(tiles, triton.cdiv(tiles, PROGRAMS))  # of as many tiles each
    sums = parts[0].new_empty((0 if bias is None else len(towers), programs, width), dtype=torch.float32)
    for number, (ours, (x, g, gradient)) in enumerate(towers):
        with launching(x):
            (_pooled_back if pooled else _followed_back)[programs,](
                x, x if bias is None else bias[ours], g, _of(winners, ours), gradient,
                x if bias is None else sums[number], units, tiles, *given, *_pitches(parts, gs), *what.norm[2:],
                **constants, num_warps=1, enable_fp_fusion=True,
            )  # fmt: skip
    if bias is None:
        return None
    pixels, maps = constants["tile"], constants["groups"] * 8
    return sums[..., : pixels * maps].view(len(towers), programs, pixels, maps).sum((1, 2))[:, :share].flatten()


def _towers(what: "Following", *lists: Sequence[Tensor]) -> list[tuple[slice, tuple[Tensor, ...]]]:
    """The maps that are computed together: which they are of all, and what each list has of them."""
    towers, n, *_ = what.norm
    count = max(*(len(each) for each in lists), towers if n else 1)
    apart = [each if len(each) == count else each[0].chunk(count, 1) for each in lists]
    share = apart[0][0].shape[1]
    return [(slice(number * share, (number + 1) * share), maps) for number, maps in enumerate(zip(*apart, strict=True))]


def _pitches(parts: Sequence[Tensor], outs: Sequence[Tensor]) -> tuple[int, int, int]:
    """Numbers from one pixel to the next: going in, coming out, of winners. (A stride of one pixel says nothing.)"""
    return parts[0].shape[1], outs[0].shape[1], sum(x.shape[1] for x in parts)


def _of(winners: Tensor, ours: slice) -> Tensor:
    return winners[..., ours] if winners.numel() else winners


def _constants(what: "Following", share: int, bias: Tensor | None) -> dict[str, Any]:
    """What the kernels are compiled for."""
    _, n, _, _, beta = what.norm
    own: dict[str, Any] = {"size": what.pool[0], "stride": what.pool[1]} if what.pool[0] > 1 else {"several": SEVERAL}
    return own | constants_of(share) | {
        "below": n // 2, "above": max(0, n - 1 - n // 2), "norm": n > 0, "roots": beta == 0.75,
        "biased": bias is not None, "rectified": what.rectified, "last": what.last,
    }  # fmt: skip


@triton.jit
def _followed(x, bias, out, winners, units, x_maps, out_maps, maps, k, alpha, beta, several: tl.constexpr,
              share: tl.constexpr, groups: tl.constexpr, lanes: tl.constexpr, tile: tl.constexpr, below: tl.constexpr,
              above: tl.constexpr, norm: tl.constexpr, roots: tl.constexpr, biased: tl.constexpr,
              rectified: tl.constexpr, last: tl.constexpr):  # fmt: skip
    place, group, laid, lane = threads(groups, lanes)
    pixel = tl.program_id(0).to(tl.int64) * (several * tile) + place
    map_, there = maps_of(group, laid, share)
    loaded = ()
    for number in tl.static_range(several):
        at = (pixel + number * tile)[:, None]
        loaded = loaded + (tl.load(x + at * x_maps + map_, there & (at < units), 0.0),)  # noqa: RUF005
    for number in tl.static_range(several):
        at = (pixel + number * tile)[:, None]
        v = activity(loaded[number], bias, map_, there, biased, rectified)
        if norm:
            v = normalized(v, lane, group, k, alpha, beta, below, above, roots, groups, lanes)
        if last:
            tl.store(winners + at * maps + map_, tl.where(v <= 0, NOBODY, 0).to(tl.uint8), there & (at < units))
            v = largest(v, 0.0)
        tl.store(out + at * out_maps + map_, v, there & (at < units))


@triton.jit
def _pooled(x, bias, out, winners, units, run, height, width, rows, columns, x_maps, out_maps, maps, k, alpha, beta,
            size: tl.constexpr, stride: tl.constexpr, share: tl.constexpr, groups: tl.constexpr, lanes: tl.constexpr,
            tile: tl.constexpr, below: tl.constexpr, above: tl.constexpr, norm: tl.constexpr, roots: tl.constexpr,
            biased: tl.constexpr, rectified: tl.constexpr, last: tl.constexpr):  # fmt: skip
    """A thread has `run` windows of a column, one below the other: it computes once the rows that two of them share."""
    pixel, group, laid, lane = threads(groups, lanes)
    unit = tl.program_id(0) * tile + pixel
    map_, there = maps_of(group, laid & (unit < units), share)
    runs = (rows + run - 1) // run
    image, row, column = (unit // (runs * columns)).to(tl.int64), unit // columns % runs * run, unit % columns
    source = x + (image * height * width)[:, None] * x_maps + map_
    at = ((image * rows + row) * columns + column)[:, None]
    lowest, origin = tl.full((lanes, 8), float("-inf"), tl.float32), tl.zeros((lanes, 8), tl.int32)
    best, winner = lowest, origin
    for down in tl.static_range(size - stride):
        v, place = _row(source, bias, row, column, down, map_, there, lane, group, height, width, x_maps, k, alpha,
                        beta, size, stride, groups, lanes, below, above, norm, roots, biased, rectified)  # fmt: skip
        best, winner = first_largest(best, winner, v, place)
    for _ in range(run):
        shared, shared_winner = lowest, origin
        for down in tl.static_range(size - stride, size):
            v, place = _row(source, bias, row, column, down, map_, there, lane, group, height, width, x_maps, k, alpha,
                            beta, size, stride, groups, lanes, below, above, norm, roots, biased,
                            rectified)  # fmt: skip
            best, winner = first_largest(best, winner, v, place)
            if down >= stride:
                shared, shared_winner = first_largest(shared, shared_winner, v, place - stride * size)
        if last:
            winner = tl.where(best <= 0, NOBODY, winner)
            best = largest(best, 0.0)
        inside = there & (row < rows)[:, None]
        tl.store(out + at * out_maps + map_, best, inside)
        tl.store(winners + at * maps + map_, winner.to(tl.uint8), inside)
        best, winner, row, at = shared, shared_winner, row + 1, at + columns


@triton.jit
def _row(source, bias, row, column, down: tl.constexpr, map_, there, lane, group, height, width, x_maps, k, alpha, beta,
         size: tl.constexpr, stride: tl.constexpr, groups: tl.constexpr, lanes: tl.constexpr, below: tl.constexpr,
         above: tl.constexpr, norm: tl.constexpr, roots: tl.constexpr, biased: tl.constexpr,
         rectified: tl.constexpr):  # fmt: skip
    """The largest in a window's row `down`, and its place. Beyond the map nothing wins, not even a NaN."""
    line, loaded = source + ((row * stride + down).to(tl.int64) * width)[:, None] * x_maps, ()
    for right in tl.static_range(size):
        inside = there & ((row * stride + down < height) & (column * stride + right < width))[:, None]
        at = (column * stride + right)[:, None] * x_maps
        loaded = loaded + ((tl.load(line + at, inside, 0.0), inside),)  # noqa: RUF005
    for right in tl.static_range(size):
        v = activity(loaded[right][0], bias, map_, there, biased, rectified)
        if norm:
            v = normalized(v, lane, group, k, alpha, beta, below, above, roots, groups, lanes)
        v = tl.where(loaded[right][1], v, float("-inf"))
        if right == 0:
            best, winner = v, tl.full((lanes, 8), down * size, tl.int32)
        else:
            best, winner = first_largest(best, winner, v, down * size + right)
    return best, winner


@triton.jit
def _followed_back(x, bias, g, winners, gradient, sums, units, tiles, x_maps, g_maps, maps, k, alpha, beta,
                   several: tl.constexpr, share: tl.constexpr, groups: tl.constexpr, lanes: tl.constexpr,
                   tile: tl.constexpr, below: tl.constexpr, above: tl.constexpr, norm: tl.constexpr,
                   roots: tl.constexpr, biased: tl.constexpr, rectified: tl.constexpr,
                   last: tl.constexpr):  # fmt: skip
    place, group, laid, lane = threads(groups, lanes)
    map_, there = maps_of(group, laid, share)
    gathered = tl.zeros((lanes, 8), tl.float32)
    for turn in range(tl.program_id(0), tiles, tl.num_programs(0)):
        pixel = place.to(tl.int64) + turn * (several * tile)
        loaded = ()
        for number in tl.static_range(several):
            at = (pixel + number * tile)[:, None]
            inside = there & (at < units)
            down = tl.load(g + at * g_maps + map_, inside, 0.0)
            if last:
                down = tl.where(tl.load(winners + at * maps + map_, inside, NOBODY) == NOBODY, 0.0, down)
            loaded = loaded + ((tl.load(x + at * x_maps + map_, inside, 0.0), down),)  # noqa: RUF005
        for number in tl.static_range(several):
            at = (pixel + number * tile)[:, None]
            v, down = (
                activity(loaded[number][0], bias, map_, there, biased, rectified),
                loaded[number][1].to(tl.float32),
            )
            if norm:
                down = normalized_back(v, down, there, lane, group, k, alpha, beta, below, above, roots, share, groups,
                                       lanes)  # fmt: skip
            if rectified:
                down = tl.where(v > 0, down, 0.0)
            tl.store(gradient + at * x_maps + map_, down, there & (at < units))
            if biased:
                gathered += down  # 0 where there is no pixel
    if biased:
        _keep(sums, gathered, lanes)


@triton.jit
def _pooled_back(x, bias, g, winners, gradient, sums, units, tiles, height, width, rows, columns, high, wide,
                 x_maps, g_maps, maps, k, alpha, beta, size: tl.constexpr, stride: tl.constexpr, share: tl.constexpr,
                 groups: tl.constexpr, lanes: tl.constexpr, tile: tl.constexpr, below: tl.constexpr,
                 above: tl.constexpr, norm: tl.constexpr, roots: tl.constexpr, biased: tl.constexpr,
                 rectified: tl.constexpr, last: tl.constexpr):  # fmt: skip
    place, group, laid, lane = threads(groups, lanes)
    gathered = tl.zeros((lanes, 8), tl.float32)
    for turn in range(tl.program_id(0), tiles, tl.num_programs(0)):
        unit = turn * tile + place
        map_, there = maps_of(group, laid & (unit < units), share)
        image, r, c = unit // (high * wide), unit // wide % high, unit % wide
        own = _window(g, winners, image, r, c, there, rows, columns, g_maps, maps, map_)
        upper, before, corner = own, own, own
        if size > stride:
            upper = _window(g, winners, image, r - 1, c, there, rows, columns, g_maps, maps, map_)
            before = _window(g, winners, image, r, c - 1, there, rows, columns, g_maps, maps, map_)
            corner = _window(g, winners, image, r - 1, c - 1, there, rows, columns, g_maps, maps, map_)
        first = ((image.to(tl.int64) * height + r * stride) * width + c * stride)[:, None] * x_maps + map_
        loaded = ()
        for i in tl.static_range(stride):  # all of them first: what is stored on the way would keep loads waiting
            for j in tl.static_range(stride):
                inside = there & ((r * stride + i < height) & (c * stride + j < width))[:, None]
                loaded = loaded + (tl.load(x + first + (i * width + j) * x_maps, inside, 0.0),)  # noqa: RUF005
        for i in tl.static_range(stride):
            for j in tl.static_range(stride):
                down = tl.where(own[1] == i * size + j, own[0].to(tl.float32), 0.0)
                down = _won(down, upper, i + stride, j, size)
                down = _won(down, before, i, j + stride, size)
                down = _won(down, corner, i + stride, j + stride, size)
                v = activity(loaded[i * stride + j], bias, map_, there, biased, rectified)
                if norm:
                    down = normalized_back(v, down, there, lane, group, k, alpha, beta, below, above, roots, share,
                                           groups, lanes)  # fmt: skip
                if rectified:
                    down = tl.where(v > 0, down, 0.0)
                inside = there & ((r * stride + i < height) & (c * stride + j < width))[:, None]
                tl.store(gradient + first + (i * width + j) * x_maps, down, inside)
                if biased:
                    gathered += down  # 0 where there is no pixel: no window has its largest there
    if biased:
        _keep(sums, gathered, lanes)


@triton.jit
def _window(g, winners, image, r, c, there, rows, columns, g_maps, maps, map_):
    """The gradient and the winners of the window in row r and column c; nobody's where there is none."""
    inside = there & ((r >= 0) & (r < rows) & (c >= 0) & (c < columns))[:, None]
    at = ((image.to(tl.int64) * rows + r) * columns + c)[:, None]
    return tl.load(g + at * g_maps + map_, inside, 0.0), tl.load(winners + at * maps + map_, inside, NOBODY)


@triton.jit
def _won(down, window, i: tl.constexpr, j: tl.constexpr, size: tl.constexpr):
    """With what a pixel in row i and column j of a window gets from it."""
    if i < size and j < size:
        down += tl.where(window[1] == i * size + j, window[0].to(tl.float32), 0.0)
    return down


@triton.jit
def _keep(sums, gathered, lanes: tl.constexpr):
    """This program's part of the biases' gradient."""
    at = tl.arange(0, lanes)[:, None] * 8 + tl.arange(0, 8)[None, :]
    tl.store(sums + tl.program_id(0) * lanes * 8 + at, gathered)
