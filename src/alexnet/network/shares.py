"""Shares of a batch: copies of the network that learn from their own images each, and add up what they learned.

Where the factors of a layer's gradient (`network/factors.py`) are far fewer numbers than its weights, they pass between
the shares, and the gradients otherwise. Factors are under way while the backward goes on: no share waits for another's
in between.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from alexnet.kernels.update_by_factors import fits
from alexnet.network.alexnet import AlexNet
from alexnet.network.factors import Factors, Late, by_factors, numbers_of
from alexnet.network.lineages import Lineage
from alexnet.network.meetings import laid_end_to_end
from alexnet.runtime.ranks import Ranks


def together(network: AlexNet, ranks: Ranks, batch: int, whole: Lineage) -> tuple[nn.Module, Factors]:
    """The network whose gradients are, after backward, sums over the shares of such a batch (section 5); and the
    factors that are left in place of some of them, where that is cheaper.

    batch   images, over all shares; the network has to be told how many each has (`Here.shares`)
    whole   the lineage, of which the network may be a tower

    Once for a network, whose weights are alike everywhere. From then on layers with factors leave no gradients, nor do
    copies of the network, which cannot be pickled; `torch.autograd.grad` knows nothing of their weights. Between
    several shares what is returned raises RuntimeError where it is not told, and in a backward that is to be
    differentiated.
    """
    if ranks.mesh is None or ranks.shares == 1:  # of a tower's layers the same as of the whole's, which learn alike
        small = _by_factors(whole, batch)
        here = [name for name, layer in network.learned() if name in small and fits(layer.weight)]
        return network, Factors(network, here)
    group = ranks.mesh.get_group("data")
    factors = Factors(network, _by_factors(network.lineage, batch), _Exchange(group, network))
    # Nothing is handed out: weights are drawn alike, and buffers are alike or a process's own.
    buffers = [name for name, _ in network.named_buffers()]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(network, buffers)
    shared = DistributedDataParallel(network, process_group=group, init_sync=False, gradient_as_bucket_view=True)
    shared.register_comm_hook(group, _added)
    return shared, factors


class _Exchange:
    """What passes a factor to the other shares: called within the forward of a network that was told of them."""

    def __init__(self, group: dist.ProcessGroup, network: AlexNet) -> None:
        self.group = group
        self.counts: tuple[int, ...] = ()  # images of each share, while the network computes
        network.register_forward_pre_hook(self._begin, with_kwargs=True)
        network.register_forward_hook(self._end)

    def _begin(self, _: nn.Module, given: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        here = named.get("here", given[1] if len(given) > 1 else None)
        self.counts = here.shares if here else ()

    def _end(self, *_: object) -> None:
        self.counts = ()

    def __call__(self) -> Callable[[Tensor], Late]:
        if not self.counts:
            raise RuntimeError("a network that learns with others has to be told how many images each has: Here.shares")
        return partial(laid_end_to_end, self.group, self.counts)


def _by_factors(lineage: Lineage, batch: int) -> set[str]:
    return {row.layer.name for row in lineage.table() if by_factors(row, batch)}


def _added(group: dist.ProcessGroup, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:  # type: ignore[name-defined]
    """The sums of a bucket of gradients, where DDP by itself would take the means."""
    sums: torch.futures.Future[list[Tensor]]
    sums = dist.all_reduce(bucket.buffer(), group=group, async_op=True).get_future()
    return sums.then(lambda done: done.value()[0])


def added_up(here: Lineage, batch: int, shares: int) -> dict[str, float]:
    """How many numbers each process sends to add up what its share of a batch learned, by what they are.

    here   what `tower_of` or `hybrid_of` gives
    """
    rows = here.table()
    factors = _by_factors(here, batch)
    others = (shares - 1) / shares  # the rest is here already
    return {
        "factors": others * sum(numbers_of(row, batch) for row in rows if row.layer.name in factors),
        "gradients": 2 * others * sum(row.parameters for row in rows if row.layer.name not in factors),
    }
