"""Section 4.1, the arithmetic: from patches of bytes to what the network sees, on the device where it sees it."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from alexnet.data.augment import Alterations, Images
from alexnet.data.statistics import Statistics
from alexnet.kernels.choice import Way, way


class Cut(NamedTuple):
    """Patches and what is to be done to each of them.

    patches    uint8[N, patch, patch, 3]   cut at their corners
    corners    int64[N, 2]                 rows and columns
    mirrored   bool[N]
    shifts     float32[N, 3]               in grey levels
    """

    patches: Tensor
    corners: Tensor
    mirrored: Tensor
    shifts: Tensor

    @classmethod
    def of(cls, patches: Tensor, done: Alterations) -> "Cut":
        """The same numbers in the same memory."""
        return cls(patches, *map(torch.from_numpy, (done.corners, done.mirrored, done.shifts)))


def present_by(way: Way) -> Callable[..., Tensor] | None:
    """What is compiled for it, if anything is."""
    match way:
        case "numba":
            from alexnet.kernels import presentation_numba

            return presentation_numba.present
        case "triton":
            from alexnet.kernels import presentation_triton

            return presentation_triton.present
    return None


class Presentation:
    """Subtract the mean, mirror, shift the colours and scale: in this order, in float32.

    On a CPU row by row, or image by image where nothing is compiled, so that each stays in the cache; on an NVIDIA GPU
    in one launch, on other devices in a few more. The same bits either way.
    """

    def __init__(self, images: Images, statistics: Statistics, device: torch.device) -> None:
        self.images, self.device = images, device
        start = (images.side - images.patch) // 2
        self._start = start if images.mean == "centre" else 0
        self._mean = torch.from_numpy(statistics.mean).to(device)

    def __call__(self, patches: Tensor, done: Alterations) -> Tensor:
        """What the network sees.

        patches   uint8[N, patch, patch, 3], cut at the alterations' corners; in ordinary or pinned memory, or there
        returns   float32[N, 3, patch, patch] on the device, channels last
        """
        cut = Cut(*(each.to(self.device, non_blocking=True) for each in Cut.of(patches, done)))
        return self.computed(cut, done.shifted, done.divisor)

    def computed(self, cut: Cut, shifted: bool, divisor: float, kind: torch.dtype = torch.float32) -> Tensor:
        """The arithmetic alone, of what is on the device: [N, 3, patch, patch] rounded to `kind`, channels last."""
        factor = self.images.scale / divisor
        if compiled := present_by(way(self._mean)):
            start = None if self.images.mean == "at-patch" else self._start
            shifts = cut.shifts if shifted else None
            patches = cut.patches.contiguous()  # judging cuts them out of what is there already
            shown = compiled(patches, cut.corners, cut.mirrored, shifts, self._mean, start, factor, kind)
            return shown.permute(0, 3, 1, 2)
        shown = self._one_by_one(cut) if self.device.type == "cpu" else self.at_once(cut)
        if shifted:
            shown += cut.shifts[:, None, None, :]
        if factor != 1:
            shown *= factor
        return shown.to(kind).permute(0, 3, 1, 2)

    def at_once(self, cut: Cut) -> Tensor:
        """Mean and mirror for all images together: float32[N, patch, patch, 3]."""
        shown, mirrored = cut.patches.float(), cut.mirrored[:, None, None, None]
        along = torch.arange(self.images.patch, device=self.device)
        if self.images.mean == "at-patch":
            top, left = cut.corners.T
            shown -= self._mean[(top[:, None] + along)[:, :, None], (left[:, None] + along)[:, None, :]]
            return torch.where(mirrored, shown.flip(2), shown)
        # The 2012 program subtracted after mirroring, so its mean is never mirrored.
        centre = self._start + along
        return torch.where(mirrored, shown.flip(2), shown) - self._mean[centre[:, None], centre[None, :]]

    def _one_by_one(self, cut: Cut) -> Tensor:
        size, mean, bytes_ = self.images.patch, self._mean.numpy(), cut.patches.numpy()
        shown = np.empty((len(bytes_), size, size, 3), np.float32)
        at_patch = self.images.mean == "at-patch"
        corners = cut.corners.tolist()
        for i, (patch, mirrored) in enumerate(zip(bytes_, cut.mirrored.tolist(), strict=True)):
            top, left = corners[i] if at_patch else (self._start, self._start)
            own_mean = mean[top : top + size, left : left + size]
            if at_patch and mirrored:
                own_mean = own_mean[:, ::-1]
            np.subtract(patch[:, ::-1] if mirrored else patch, own_mean, out=shown[i])
        return torch.from_numpy(shown)
