"""What passes between the processes that have one network between them: activities forward, their gradients backward.

Each number travels once. (DTensor says the same in a line, but gloo's reduce-scatter sends all to everybody.)
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist
from torch.autograd.function import once_differentiable


class Meet:
    """Lays the towers' activities side by side: one exchange forward, and one of gradients backward."""

    def __init__(self, group: dist.ProcessGroup) -> None:
        self.group = group

    def __call__(self, x: Tensor, added: bool) -> Tensor:
        """float[N, C, ...] of this tower -> float[N, towers * C, ...]."""
        beside: Tensor = _Beside.apply(x, self.group, added)
        return beside


class _Beside(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup, added: bool) -> Tensor:  # type: ignore[override]
        ctx.rest = group, added
        own = x.movedim(1, -1).contiguous()  # maps last, as they lie in memory
        every = own.new_empty(dist.get_world_size(group), *own.shape)
        dist.all_gather(list(every), own, group)
        return every.movedim(0, -2).flatten(-2).movedim(-1, 1)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]  # what comes from others has no graph here
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        group, added = ctx.rest
        towers, here = dist.get_world_size(group), dist.get_rank(group)
        shares = g.movedim(1, -1).unflatten(-1, (towers, -1))
        if not added:  # every tower computed the same gradient, of all
            return shares[..., here, :].movedim(-1, 1), None, None
        sent = shares.movedim(-2, 0).contiguous()
        received = torch.empty_like(sent)
        dist.all_to_all_single(received, sent, group=group)
        return received.sum(0).movedim(-1, 1), None, None


class Gather:
    """Lays the processes' images end to end: one exchange forward, and one of gradients backward."""

    def __init__(self, group: dist.ProcessGroup) -> None:
        self.group = group

    def __call__(self, x: Tensor, counts: tuple[int, ...]) -> Tensor:
        """float[N, ...] of this process -> float[sum of counts, ...]."""
        below: Tensor = _Below.apply(x, self.group, counts)
        return below


class _Below(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup, counts: tuple[int, ...]) -> Tensor:  # type: ignore[override]
        ctx.rest = group, counts, len(x)
        return laid_end_to_end(group, counts, x)()

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        group, counts, here = ctx.rest
        sent = torch.stack([_filled(part, max(counts)) for part in g.split(counts)])
        received = torch.empty_like(sent)
        dist.all_to_all_single(received, sent, group=group)
        own = received.sum(0)[: counts[dist.get_rank(group)]]
        return _filled(own, here), None, None


def laid_end_to_end(group: dist.ProcessGroup, counts: Sequence[int], x: Tensor) -> Callable[[], Tensor]:
    """float[N, ...] of this process -> float[sum of counts, ...], so many images of each: under way at once, and
    whoever calls what is returned waits for them.

    Raises RuntimeError where it would have to be differentiated.
    """
    if torch.is_grad_enabled():
        raise RuntimeError("what has passed between processes cannot be differentiated a second time")
    own = _filled(x, max(counts))
    every = own.new_empty(len(counts), *own.shape)
    under_way = dist.all_gather(list(every), own, group, async_op=True)

    def arrived() -> Tensor:
        under_way.wait()
        return torch.cat([part[:count] for part, count in zip(every, counts, strict=True)])

    return arrived


def _filled(x: Tensor, count: int) -> Tensor:
    """`count` images: the first of x, and zeros where there are fewer."""
    if len(x) >= count:
        return x[:count].contiguous()
    return torch.cat([x, x.new_zeros(count - len(x), *x.shape[1:])])
