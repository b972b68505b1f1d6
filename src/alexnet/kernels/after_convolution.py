"""What follows a convolution, as one forward and one backward (sections 3.1, 3.3 and 3.4).

Rectifier, normalization across maps, overlapping pooling, and a rectifier behind it: any of them, in this order, over
maps laid out channels last. Of a window only the place of its largest activity is kept, one byte. The backward reads
the convolution's output once more, computes the normalization again, and writes one gradient: what copying the tensor
costs, and little more.
"""

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

    def __call__(self, x: Tensor) -> Tensor:
        """float[N, C, H, W] -> float[N, C, H', W'], channels last. Raises ValueError when there are no images."""
        if not x.shape[0]:
            raise ValueError("no images: a batch has at least one")
        if self == Following(rectified=True):
            return F.relu(x)
        if self.pool[0] > LARGEST or self.pool[1] > self.pool[0]:
            return self.plainly(x)
        match way(x):
            case "numba":
                kernels: ModuleType = after_convolution_numba
            case "triton":
                from alexnet.kernels import after_convolution_triton as kernels
            case "plain":
                return self.plainly(x)
        followed: Tensor = _Followed.apply(x, self, kernels)
        return followed

    def plainly(self, x: Tensor) -> Tensor:
        """The same by PyTorch's own operations, one after the other."""
        towers, n, k, alpha, beta = self.norm
        size, stride = self.pool
        x = F.relu(x) if self.rectified else x
        x = across_maps(x, towers=towers, n=n, k=k, alpha=alpha, beta=beta) if n else x
        x = F.max_pool2d(x, size, stride, ceil_mode=True) if size > 1 else x
        return F.relu(x) if self.last else x


class _Followed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, what: Following, kernels: ModuleType) -> Tensor:  # type: ignore[override]
        x = x.contiguous(memory_format=torch.channels_last)
        (images, maps), (size, stride) = x.shape[:2], what.pool
        rows, columns = (1 + -(-(side - size) // stride) for side in x.shape[2:])
        shape = images, maps, rows, columns
        out = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
        # Without a pooling or a rectifier behind it everything passes: no bytes are kept.
        passes = size == 1 and not what.last
        kept = (0, 0, 0, 0) if passes else (images, rows, columns, maps)
        winners = torch.empty(kept, dtype=torch.uint8, device=x.device)
        kernels.forward(x, out, winners, what)
        ctx.save_for_backward(x, winners)
        ctx.what, ctx.kernels = what, kernels
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        x, winners = ctx.saved_tensors
        g = g.to(x.dtype).contiguous(memory_format=torch.channels_last)
        gradient = torch.empty_like(x)
        ctx.kernels.backward(x, g, winners, gradient, ctx.what)
        return gradient, None, None
