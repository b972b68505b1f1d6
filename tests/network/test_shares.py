"""Shares of a batch on real processes: what they learn is what one process learns, by whichever way is shorter."""

import pytest
import torch
from torch.nn import functional as F

from alexnet.kernels.compiled import AVAILABLE
from alexnet.network.alexnet import AlexNet
from alexnet.network.factors import by_factors, form_gradients
from alexnet.network.lineages import lineage
from alexnet.network.operations import Here
from alexnet.network.shares import added_up
from alexnet.network.shares import together as joined
from alexnet.network.towers import tower_of
from alexnet.runtime.ranks import ALONE
from company import in_turn, small, together
from exchanges import Counted


def learned_from(ranks, table, counts, batch, dtype=torch.float64):
    """Every gradient of one training step, and what was handed to the process group.

    counts   how many images each share has; one that has none computes one that does not count
    batch    of how many images they are told that it is
    """
    network = AlexNet(table, seed=3).to(dtype).train()
    shared, factors = joined(network, ranks, batch, table)
    total, begin = sum(counts), sum(counts[: ranks.share])
    random = torch.Generator().manual_seed(5)
    images = torch.randn(total, 3, table.side, table.side, generator=random, dtype=torch.float64) * 60
    labels = torch.randint(table.classes, (total,), generator=random)
    count = counts[ranks.share] if ranks.world > 1 else total
    own = torch.arange(begin, begin + count) if count else torch.arange(1)
    with Counted() as counted:
        here = Here(network.masks(7, 11), int(own[0]), shares=counts)
        logits = shared(images[own].to(dtype), here)
        loss = F.cross_entropy(logits, labels[own], reduction="sum") / total * (count > 0)
        loss.backward()
        form_gradients(network, factors.taken())
    return {name: each.grad for name, each in network.named_parameters()}, counted.sent


@pytest.mark.parametrize("counts", [(4, 4), (4, 3), (3, 2, 2), (4, 3, 0)])
def test_shares_of_any_size_learn_what_one_process_does(counts):
    """By factors all, some layers by factors and some by gradients, and by gradients all."""
    table, batches = small("paper"), {1: {True}, 8: {True, False}, 10**6: {False}}
    every = in_turn(len(counts), learned_from, [(table, counts, batch) for batch in batches])
    for (batch, ways), each in zip(batches.items(), every, strict=True):
        assert {by_factors(row, batch) for row in table.table() if row.layer.name.startswith("fc")} == ways
        alone, _ = learned_from(ALONE, table, counts, batch)
        for found, _ in each:
            assert found.keys() == alone.keys()
            for name, gradient in found.items():
                assert (gradient - alone[name]).norm() < 1e-12 * alone[name].norm(), (batch, name)


def mistaken(ranks, table):
    """What is said to a process that does not tell of the others' images, and to one that differentiates twice."""
    network = AlexNet(table, seed=3).train()
    (shared, _), image = joined(network, ranks, 1, table), torch.randn(1, 3, table.side, table.side)
    logits = shared(image, Here(shares=(1, 1)))
    with pytest.raises(RuntimeError, match="how many images each has"):
        network.stage(0, None, image, Here(shares=(1, 1)))  # what was told for the logits is forgotten
    with pytest.raises(RuntimeError, match="how many images each has"):
        shared(image)
    with pytest.raises(RuntimeError, match="a second time"):
        logits.sum().backward(create_graph=True)
    return network.eval()(image).shape


def test_what_shares_cannot_do_is_said():
    assert together(2, mistaken, small("paper")) == [(1, 7), (1, 7)]


def by_itself(ranks, table):
    """Gradients for an image in the test form, which is nobody else's; which layers learn where others do not."""
    network = AlexNet(table, seed=3)
    (shared, factors), image = (
        joined(network, ranks, 8, table),
        torch.randn(1, 3, table.side, table.side, requires_grad=True),
    )
    with Counted() as counted:
        network.eval()(image).sum().backward()
    network.zero_grad()
    for name, layer in network.train().learned():
        layer.requires_grad_(name == "fc8")  # which passes gradients
    shared(image.detach(), Here(shares=(1, 1))).sum().backward()
    form_gradients(network, factors.taken())
    learning = [name for name, layer in network.learned() if layer.weight.grad is not None]
    return counted.sent, bool(image.grad.norm() > 0), learning


def test_shares_pass_nothing_in_the_test_form_and_learn_behind_layers_that_do_not():
    assert together(2, by_itself, small("paper")) == [([], True, ["fc6", "fc7", "fc8"])] * 2


@pytest.mark.parametrize("name", ["paper", "large-batch", "cifar-18pct"])
@pytest.mark.parametrize("batch", [1, 8])
def test_what_is_exchanged_is_what_the_formula_says_and_nothing_else(name, batch):
    table = small(name) if lineage(name).side > 32 else lineage(name)
    needed = added_up(table, batch, shares=2)
    of_those_here = needed["factors"] * 8 / batch  # so many images are computed
    for _, sent in together(2, learned_from, table, (4, 4), batch, torch.float32):
        of = {way: sum(size for each, size in sent if each == way) for way in ("allgather", "allreduce")}
        assert of == {"allgather": 4 * of_those_here, "allreduce": 4 * needed["gradients"]}
        assert sum(of.values()) == sum(size for _, size in sent)


def test_factors_pass_where_they_are_a_quarter_of_what_gradients_are():
    def of_paper(batch):
        return [row.layer.name for row in lineage("paper").table() if by_factors(row, batch)]

    assert of_paper(128) == ["fc6", "fc7", "fc8"]
    assert of_paper(1024) == ["fc6", "fc7"]  # 1024 (4096 + 4096) numbers, for half of 4096 x 4096
    assert of_paper(1025) == ["fc6"]
    assert of_paper(32_768) == []
    assert 2 * sum(added_up(lineage("paper"), 128, 2).values()) == 8_072_960  # bytes, in bf16


def test_a_towers_layers_learn_by_factors_where_the_wholes_do():
    """Or the two would round differently, where a tower's half of a layer is just too small for it."""
    whole = small("paper").with_classes(400)
    for batch in (1, 8, 16, 24, 32, 40, 60, 80):
        chosen = []
        for table in (whole, tower_of(whole, 2)):
            network = AlexNet(table)
            joined(network, ALONE, batch, whole)
            chosen.append([name for name, layer in network.learned() if not layer.weight.requires_grad])
        assert chosen[0] == chosen[1]
        assert batch > 1 or not AVAILABLE or chosen[0] == ["fc6", "fc7", "fc8"]
