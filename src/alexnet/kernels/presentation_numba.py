"""From patches of bytes to what the network sees, on the processor, compiled by Numba: each row stays in the cache."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from alexnet.kernels.compiled import compiled, compiled_part
from alexnet.kernels.cores import Scratch, on_all_cores
from alexnet.kernels.lanes_numba import LANES, five_turned, of_bits
from alexnet.kernels.memory_numba import Floats, bare, put, take

COLOURS = 3
ONE_MORE, TWO_TO_23 = np.int32(np.float32(2**23).view(np.int32)), np.float32(2**23)


def present(
    patches: Tensor, corners: Tensor, mirrored: Tensor, shifts: Tensor | None, mean: Tensor, start: int | None,
    factor: float, kind: torch.dtype,
) -> Tensor:  # fmt: skip
    """Section 4.1: float[N, patch, patch, 3], mean subtracted, mirrored, shifted and scaled, as on a GPU.

    patches, corners, mirrored, shifts   as in `Cut`
    mean     float32[side, side, 3]
    start    where its part begins that is never mirrored; None: each patch has the part where it was cut
    """
    images, side = patches.shape[:2]
    out = torch.empty(patches.shape, dtype=kind if kind == torch.bfloat16 else torch.float32, device="cpu")
    given = (bare(each.reshape(-1)) for each in (patches, corners, mirrored))
    tints = None if shifts is None else bare(shifts.reshape(-1))
    means = (bare(each.reshape(-1)) for each in (mean, mean if start is not None else mean.flip(1)))
    room = Scratch(side * COLOURS, np.uint8), Scratch(side * COLOURS, np.float32)
    on_all_cores(
        _present, images, *given, tints, *means, bare(out.view(-1)), *room, side, mean.shape[1],
        -1 if start is None else start, np.float32(factor),
    )  # fmt: skip
    return out.to(kind)


@compiled_part
def _row(pixels: Any, source: int, mean: Floats, by: int, shifts: Floats | None, tint: Floats, out: Floats,
         at: int, row: int, factor: Any) -> None:  # fmt: skip
    """A difference, a sum, a product: nothing that could be rounded once for twice. A byte in the last eight bits of
    2^23 is that much more than 2^23."""
    for i in range(0, row, LANES):
        shown = of_bits(take(pixels, source + i, row - i) | ONE_MORE) - TWO_TO_23 - take(mean, by + i, row - i)
        if shifts is not None:
            shown = shown + take(tint, i, row - i)
        put(out, at + i, row - i, shown * factor)


@compiled
def _present(first: int, last: int, patches: Any, corners: Any, mirrored: Any, shifts: Floats | None, mean: Floats,
             mean_turned: Floats, out: Floats, turned: Any, tint: Floats, side: int, mean_side: int, start: int,
             factor: Any) -> None:  # fmt: skip
    """The images `first` to `last`."""
    row = side * COLOURS
    for image in range(first, last):
        top, left, turned_left = start, start, start  # the 2012 program subtracted after mirroring
        if start < 0:  # mirrored with the patch
            top, left = corners[2 * image], corners[2 * image + 1]
            turned_left = mean_side - left - side
        if shifts is not None:
            for i in range(row):
                tint[i] = shifts[image * COLOURS + i % COLOURS]
        for y in range(side):
            at, line = (image * side + y) * row, (top + y) * mean_side
            if mirrored[image]:
                i = 0
                while i + LANES <= row:
                    put(turned, i, None, five_turned(take(patches, at + row - LANES - i)))
                    i += 5 * COLOURS
                while i < row:
                    turned[i] = patches[at + row - COLOURS - i + 2 * (i % COLOURS)]
                    i += 1
                _row(turned, 0, mean_turned, (line + turned_left) * COLOURS, shifts, tint, out, at, row, factor)
            else:
                _row(patches, at, mean, (line + left) * COLOURS, shifts, tint, out, at, row, factor)
