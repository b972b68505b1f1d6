"""Section 3.2 on real processes: two towers, each in its own, compute what one process computes."""

import pytest
import torch
from torch.nn import functional as F

from alexnet.network.lineages import Lineage, lineage
from alexnet.network.operations import Masks
from alexnet.network.towers import Towers
from alexnet.runtime.ranks import ALONE, Ranks
from company import small, together

MEETINGS = ["before_conv3", "before_fc6", "before_fc7", "before_fc8", "logits"]


def learned_from(ranks: Ranks, table: Lineage, towers: int, count: int, kind: torch.dtype):
    """Logits and every gradient of one training step in `kind`, whole: on rank 0."""
    ranks = ranks.divided(towers)
    divided = Towers(table, ranks)
    network = divided.network(seed=3).to(kind, memory_format=torch.channels_last).train()
    shared = ranks.together(network)
    random = torch.Generator().manual_seed(5)
    images = torch.randn(count, 3, table.side, table.side, generator=random, dtype=torch.float64) * 60
    labels = torch.randint(table.classes, (count,), generator=random)
    own = torch.arange(count).tensor_split(ranks.shares)[ranks.share]
    logits = shared(images[own].to(kind), Masks(7, 11, int(own[0]), ranks.tower))
    loss = F.cross_entropy(logits, labels[own], reduction="sum") / count
    (loss * ranks.shares).backward()
    gradients = divided.whole(network, {name: each.grad for name, each in network.named_parameters()})
    every = torch.zeros(count, table.classes, dtype=kind)
    every[own] = logits.detach()
    return ranks.total(every), gradients if ranks.first else {}


def apart(one, other):
    """How far two tensors are from each other, as a share of the first one's size."""
    return float((one.double() - other.double()).norm() / one.double().norm())


def compare(table, kind, count, world, towers, within):
    alone, gradients = learned_from(ALONE, table, 1, count, kind)
    (logits, theirs), *others = together(world, learned_from, table, towers, count, kind)
    assert all(torch.equal(each[0], logits) for each in others), "every process knows the same logits"
    assert apart(alone, logits) < within
    assert theirs.keys() == gradients.keys()
    worst = max(apart(gradients[name], theirs[name]) for name in gradients)
    assert 0 < worst < within or world == 1, "computed in another order, or not computed elsewhere at all"


@pytest.mark.parametrize(("kind", "within"), [(torch.float32, 3e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("name", ["paper", "source-2012"])
def test_two_towers_in_full_size_compute_what_one_process_does(name, kind, within):
    compare(lineage(name), kind, count=4, world=2, towers=2, within=within)


@pytest.mark.parametrize("name", ["paper", "source-2012", "source-2012-conv6", "source-2012-no-overlap"])
@pytest.mark.parametrize(("world", "towers"), [(2, 2), (2, 1), (3, 1), (4, 2)])
def test_any_layout_computes_what_one_process_does(name, world, towers):
    compare(small(name), torch.float64, count=7, world=world, towers=towers, within=1e-12)
