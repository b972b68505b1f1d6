"""Shares of a batch: copies of the network that learn from their own images each, and add up what they learned.

What a weight of a fully connected layer learns from an image is a product of two numbers, the activity that enters and
the gradient of the unit. The sum of these products over all images is a matrix product, which any process computes
that has the activities and the units' gradients of all images, its factors: for 128 images far fewer numbers than there
are weights ("sufficient factor broadcasting": Xie and others, 2014). Where they are, factors pass between the shares,
and the weights' gradients otherwise.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from alexnet.network.alexnet import AlexNet
from alexnet.network.layers import FullyConnected, Row
from alexnet.network.lineages import Lineage
from alexnet.network.meetings import laid_end_to_end
from alexnet.network.operations import Connected
from alexnet.runtime.ranks import Ranks

CHEAPER = 4  # times fewer numbers are worth that every process computes all images' products


def together(network: AlexNet, ranks: Ranks, batch: int) -> nn.Module:
    """The network whose gradients are, after backward, sums over the shares of such a batch (section 5).

    batch   images, over all shares; the network has to be told how many each has (`Here.shares`)
    """
    if ranks.mesh is None or ranks.shares == 1:
        return network
    group = ranks.mesh.get_group("data")
    apart = [name for name, _ in network.named_buffers()]  # alike in every process, or its own
    places = dict(network.steps)
    for row in network.lineage.table():
        place = places[row.layer.name]
        layer = network.get_submodule(place)
        if by_factors(row, batch) and isinstance(layer, Connected):
            layer.of_all_shares = partial(laid_end_to_end, group)
            apart += [f"{place}.weight", f"{place}.bias"]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(network, apart)
    shared = DistributedDataParallel(network, process_group=group, gradient_as_bucket_view=True)
    shared.register_comm_hook(group, _added)
    return shared


def _added(group: dist.ProcessGroup, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:  # type: ignore[name-defined]
    """The sums of a bucket of gradients, where DDP by itself would take the means."""
    sums: torch.futures.Future[list[Tensor]]
    sums = dist.all_reduce(bucket.buffer(), group=group, async_op=True).get_future()
    return sums.then(lambda done: done.value()[0])


def by_factors(row: Row, batch: int) -> bool:
    """Whether shares of so many images pass a layer's factors, and not its weights' gradients."""
    if not isinstance(row.layer, FullyConnected):
        return False
    return CHEAPER * _factors(row, batch) <= 2 * row.weights


def _factors(row: Row, batch: int) -> int:
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
        "factors": others * sum(_factors(row, batch) for row in rows if row.layer.name in factors),
        "gradients": 2 * others * sum(row.parameters for row in rows if row.layer.name not in factors),
    }
