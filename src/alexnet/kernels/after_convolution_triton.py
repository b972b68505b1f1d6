"""What follows a convolution, on an NVIDIA GPU: tiles of pixels by one tower's maps, in Triton.

Neighbouring maps are exchanged within a tile, so that each activity is read once. Triton's interpreter runs the same
code on a processor, for the tests.
"""

from typing import TYPE_CHECKING, Any

import triton
import triton.language as tl
from torch import Tensor

if TYPE_CHECKING:
    from alexnet.kernels.after_convolution import Following

TILE = 1024  # activities a program holds
NOBODY = tl.constexpr(255)  # in place of a winner where the rectifier behind the pooling let nothing through


def forward(x: Tensor, out: Tensor, winners: Tensor, what: "Following") -> None:
    """Fill `out` and `winners`; all channels last."""
    _run(_forward, out, what, x, out, winners)


def backward(x: Tensor, g: Tensor, winners: Tensor, gradient: Tensor, what: "Following") -> None:
    """Fill `gradient`; all channels last."""
    _run(_backward, x, what, x, g, winners, gradient)


def _run(kernel: Any, over: Tensor, what: "Following", x: Tensor, out: Tensor, *others: Tensor) -> None:
    """One program for so many pixels of `over` and one tower's maps."""
    constants = constants_of(what, x.shape[1])
    count = over.shape[0] * over.shape[2] * over.shape[3]
    grid = triton.cdiv(count, constants["pixels"]), what.norm[0]
    kernel[grid](x, out, *others, count, *x.shape[2:], *out.shape[2:], *what.norm[2:], **constants,
                 enable_fp_fusion=True)  # fmt: skip


def constants_of(what: "Following", maps: int) -> dict[str, Any]:
    """What the kernels are compiled for."""
    towers, n, _, _, beta = what.norm
    share = maps // towers
    padded = triton.next_power_of_2(share)
    return {
        "maps": maps, "share": share, "padded": padded, "pixels": max(1, TILE // padded),
        "below": n // 2, "above": max(0, n - 1 - n // 2), "normalized": n > 0, "roots": beta == 0.75,
        "rectified": what.rectified, "last": what.last, "size": what.pool[0], "stride": what.pool[1],
    }  # fmt: skip


@triton.jit
def _window_sums(e, at, below: tl.constexpr, above: tl.constexpr, padded: tl.constexpr):
    """Over the maps `at` - below to `at` + above; past the tower's share e is 0."""
    s = e
    for reach in tl.static_range(1, below + 1):
        s += tl.where(at >= reach, tl.gather(e, tl.maximum(at - reach, 0), 1), 0.0)
    for reach in tl.static_range(1, above + 1):
        s += tl.where(at + reach < padded, tl.gather(e, tl.minimum(at + reach, padded - 1), 1), 0.0)
    return s


@triton.jit
def _power(d, beta, roots: tl.constexpr):
    """d ^ -beta; for the paper's 0.75 by roots."""
    if roots:
        root = tl.rsqrt(d)
        p = root * tl.sqrt(root)
    else:
        p = tl.exp2(-beta * tl.log2(d))
    return p


@triton.jit
def _relu(v):
    """max(0, v); what is not a number stays so."""
    return tl.where(v < 0, 0.0, v)


@triton.jit
def _place(count, share: tl.constexpr, padded: tl.constexpr, pixels: tl.constexpr):
    """This program's pixels, [pixels, 1], and maps of its tower, [1, padded] and as wide as both; which of them there
    are; the tower's first map."""
    pixel = (tl.program_id(0) * pixels + tl.arange(0, pixels)[:, None]).to(tl.int64)
    map_ = tl.arange(0, padded)[None, :]
    at = map_ + tl.zeros((pixels, 1), tl.int32)
    return pixel, map_, at, (pixel < count) & (map_ < share), tl.program_id(1) * share


@triton.jit
def _forward(x, out, winners, count, height, width, rows, columns, k, alpha, beta,
             maps: tl.constexpr, share: tl.constexpr, padded: tl.constexpr, pixels: tl.constexpr, below: tl.constexpr,
             above: tl.constexpr, normalized: tl.constexpr, roots: tl.constexpr, rectified: tl.constexpr,
             last: tl.constexpr, size: tl.constexpr, stride: tl.constexpr):  # fmt: skip
    pixel, map_, at, here, tower = _place(count, share, padded, pixels)
    image, row, column = pixel // (rows * columns), pixel // columns % rows, pixel % columns
    best = tl.full((pixels, padded), float("-inf"), tl.float32)
    place = tl.zeros((pixels, padded), tl.int32)
    for code in range(size * size):
        r, c = row * stride + code // size, column * stride + code % size
        inside = here & (r < height) & (c < width)
        v = tl.load(x + ((image * height + r) * width + c) * maps + tower + map_, inside, 0.0).to(tl.float32)
        if rectified:
            v = _relu(v)
        if normalized:
            v *= _power(k + alpha * _window_sums(v * v, at, below, above, padded), beta, roots)
        wins = inside & ((v > best) | (v != v))  # noqa: PLR0124
        best = tl.where(wins, v, best)
        place = tl.where(wins, code, place)
    if last:
        place = tl.where(best <= 0, NOBODY, place)
        best = _relu(best)
    to = pixel * maps + tower + map_
    tl.store(out + to, best, here)
    if size > 1 or last:
        tl.store(winners + to, place.to(tl.uint8), here)


@triton.jit
def _backward(x, g, winners, gradient, count, height, width, rows, columns, k, alpha, beta,
              maps: tl.constexpr, share: tl.constexpr, padded: tl.constexpr, pixels: tl.constexpr, below: tl.constexpr,
              above: tl.constexpr, normalized: tl.constexpr, roots: tl.constexpr, rectified: tl.constexpr,
              last: tl.constexpr, size: tl.constexpr, stride: tl.constexpr):  # fmt: skip
    pixel, map_, at, here, tower = _place(count, share, padded, pixels)
    image, row, column = pixel // (height * width), pixel // width % height, pixel % width
    own = pixel * maps + tower + map_
    down = tl.zeros((pixels, padded), tl.float32)
    if size == 1 and not last:
        down = tl.load(g + own, here, 0.0).to(tl.float32)
    else:
        overlap: tl.constexpr = (size + stride - 1) // stride
        for number in range(overlap * overlap):
            r, c = row // stride - number // overlap, column // stride - number % overlap
            dr, dc = row - r * stride, column - c * stride
            window = here & (r >= 0) & (r < rows) & (c >= 0) & (c < columns) & (dr < size) & (dc < size)
            where = ((image * rows + r) * columns + c) * maps + tower + map_
            won = tl.load(winners + where, window, 255).to(tl.int32) == dr * size + dc
            down += tl.where(won, tl.load(g + where, window, 0.0).to(tl.float32), 0.0)
    v = tl.load(x + own, here, 0.0).to(tl.float32)
    if rectified:
        v = _relu(v)
    if normalized:
        d = k + alpha * _window_sums(v * v, at, below, above, padded)
        down *= _power(d, beta, roots)
        shared = _window_sums(tl.where(here, down * v / d, 0.0), at, above, below, padded)
        down -= 2 * alpha * beta * v * shared
    if rectified:
        down = tl.where(v > 0, down, 0.0)
    tl.store(gradient + own, down, here)
