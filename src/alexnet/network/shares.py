"""Shares of a batch: copies of the network that learn from their own images each, and add up what they learned.

What a weight of a fully connected layer learns from an image is a product of two numbers, the activity that enters and
the gradient of the unit. The sum of these products over all images is a matrix product, which any process computes
that has the activities and the units' gradients of all images, its factors: for 128 images far fewer numbers than there
are weights ("sufficient factor broadcasting": Xie and others, 2014). Where they are, factors pass between the shares,
and the weights' gradients otherwise. Factors are under way while the backward goes on, and multiplied behind it: no
share waits for another's in between.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from alexnet.kernels.choice import kind_of_products
from alexnet.kernels.fully_connected import gradients
from alexnet.network.alexnet import AlexNet
from alexnet.network.layers import FullyConnected, Row
from alexnet.network.lineages import Lineage
from alexnet.network.meetings import laid_end_to_end
from alexnet.network.operations import Learned
from alexnet.runtime.ranks import Ranks

CHEAPER = 4  # times fewer numbers are worth that every process computes all images' products


def together(network: AlexNet, ranks: Ranks, batch: int) -> nn.Module:
    """The network whose gradients are, after backward, sums over the shares of such a batch (section 5).

    batch   images, over all shares; the network has to be told how many each has (`Here.shares`)

    Once for a network, whose weights are alike everywhere. Weights that learn from factors have a gradient after
    `backward` in training form only, and `torch.autograd.grad` knows nothing of them. What is returned raises
    RuntimeError where it is not told, and in a backward that is to be differentiated.
    """
    if ranks.mesh is None or ranks.shares == 1:
        return network
    group = ranks.mesh.get_group("data")
    rows = {row.layer.name: row for row in network.lineage.table()}
    factored = [layer for name, layer in network.learned() if by_factors(rows[name], batch)]
    _Exchange(group, network, factored)
    # Nothing is handed out: weights are drawn alike, and buffers are alike or a process's own.
    buffers = [name for name, _ in network.named_buffers()]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(network, buffers)
    shared = DistributedDataParallel(network, process_group=group, init_sync=False, gradient_as_bucket_view=True)
    shared.register_comm_hook(group, _added)
    return shared


class _Exchange:
    """Of the factors of these layers, whose weights autograd does not know any more."""

    def __init__(self, group: dist.ProcessGroup, network: AlexNet, layers: Iterable[Learned]) -> None:
        self.group = group
        self.counts: tuple[int, ...] = ()  # images of each share, while the network computes
        network.register_forward_pre_hook(self._begin, with_kwargs=True)
        network.register_forward_hook(self._end)
        for layer in layers:
            layer.requires_grad_(False)
            layer.register_forward_hook(self._computed)

    def _begin(self, _: nn.Module, given: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        here = named.get("here", given[1] if len(given) > 1 else None)
        self.counts = here.shares if here else ()

    def _end(self, *_: object) -> None:
        self.counts = ()

    def _computed(self, layer: Learned, given: tuple[Tensor, ...], y: Tensor) -> None:
        if not (layer.training and torch.is_grad_enabled()):
            return
        if not self.counts:
            raise RuntimeError("a network that learns with others has to be told how many images each has: Here.shares")
        (x,) = given
        factor = x.detach().flatten(1).to(kind_of_products(x))
        y.requires_grad_()  # where nothing before it learns, too
        y.register_hook(partial(self._passed_back, layer, factor, self.counts))

    def _passed_back(self, layer: Learned, x: Tensor, counts: tuple[int, ...], g: Tensor) -> None:
        factors = [laid_end_to_end(self.group, counts, each) for each in (x, g)]
        # Behind this backward, and before DDP waits for its sums. There is no public way, and DDP and FSDP take this.
        torch.autograd.Variable._execution_engine.queue_callback(partial(_multiplied, layer, *factors))


@torch.no_grad()
def _multiplied(layer: Learned, x: Callable[[], Tensor], g: Callable[[], Tensor]) -> None:
    """The weights' gradients of all shares' images, beside those of the batch's earlier portions."""
    for parameter, added in zip((layer.weight, layer.bias), gradients(x(), g()), strict=True):
        own = added.to(parameter.dtype)
        parameter.grad = own if parameter.grad is None else parameter.grad.add_(own)


def _added(group: dist.ProcessGroup, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:  # type: ignore[name-defined]
    """The sums of a bucket of gradients, where DDP by itself would take the means."""
    sums: torch.futures.Future[list[Tensor]]
    sums = dist.all_reduce(bucket.buffer(), group=group, async_op=True).get_future()
    return sums.then(lambda done: done.value()[0])


def by_factors(row: Row, batch: int) -> bool:
    """Whether shares of so many images pass a layer's factors, and not its weights' gradients."""
    if not isinstance(row.layer, FullyConnected):
        return False
    return CHEAPER * _numbers_of(row, batch) <= 2 * row.weights


def _numbers_of(row: Row, batch: int) -> int:
    """The two factors of a layer."""
    assert isinstance(row.layer, FullyConnected)
    return batch * (row.layer.fan_in(row.input) + row.layer.outputs)


def added_up(here: Lineage, batch: int, shares: int) -> dict[str, float]:
    """How many numbers each process sends to add up what its share of a batch learned, by what they are.

    here   what `tower_of` or `hybrid_of` gives
    """
    rows = here.table()
    factors = {row.layer.name for row in rows if by_factors(row, batch)}
    others = (shares - 1) / shares  # the rest is here already
    return {
        "factors": others * sum(_numbers_of(row, batch) for row in rows if row.layer.name in factors),
        "gradients": 2 * others * sum(row.parameters for row in rows if row.layer.name not in factors),
    }
