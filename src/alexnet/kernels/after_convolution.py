"""What follows a convolution, as one forward and one backward (sections 3.1, 3.3 and 3.4).

Rectifier, normalization across maps, overlapping pooling, and a rectifier behind it: any of them, in this order, over
maps laid out channels last. Of a window only the place of its largest activity is kept, one byte. The backward reads
the convolution's output once more, computes the normalization again, and writes one gradient: what copying the tensor
costs, and little more.
"""

from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from alexnet.kernels import after_convolution_numba
from alexnet.kernels.choice import way
from alexnet.kernels.response_norm import across_maps

LARGEST = 15  # a window whose places, and one value that stands for none, are told by a byte


class Following(NamedTuple):
    """What follows. Its gradient cannot be differentiated again.

    rectified   max(0, x) first (section 3.1)
    norm        towers, n, k, alpha, beta of section 3.3; n = 0: none
    pool        window and stride of section 3.4; window 1: none
    last        max(0, x) behind it all
    """

    rectified: bool = False
    norm: tuple[int, int, float, float, float] = (1, 0, 1.0, 0.0, 0.0)
    pool: tuple[int, int] = (1, 1)
    last: bool = False

    def __call__(self, *parts: Tensor, bias: Tensor | None = None) -> Tensor:
        """float[N, C, H, W] -> float[N, C, H', W'], channels last. Raises ValueError when there are no images.

        parts   the maps, in one tensor or laid end to end in several, as towers have them
        bias    float[C], added to them first
        """
        if not parts[0].shape[0]:
            raise ValueError("no images: a batch has at least one")
        chosen = way(parts[0])
        if chosen == "triton" and (len(parts) > 1 or bias is not None or self != RECTIFIED):
            from alexnet.kernels import after_convolution_triton

            if after_convolution_triton.knows(*self.pool):
                apart = parts if self.norm[1] == 0 or len(parts) == self.norm[0] else (torch.cat(parts, 1),)
                return _followed(self, after_convolution_triton, bias, apart)
        x = torch.cat(parts, 1) if len(parts) > 1 else parts[0]
        x = x if bias is None else x + bias[:, None, None]
        if self == RECTIFIED:
            return F.relu(x)
        if chosen != "numba" or self.pool[0] > LARGEST or self.pool[1] > self.pool[0]:
            return self.plainly(x)
        return _followed(self, after_convolution_numba, None, (x,))

    def plainly(self, x: Tensor) -> Tensor:
        """The same by PyTorch's own operations, one after the other."""
        towers, n, k, alpha, beta = self.norm
        size, stride = self.pool
        x = F.relu(x) if self.rectified else x
        x = across_maps(x, towers=towers, n=n, k=k, alpha=alpha, beta=beta) if n else x
        x = F.max_pool2d(x, size, stride, ceil_mode=True) if size > 1 else x
        return F.relu(x) if self.last else x


RECTIFIED = Following(rectified=True)


def _followed(what: Following, kernels: ModuleType, bias: Tensor | None, parts: Sequence[Tensor]) -> Tensor:
    followed: Tensor = _Followed.apply(what, kernels, bias, *parts)
    return followed


class _Followed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, what: Following, kernels: ModuleType, bias: Tensor | None, *parts: Tensor) -> Tensor:  # type: ignore[override]
        parts = tuple(x.contiguous(memory_format=torch.channels_last) for x in parts)
        (images, _, *sides), (size, stride) = parts[0].shape, what.pool
        rows, columns = (1 + -(-(side - size) // stride) for side in sides)
        maps = sum(x.shape[1] for x in parts)
        out = parts[0].new_empty(images, rows, columns, maps).permute(0, 3, 1, 2)
        # Without a pooling or a rectifier behind it everything passes: no bytes are kept.
        passes = size == 1 and not what.last
        kept = (0, 0, 0, 0) if passes else (images, rows, columns, maps)
        winners = torch.empty(kept, dtype=torch.uint8, device=out.device)
        kernels.forward(parts, bias, out, winners, what)
        ctx.save_for_backward(winners, bias, *parts)
        ctx.what, ctx.kernels = what, kernels
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        winners, bias, *parts = ctx.saved_tensors
        g = g.to(parts[0].dtype).contiguous(memory_format=torch.channels_last)
        gradients = [torch.empty_like(x) for x in parts]
        of_bias = ctx.kernels.backward(parts, bias, g, winners, gradients, ctx.what)
        return None, None, of_bias, *gradients
