"""Section 3.2 on real processes: two towers, each in its own, compute what one process computes."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from alexnet.kernels.compiled import AVAILABLE
from alexnet.network.alexnet import AlexNet
from alexnet.network.factors import form_gradients
from alexnet.network.layers import FullyConnected, Meeting
from alexnet.network.lineages import Lineage, lineage
from alexnet.network.operations import Here
from alexnet.network.shares import together as joined
from alexnet.network.towers import Towers, exchanged, hybrid_of, tower_of
from alexnet.runtime.errors import UsageError
from alexnet.runtime.ranks import ALONE, Ranks
from company import laid_together, small, together
from exchanges import Counted

MEETINGS = ["before_conv3", "before_fc6", "before_fc7", "before_fc8", "logits"]


def learned_from(ranks: Ranks, table: Lineage, count: int, kind: torch.dtype):
    """Logits and every gradient of one training step in `kind`, whole: on rank 0."""
    divided = Towers(table, ranks)
    network = divided.network(seed=3).to(kind, memory_format=torch.channels_last).train()
    shared, factors = joined(network, ranks, count, table)
    random = torch.Generator().manual_seed(5)
    images = torch.randn(count, 3, table.side, table.side, generator=random, dtype=torch.float64) * 60
    labels = torch.randint(table.classes, (count,), generator=random)
    shares = torch.arange(count).tensor_split(ranks.shares)
    own = shares[ranks.share]
    here = Here(network.masks(7, 11), int(own[0]), ranks.tower, shares=tuple(map(len, shares)))
    logits = shared(images[own].to(kind), here)
    loss = F.cross_entropy(logits, labels[own], reduction="sum") / count
    loss.backward()
    form_gradients(network, factors.taken())
    gradients = laid_together(divided, {name: each.grad for name, each in network.named_parameters()})
    every = torch.zeros(count, table.classes, dtype=kind)
    every[own] = logits.detach()
    return ranks.total(every), gradients if ranks.first else {}


def apart(one, other):
    """How far two tensors are from each other, as a share of the first one's size."""
    return float((one.double() - other.double()).norm() / one.double().norm())


def measured(ranks: Ranks, tables: list[Lineage], towers: int, count: int, kind: torch.dtype):
    """Of each, logits, and on rank 0 how far they and every gradient are from what it computes alone, when all others
    are done: to send half a gigabyte of gradients to the test takes longer."""
    ranks = ranks.divided(towers)
    every = [learned_from(ranks, table, count, kind) for table in tables]
    witness = distances if ranks.first else lambda *_: {}
    return [(found[0], witness(table, *found)) for table, found in zip(tables, every, strict=True)]


def distances(table: Lineage, logits: Tensor, gradients: dict[str, Tensor]) -> dict[str, float]:
    """From what one process computes."""
    alone, expected = learned_from(ALONE, table, len(logits), logits.dtype)
    assert gradients.keys() == expected.keys(), table.name
    return {"logits": apart(alone, logits)} | {name: apart(expected[name], found) for name, found in gradients.items()}


def compare(tables, count, world, towers):
    """In float64."""
    every = zip(*together(world, measured, tables, towers, count, torch.float64), strict=True)
    for table, ((logits, far), *others) in zip(tables, every, strict=True):
        assert all(torch.equal(each[0], logits) for each in others), f"{table.name}: all know the same logits"
        assert far.pop("logits") < 1e-12, table.name
        assert all(each < 1e-12 for each in far.values()), table.name
        assert any(far.values()), f"{table.name}: in another order, or not computed elsewhere at all"


@pytest.mark.parametrize(("name", "world"), [("paper", 2), ("source-2012", 2), ("paper", 4), ("source-2012", 4)])
def test_towers_in_full_size_compute_what_one_process_does(name, world):
    compare([lineage(name)], count=4, world=world, towers=2)


@pytest.mark.parametrize("name", ["paper", "source-2012"])
@pytest.mark.parametrize("count", [4, 8])
def test_in_float32_too_and_from_eight_images_on_in_every_bit(name, count):
    """Fewer are convolved by PyTorch, which may sum the first layer's 96 kernels in another order than 48 of them."""
    [(_, far)], _ = together(2, measured, [lineage(name)], 2, count, torch.float32)
    assert len(far) == 1 + 16 and all(each < 1e-6 for each in far.values())
    if AVAILABLE and count == 8:
        assert set(far.values()) == {0.0}


@pytest.mark.parametrize(("world", "towers"), [(2, 2), (2, 1), (3, 1), (4, 2)])
def test_any_layout_computes_what_one_process_does(world, towers):
    names = ("paper", "source-2012", "source-2012-conv6", "source-2012-no-overlap")
    compare([small(name) for name in names], count=7, world=world, towers=towers)


