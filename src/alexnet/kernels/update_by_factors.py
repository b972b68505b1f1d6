"""Section 5's update rule for weights of a fully connected layer, by the factors of their gradient.

The gradient is a product of what entered and what was passed back, as many numbers as there are weights, of which each
is read once. So here it is never written down: a block of it is computed in registers, or in tiles, and moves its
weights at once, while the next ones come from memory. (59 of the paper's 61 million weights are in three such layers.)

What entered lies in panels, the numbers of some neighbouring inputs image after image; bf16 in pairs of images, which
processors multiply at once.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from alexnet.kernels.choice import way
from alexnet.kernels.compiled import compiled, compiled_part, processor_has
from alexnet.kernels.cores import Scratch, on_all_cores
from alexnet.kernels.fully_connected import gradient_of_weight
from alexnet.kernels.lanes_numba import LANES
from alexnet.kernels.memory_numba import bare, take
from alexnet.kernels.products_numba import block_of_sums
from alexnet.kernels.tiles_numba import (
    DEPTH,
    PAIRS,
    TILE,
    there_are_tiles,
    tile_add,
    tile_clear,
    tile_put,
    tile_shapes,
    tile_take,
    tiles_begin,
    tiles_end,
)
from alexnet.kernels.update_rule import move, moved

# Units by vectors of inputs that a block has: in registers, which it fills, and in tiles.
UNITS, VECTORS = (4, 6) if processor_has("avx512f") else (6, 1)
OF_TILES = TILE, 4
THERE_ARE_PAIRS = processor_has("avx512bf16")
PANELS = 2**20  # bytes of them that stay in a core's cache while all units pass

sums_of_block = block_of_sums(UNITS, VECTORS)


def fits(read: Tensor) -> bool:
    """Whether weights that products read as float[outputs, inputs] are moved so: inputs in 16s, of float32, or of bf16
    where the processor multiplies that."""
    if way(read) != "numba" or read.dim() != 2 or read.shape[1] % LANES or not read.is_contiguous():
        return False
    return read.dtype == torch.float32 or (read.dtype == torch.bfloat16 and (there_are_tiles() or THERE_ARE_PAIRS))


@torch.no_grad()
def move_by_factors(
    weight: Tensor, velocity: Tensor, x: Tensor, g: Tensor, copy: Tensor | None, numbers: Tensor
) -> None:
    """`update_rule.move` by the gradient that is the product of g and x.

    weight, velocity   float[outputs, inputs], of the copy's layout; float32 in training
    x, g               float[N, inputs], float[N, outputs], of the kind of the products
    copy, numbers      as there

    Section 5. Raises nothing of its own: what does not fit is moved by the gradient, written down.
    """
    read = weight if copy is None else copy
    if not fits(read) or {x.dtype, g.dtype} != {read.dtype} or weight.dtype != torch.float32:
        move(weight, velocity, gradient_of_weight(x, g), copy, numbers)
        return
    units, inputs = weight.shape
    tiles = read.dtype == torch.bfloat16 and there_are_tiles()
    rows, vectors = OF_TILES if tiles else (UNITS, VECTORS)
    width, groups = vectors * LANES, -(-units // rows)
    images = DEPTH if tiles else 2 if read.dtype == torch.bfloat16 else 1
    passed, entered = _laid_out(x, g, groups * rows, width, images)
    depth, shape = passed.shape[1], tile_shapes(TILE) if tiles else None
    flat = [each if each is None else bare(each.view(-1)) for each in (weight, velocity, copy, passed, entered)]
    together = max(1, PANELS // (4 * depth * width))
    arrays = *flat, Scratch(rows * width, np.float32), bare(numbers.to(weight.dtype))
    on_all_cores(_move, groups, *arrays, depth, width, inputs, rows, together, shape)


def _laid_out(x: Tensor, g: Tensor, units: int, width: int, images: int) -> tuple[Tensor, Tensor]:
    """What was passed back, [units, depth], and what entered, [panels, depth, width], with zeros up to so many units,
    whole panels and a multiple of `images`: float32, or pairs of bf16 as int32."""
    panels, more = -(-x.shape[1] // width), max(1, -(-len(x) // images)) * images - len(x)
    passed = F.pad(g.t(), (0, more, 0, units - g.shape[1])).contiguous()
    beyond = panels * width - x.shape[1]
    x = F.pad(x, (0, beyond, 0, more)) if beyond or more else x
    if x.dtype != torch.bfloat16:
        return passed, x.reshape(-1, panels, width).transpose(0, 1).contiguous()
    one, other = x.view(torch.int16).reshape(-1, 2, panels, width).permute(1, 2, 0, 3)
    return passed.view(torch.int32), torch.stack((one, other), -1).view(torch.int32).squeeze(-1)


@compiled
def _move(first: int, last: int, w: Any, v: Any, copy: Any, passed: Any, entered: Any, sums: Any, numbers: Any,
          depth: int, width: int, inputs: int, rows: int, together: int, shape: Any) -> None:  # fmt: skip
    """The groups of `rows` units from `first` to `last`; so many panels `together` stay in the cache."""
    momentum, pull, rate = numbers[0], numbers[1], numbers[2]
    units, panels = w.size // inputs, -(-inputs // width)
    if shape is not None:
        tiles_begin(shape)
    for begin in range(0, panels, together):
        for group in range(first, last):
            for panel in range(begin, min(begin + together, panels)):
                _multiply(passed, group * rows * depth, entered, panel * depth * width, depth, width, sums, shape)
                for row in range(min(rows, units - group * rows)):
                    at = (group * rows + row) * inputs + panel * width
                    for i in range(0, min(width, inputs - panel * width), LANES):
                        gradient = take(sums, row * width + i, None)
                        moved(w, v, copy, at + i, width, None, gradient, momentum, pull, rate)
    if shape is not None:
        tiles_end()


@compiled_part
def _multiply(passed: Any, at: int, entered: Any, first: int, depth: int, width: int, sums: Any, shape: Any) -> None:
    """The gradient of a group's weights for a panel's inputs."""
    if shape is None:
        sums_of_block(passed, at, depth, 1, entered, first, width, depth, sums, 0, width, None)
        return
    tile_clear(0)
    tile_clear(1)
    tile_clear(2)
    tile_clear(3)
    for step in range(0, depth, PAIRS):
        column = first + step * width
        tile_take(4, passed, at + step, depth)
        tile_take(6, entered, column, width)
        tile_add(0, 4, 6)
        tile_take(7, entered, column + TILE, width)
        tile_add(1, 4, 7)
        tile_take(6, entered, column + 2 * TILE, width)
        tile_add(2, 4, 6)
        tile_take(7, entered, column + 3 * TILE, width)
        tile_add(3, 4, 7)
    tile_put(0, sums, 0, width)
    tile_put(1, sums, TILE, width)
    tile_put(2, sums, 2 * TILE, width)
    tile_put(3, sums, 3 * TILE, width)
