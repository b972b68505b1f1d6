"""Section 2: top-1 and top-5 errors with the 2012 program's rule for ties, and the averages of several networks."""

from fractions import Fraction
from itertools import permutations

import pytest
import torch
from torch import Tensor

from alexnet.evaluation.errors import credit, errors
from alexnet.evaluation.predictions import Predictions, ensemble


def credit_in_every_order(scores: list[float], label: int, k: int) -> Fraction:
    """How often the label is among the first k when classes are sorted by score, over all orders of the tied ones."""
    orders = list(permutations(range(len(scores))))
    ranked = (sorted(order, key=lambda each: -scores[each]) for order in orders)  # the sort keeps the order of ties
    return Fraction(sum(label in order[:k] for order in ranked), len(orders))


def few_levels(images: int, classes: int, levels: int) -> Tensor:
    """Scores with many ties."""
    generator = torch.Generator().manual_seed(classes)
    return torch.randint(0, levels, (images, classes), generator=generator) / 8


@pytest.mark.parametrize("k", [1, 2, 3, 5])
@pytest.mark.parametrize(("classes", "levels"), [(2, 2), (5, 2), (5, 4), (6, 3)])
def test_a_tie_is_worth_what_a_random_order_gives_on_average(k, classes, levels):
    scores = few_levels(20, classes, levels)
    labels = torch.arange(20) % classes
    expected = [
        float(credit_in_every_order(row, label, k)) for row, label in zip(scores.tolist(), labels.tolist(), strict=True)
    ]
    assert credit(scores, labels, k).tolist() == pytest.approx(expected, rel=1e-15)


def test_a_thousand_equal_probabilities_are_worth_one_and_five_thousandths():
    scores, labels = torch.full((3, 1000), 0.001), torch.tensor([0, 500, 999])
    assert credit(scores, labels, 1).tolist() == [1 / 1000] * 3
    assert credit(scores, labels, 5).tolist() == [5 / 1000] * 3
    assert errors(scores, labels) == (pytest.approx(0.999), pytest.approx(0.995))


@pytest.mark.parametrize(
    ("better", "tied", "top1", "top5"),
    [
        (0, 1, 1, 1),
        (0, 2, 1 / 2, 1),
        (1, 1, 0, 1),
        (4, 1, 0, 1),
        (4, 2, 0, 1 / 2),
        (3, 4, 0, 2 / 4),
        (3, 2, 0, 1),
        (5, 1, 0, 0),
        (5, 3, 0, 0),
        (0, 20, 1 / 20, 5 / 20),
    ],
)
def test_the_rule_by_hand(better, tied, top1, top5):
    scores = torch.tensor([[0.9] * better + [0.5] * tied + [0.1] * (30 - better - tied)])
    label = torch.tensor([better])
    assert credit(scores, label, 1).item() == top1
    assert credit(scores, label, 5).item() == top5


def test_fewer_classes_than_five_leave_no_top_five_error():
    assert errors(torch.tensor([[0.1, 0.2, 0.7]]), torch.tensor([0])) == (1.0, 0.0)


def test_errors_are_shares_of_all_images():
    scores = torch.eye(10)[[0, 1, 2, 3]] - torch.arange(10) / 100
    # Right; second; sixth behind the first class and four more; right.
    assert errors(scores, torch.tensor([0, 0, 5, 3])) == (pytest.approx(2 / 4), pytest.approx(1 / 4))


def test_a_difference_in_the_last_bit_is_no_tie():
    nearly = torch.nextafter(torch.tensor(0.5), torch.tensor(1.0)).item()
    assert credit(torch.tensor([[0.5, nearly]]), torch.tensor([0]), 1).item() == 0
    assert credit(torch.tensor([[0.5, nearly]]), torch.tensor([1]), 1).item() == 1


def members(count: int) -> list[Predictions]:
    generator = torch.Generator().manual_seed(count)
    labels = torch.arange(12) % 6
    return [Predictions(torch.rand(12, 6, generator=generator).softmax(1), labels, 10) for _ in range(count)]


@pytest.mark.parametrize("weights", [None, [1.0, 1.0, 1.0], [0.05, 0.5, 1.0], [2, 0, 0], [10, 20, 30]])
def test_an_ensemble_is_the_weighted_average_of_probabilities(weights):
    networks = members(3)
    together = ensemble(networks, weights)
    shares = weights or [1, 1, 1]
    for image in range(12):
        for label in range(6):
            terms = (
                share * network.probabilities[image, label].item()
                for share, network in zip(shares, networks, strict=True)
            )
            assert together.probabilities[image, label].item() == pytest.approx(sum(terms) / sum(shares), rel=1e-6)
    assert together.probabilities.dtype == torch.float32
    assert torch.equal(together.labels, networks[0].labels)
    assert together.views == 10


def test_an_ensemble_of_one_is_that_network():
    (only,) = members(1)
    assert torch.equal(ensemble([only]).probabilities, only.probabilities)
    assert ensemble([only]).errors() == only.errors() == errors(only.probabilities, only.labels)


def test_an_ensembles_errors_are_those_of_its_average_and_not_the_average_of_errors():
    labels = torch.tensor([0, 1])
    one = Predictions(torch.tensor([[0.9, 0.1], [0.6, 0.4]]), labels, 1)
    other = Predictions(torch.tensor([[0.4, 0.6], [0.1, 0.9]]), labels, 1)
    assert one.errors()[0] == other.errors()[0] == 0.5
    assert ensemble([one, other]).errors()[0] == 0
    assert ensemble([one, other], [5, 1]).errors()[0] == 0.5


def test_networks_that_judged_other_labels_are_no_ensemble():
    one, other = members(2)
    with pytest.raises(AssertionError):
        ensemble([one, Predictions(other.probabilities, other.labels.flip(0), 10)])