def test_layers_that_read_both_towers_know_whose_their_units_are():
    def owners(table):
        return {name: layer.owners for name, layer in AlexNet(table).learned()}

    whole = lineage("paper")
    both = dict.fromkeys(["conv1", "conv3", "fc6", "fc7", "fc8"], 2)
    assert owners(whole) == dict.fromkeys(["conv2", "conv4", "conv5"], 1) | both
    assert set(owners(tower_of(whole, 2)).values()) == {1}
    divided = owners(hybrid_of(whole, 2))
    assert divided["conv3"] == 2 and divided["fc6"] == divided["fc8"] == 1
    assert owners(whole.with_classes(7))["fc8"] == 1


def test_towers_meet_where_the_paper_says_and_for_the_logits():
    """Section 3.2: "the GPUs communicate only in certain layers"."""
    for name in ("paper", "source-2012"):
        layers = tower_of(lineage(name), 2).layers
        assert [layer.name for layer in layers if isinstance(layer, Meeting)] == MEETINGS
        alike = [layer.name for layer in layers if not isinstance(layer, Meeting)]
        assert alike == [layer.name for layer in lineage(name).layers]


def test_a_tower_has_half_of_every_kernel_and_every_weight():
    whole, tower = (AlexNet(table).state_dict() for table in (lineage("paper"), tower_of(lineage("paper"), 2)))
    for name, own in tower.items():
        assert own.shape == (whole[name].shape[0] // 2, *whole[name].shape[1:])


@pytest.mark.parametrize("classes", [3, 10, 1000])
def test_a_tower_knows_all_classes(classes):
    whole = lineage("paper").with_classes(classes)
    assert tower_of(whole, 2).classes == whole.classes == classes


def test_an_odd_number_of_classes_is_computed_by_every_tower():
    layers = tower_of(lineage("paper").with_classes(7), 2).layers
    meetings = [layer for layer in layers if isinstance(layer, Meeting)]
    assert [layer.name for layer in meetings] == MEETINGS[:-1] and not meetings[-1].added
    assert layers[-1] == FullyConnected("fc8", 7)


@pytest.mark.parametrize(
    ("name", "towers", "said"),
    [
        ("caffe", 2, "norm1 of caffe normalizes across the towers"),
        ("one-weird-trick", 2, "the lineage one-weird-trick has 1 tower"),
        ("paper", 3, "the lineage paper has 2 towers"),
        ("cifar-18pct", 2, "the lineage cifar-18pct has 1 tower"),
    ],
)
def test_a_network_that_cannot_be_divided_is_refused(name, towers, said):
    with pytest.raises(UsageError, match=f"^--parallel.towers: .*{said}"):
        tower_of(lineage(name), towers)


def sent(ranks, table, towers, count):
    ranks = ranks.divided(towers)
    network = Towers(table, ranks).network(seed=3)
    with Counted() as counted:
        logits = network(torch.randn(count, 3, table.side, table.side), Here(network.masks(0, 0), 0, ranks.tower))
        logits.square().sum().backward()
    return counted.sent


def differentiated_twice(ranks, table, towers):
    ranks = ranks.divided(towers)
    network = Towers(table, ranks).network(seed=3).double()
    logits = network(torch.randn(2, 3, table.side, table.side, dtype=torch.float64))
    first = torch.autograd.grad(logits.square().sum(), network.conv1.weight, create_graph=True)[0]
    try:
        first.square().sum().backward()
    except RuntimeError as error:
        return str(error)
    return ""


def test_what_others_sent_is_not_differentiated_twice_in_silence():
    """It has no graph here: numbers would be wrong."""
    assert all("once_differentiable" in said for said in together(2, differentiated_twice, small("paper"), 2))


@pytest.mark.parametrize(("name", "classes"), [("paper", 7), ("paper", 8), ("source-2012", 8)])
def test_what_is_exchanged_is_what_the_formula_says_and_nothing_else(name, classes):
    """Four activations forward and the logits, four gradients backward; the first kernels to the last meet nobody."""
    count, table = 3, small(name).with_classes(classes)
    forward, backward = zip(*exchanged(tower_of(table, 2)).values(), strict=True)
    expected = [("allgather", 4 * count * numbers) for numbers in forward]
    assert len(forward) == (4 if classes % 2 else 5)
    # An all-to-all is handed what a tower keeps, too: its half.
    expected += [("alltoall_base", 2 * 4 * count * numbers) for numbers in reversed(backward) if numbers]
    assert together(2, sent, table, 2, count) == [expected] * 2


def test_the_papers_exchanges():
    """Of 128 images in bf16: the sum that the benchmark counts too."""
    numbers = exchanged(tower_of(lineage("paper"), 2))
    assert numbers["before_conv3"] == (128 * 13 * 13, 128 * 13 * 13)
    assert numbers["before_fc6"] == (128 * 6 * 6, 128 * 6 * 6)
    assert numbers["before_fc7"] == numbers["before_fc8"] == (2048, 2048)
    assert numbers["logits"] == (500, 0)
    assert 2 * 128 * sum(map(sum, numbers.values())) == 15_660_032
