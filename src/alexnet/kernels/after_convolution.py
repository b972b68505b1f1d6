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
from alexnet.kernels.differentiated import again, plain_gradients
from alexnet.kernels.response_norm import across_maps

LARGEST = 15  # a window whose places, and one value that stands for none, are told by a byte


class Following(NamedTuple):
    """What follows.

    rectified   max(0, x) first (section 3.1)
    norm        towers, n, k, alpha, beta of section 3.3; n = 0: none
    pool        window and stride of section 3.4; window 1: none
    last        max(0, x) behind it all
    """

    rectified: bool = False
    norm: tuple[int, int, float, float, float] = (1, 0, 1.0, 0.0, 0.0)
    pool: tuple[int, int] = (1, 1)
    last: bool = False

    @property
    def unpooled(self) -> bool:
        """Whether nothing is behind the normalization: everything passes, and no places are kept."""
        return self.pool[0] == 1 and not self.last

    def __call__(self, x: Tensor) -> Tensor:
        """float[N, C, H, W] -> float[N, C, H', W'], channels last; where nothing is normalized or pooled, as it lay.

        Raises ValueError when there are no images, towers cannot share the maps, or windows have no place
        (PyTorch's own way: RuntimeError).
        """
        return self.behind((x,), None)[0]

    def behind(self, parts: Sequence[Tensor], bias: Tensor | None, towers: int = 1) -> tuple[Tensor, ...]:
        """The same of maps as a convolution may leave them (section 3.2). Raises as `__call__` does.

        parts     float[N, C, H, W], in one tensor or each tower's maps in their own
        bias      float[C], to be added to them first; None: it has been
        towers    in how many tensors the result, float[N, C, H', W'], is to lie
        """
        if not parts[0].shape[0]:
            raise ValueError("no images: a batch has at least one")
        if self.norm[1] and (maps := sum(x.shape[1] for x in parts)) % self.norm[0]:
            raise ValueError(f"{maps} maps: cannot be shared by {self.norm[0]} towers that are normalized apart")
        chosen, count = way(parts[0]), self.norm[0] if self.norm[1] else max(len(parts), towers)
        if {len(parts), towers} <= {1, count} and chosen == "triton" and (bias is not None or self != RECTIFIED):
            from alexnet.kernels import after_convolution_triton

            if after_convolution_triton.knows(*self.pool):
                return _followed(self, after_convolution_triton, bias, towers, parts)
        if towers > 1 or len(parts) > 1:  # normalized across what lies apart
            whole = parts[0] if len(parts) == 1 else torch.cat(tuple(parts), 1)
            return self.behind((whole,), bias)[0].chunk(towers, 1)
        x = _biased(parts[0], bias)
        if self.unpooled and not self.norm[1]:
            return (F.relu(x) if self.rectified else x,)
        if chosen != "numba" or self.pool[0] > LARGEST or self.pool[1] > self.pool[0]:
            return (self.plainly(x),)
        return _followed(self, after_convolution_numba, None, 1, (x,))

    def plainly(self, x: Tensor) -> Tensor:
        """The same by PyTorch's own operations, one after the other."""
        towers, n, k, alpha, beta = self.norm
        size, stride = self.pool
        x = F.relu(x) if self.rectified else x
        x = across_maps(x, towers=towers, n=n, k=k, alpha=alpha, beta=beta) if n else x
        x = F.max_pool2d(x, size, stride, ceil_mode=True) if size > 1 else x
        return F.relu(x) if self.last else x


RECTIFIED = Following(rectified=True)


def _biased(x: Tensor, bias: Tensor | None) -> Tensor:
    return x if bias is None else (x + bias[:, None, None]).to(x.dtype)


def _followed(
    what: Following, kernels: ModuleType, bias: Tensor | None, towers: int, parts: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    parts = [x.contiguous(memory_format=torch.channels_last) for x in parts]
    followed: tuple[Tensor, ...] = _Followed.apply(what, kernels, bias, towers, *parts)
    return followed


class _Followed(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, what: Following, kernels: ModuleType, bias: Tensor | None, towers: int, *parts: Tensor
    ) -> tuple[Tensor, ...]:
        (images, _, *sides), (size, stride) = parts[0].shape, what.pool
        rows, columns = (1 + -(-(side - size) // stride) for side in sides)
        if min(rows, columns) < 1:
            raise ValueError(f"maps of {sides[0]} x {sides[1]}: windows of {size} have no place there")
        maps = sum(x.shape[1] for x in parts)
        shape, x = (images, maps // towers, rows, columns), parts[0]
        last = torch.channels_last
        outs = [torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=last) for _ in range(towers)]
        kept = (0, 0, 0, 0) if what.unpooled else (images, rows, columns, maps)
        winners = torch.empty(kept, dtype=torch.uint8, device=parts[0].device)
        kernels.forward(parts, bias if bias is None else bias.contiguous(), outs, winners, what)
        ctx.save_for_backward(winners, bias, *parts)
        ctx.what, ctx.kernels = what, kernels
        return tuple(outs)

    @staticmethod
    def backward(ctx: Any, *gs: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        winners, bias, *parts = ctx.saved_tensors
        if again(gs[0]):
            given, what = (bias, *parts), ctx.what

            def plainly() -> Sequence[Tensor]:
                y: Sequence[Tensor] = what.plainly(_biased(torch.cat(given[1:], 1), given[0])).chunk(len(gs), 1)
                return y

            of_bias, *own = plain_gradients(plainly, given, gs)
            return None, None, of_bias, None, *own
        # Hooks for what is saved may have laid it otherwise.
        parts = [x.contiguous(memory_format=torch.channels_last) for x in parts]
        bias = bias if bias is None else bias.contiguous()
        laid = [g.to(parts[0].dtype).contiguous(memory_format=torch.channels_last) for g in gs]
        gradients = [torch.empty_like(x) for x in parts]
        of_bias = ctx.kernels.backward(parts, bias, laid, winners, gradients, ctx.what)
        return None, None, of_bias, None, *gradients
