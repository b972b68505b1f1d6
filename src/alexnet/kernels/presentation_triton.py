"""From patches of bytes to what the network sees, on an NVIDIA GPU: each row of a patch read and written once."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from alexnet.kernels.launching_triton import launching


def present(
    patches: Tensor, corners: Tensor, mirrored: Tensor, shifts: Tensor | None, mean: Tensor, start: int | None,
    factor: float, kind: torch.dtype,
) -> Tensor:  # fmt: skip
    """Section 4.1: float[N, patch, patch, 3], mean subtracted, mirrored, shifted and scaled.

    patches, corners, mirrored, shifts   as in `Cut`
    mean     float32[side, side, 3]
    start    where its part begins that is never mirrored; None: each patch has the part where it was cut
    """
    images, side, _, colours = patches.shape
    out = torch.empty(patches.shape, dtype=kind, device=patches.device)
    row = side * colours
    with launching(patches):
        _present[images * side,](
            patches, corners, mirrored, mean if shifts is None else shifts, mean, out, side, mean.shape[1], start or 0,
            factor, colours=colours, row_room=triton.next_power_of_2(row), shifted=shifts is not None,
            at_patch=start is None, enable_fp_fusion=True,
        )  # fmt: skip
    return out


@triton.jit
def _present(patches, corners, mirrored, shifts, mean, out, side, mean_side, start, factor, colours: tl.constexpr,
             row_room: tl.constexpr, shifted: tl.constexpr, at_patch: tl.constexpr):  # fmt: skip
    image, row = tl.program_id(0) // side, tl.program_id(0) % side
    at = tl.arange(0, row_room)
    column, colour, here = at // colours, at % colours, at < side * colours
    turned = tl.load(mirrored + image)
    source = tl.where(turned, side - 1 - column, column)
    first = tl.program_id(0).to(tl.int64) * side * colours
    if at_patch:  # mirrored with the patch
        top, left, along = tl.load(corners + 2 * image), tl.load(corners + 2 * image + 1), source
    else:  # the 2012 program subtracted after mirroring
        top, left, along = start, start, column
    taken = tl.load(mean + ((top + row) * mean_side + left + along) * colours + colour, here, 0.0)
    shown = tl.load(patches + first + source * colours + colour, here, 0).to(tl.float32) - taken
    if shifted:
        shown += tl.load(shifts + image * colours + colour, here, 0.0)
    tl.store(out + first + at, shown * factor, here)
