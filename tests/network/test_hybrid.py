"""The hybrid of 2014 on real processes: convolutions by images, fully connected layers by units."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from alexnet.network.batch_norm import BatchNormalized
from alexnet.network.factors import form_gradients
from alexnet.network.layers import BatchNorm, Gathering, Meeting
from alexnet.network.lineages import lineage
from alexnet.network.operations import Here
from alexnet.network.shares import together as joined
from alexnet.network.towers import Towers, exchanged, hybrid_of
from alexnet.runtime.errors import UsageError
from alexnet.runtime.ranks import ALONE
from company import in_turn, laid_together, small, together
from exchanges import Counted


def learned_from(ranks, table, parts, counts, kind=torch.float64):
    """Logits and every gradient of one training step, whole: on rank 0.

    counts   of each group of processes, how many images each has
    """
    ranks = ranks.divided(parts)
    divided = Towers(table, ranks, hybrid=True)
    network = divided.network(seed=3).to(kind).train()
    shared, factors = joined(network, ranks, 7, table)
    random = torch.Generator().manual_seed(5)
    total = 7
    images = torch.randn(total, 3, table.side, table.side, generator=random, dtype=torch.float64) * 60
    labels = torch.randint(table.classes, (total,), generator=random)
    shares = torch.arange(total).tensor_split(ranks.shares)
    share = shares[ranks.share]
    own, here = share, (len(share),)
    if divided.hybrid:
        here = counts[ranks.share]
        own = share.split(here)[ranks.tower] if here[ranks.tower] else share[:1]
    weight = here[ranks.tower if divided.hybrid else 0] / total
    beside = tuple(map(len, shares))
    logits = shared(images[own].to(kind), Here(network.masks(7, 11), int(share[0]), ranks.tower, weight, here, beside))
    loss = F.cross_entropy(logits, labels[share], reduction="sum") / total
    loss.backward()
    form_gradients(network, factors.taken())
    divided.add_up_gradients(network)
    gradients = laid_together(divided, {name: each.grad for name, each in network.named_parameters()})
    every = torch.zeros(total, table.classes, dtype=kind)
    every[share] = logits.detach()
    normalized = [each for each in network.modules() if isinstance(each, BatchNormalized)]
    moments = [divided.over_images(torch.as_tensor(each.moments)) for each in normalized]
    return ranks.total(every), gradients if ranks.first else {}, moments


def apart(one, other):
    return float((one.double() - other.double()).norm() / one.double().norm())


def in_ones(table):
    """Each image is normalized by itself."""
    layers = [replace(layer, images=1) if isinstance(layer, BatchNorm) else layer for layer in table.layers]
    return replace(table, layers=tuple(layers))


@pytest.mark.parametrize(
    ("world", "parts", "counts"),
    [(2, 2, [(4, 3)]), (2, 2, [(7, 0)]), (4, 4, [(2, 2, 2, 1)]), (4, 2, [(2, 2), (3, 0)])],
)
def test_any_hybrid_computes_what_one_process_does(world, parts, counts):
    """Processes with fewer images than others, and with none, which compute one that does not count."""
    tables = [in_ones(small(name)) for name in ("paper", "caffe", "one-weird-trick", "source-2012-half", "large-batch")]
    every = in_turn(world, learned_from, [(table, parts, counts) for table in tables])
    for table, ((found, theirs, averages), *others) in zip(tables, every, strict=True):
        logits, gradients, moments = learned_from(ALONE, table, 1, [])
        assert all(torch.equal(each[0], found) for each in others), f"{table.name}: all know the same logits"
        assert apart(logits, found) < 1e-12, table.name
        assert all(apart(one, other) < 1e-12 for one, other in zip(moments, averages, strict=True)), table.name
        assert theirs.keys() == gradients.keys(), table.name
        assert max(apart(gradients[name], theirs[name]) for name in gradients) < 1e-12, table.name


def test_only_the_fully_connected_layers_are_divided():
    for name, parts in (("paper", 8), ("one-weird-trick", 2), ("cifar-13pct", 5)):
        whole, here = lineage(name), hybrid_of(lineage(name), parts)
        added = [layer for layer in here.layers if isinstance(layer, Gathering | Meeting)]
        assert isinstance(added[0], Gathering) and [each.name for each in added].count("gathered") == 1
        assert [layer.name for layer in here.layers if layer not in added] == [layer.name for layer in whole.layers]
        for one, other in zip(whole.layers, [each for each in here.layers if each not in added], strict=True):
            assert one == other or other.outputs * parts == one.outputs
        assert here.classes == whole.classes


def test_a_last_layer_that_is_not_divided_stands_behind_one_that_is():
    layers = hybrid_of(lineage("paper").with_classes(7), 2).layers
    assert layers[-1].outputs == 7
    assert [layer.name for layer in layers if isinstance(layer, Meeting)] == ["before_fc7", "before_fc8"]


@pytest.mark.parametrize(("name", "parts"), [("paper", 3), ("cifar-80sec", 3), ("cifar-18pct", 3)])
def test_units_that_cannot_be_divided_are_refused(name, parts):
    with pytest.raises(UsageError, match=r"^--parallel.connected: fc\d+ of .* into 3 equal shares$"):
        hybrid_of(lineage(name), parts)


def test_every_group_that_batch_normalization_needs_stays_whole():
    assert any(isinstance(layer, BatchNorm) for layer in hybrid_of(lineage("large-batch"), 2).layers)
    assert hybrid_of(lineage("large-batch"), 2).group == lineage("large-batch").group


def sent(ranks, table, parts, count):
    ranks = ranks.divided(parts)
    towers = Towers(table, ranks, hybrid=True)
    network = towers.network(seed=3)
    with Counted() as counted:
        here = Here(network.masks(0, 0), 0, ranks.tower, 1, (count,) * parts)
        logits = network(torch.randn(count, 3, table.side, table.side), here)
        logits.square().sum().backward()
        towers.add_up_gradients(network)
    return counted.sent


def test_what_is_exchanged_is_what_the_formula_says_and_nothing_else():
    count, parts, table = 3, 2, small("paper").with_classes(8)
    numbers = exchanged(hybrid_of(table, parts))
    assert list(numbers) == ["gathered", "before_fc7", "before_fc8", "logits"]
    whole = count * parts  # images that both have between them; each number is received by one of two
    forward = [("allgather", 4 * whole * int(numbers[name][0])) for name in numbers]
    backward = [("alltoall_base", 2 * 4 * whole * int(numbers[name][1])) for name in list(numbers)[-2::-1]]
    convolutions = [row for row in table.table() if row.layer.name.startswith("conv")]
    sums = [("allreduce", 4 * size) for row in convolutions for size in (row.weights, row.biases)]
    assert together(2, sent, table, parts, count) == [forward + backward + sums] * 2
