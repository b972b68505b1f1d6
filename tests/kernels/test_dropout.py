"""Dropout by counting: the generator against its published answers, every way against the plain one, and chance."""

from math import sqrt

import pytest
import torch
from torch.autograd import gradcheck

from alexnet.kernels import choice, dropout
from alexnet.kernels.dropout import dropped, philox

WAYS = [way for way, there in (("numba", choice.AVAILABLE), ("triton", choice.TRITON)) if there]


@pytest.mark.parametrize(
    ("counter", "key", "word"),
    [
        ((0, 0, 0, 0), (0, 0), 0x6627E8D5),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, 0x408F276D),
        ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0), 0xD16CFE09),
    ],
)
def test_the_generator_gives_the_answers_its_authors_published(counter, key, word):
    assert philox(*(torch.tensor([each]) for each in (*counter, *key))).tolist() == [word]


@pytest.mark.parametrize("chosen", WAYS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_way_drops_the_same(monkeypatch, chosen, dtype):
    for shape, seed in (((3, 4096), 2**63 - 1), ((1, 1), 5), ((70, 33), 2**40 + 7), ((2, 3, 4, 5), 16)):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
        results = []
        for way in (chosen, "plain"):
            monkeypatch.setattr(dropout, "way", lambda x, way=way: way)
            given = x.clone().requires_grad_()
            result = dropped(given, keep=0.7, scale=2.0, seed=torch.tensor(seed))
            result.backward(torch.ones_like(x))
            results.append((result, given.grad))
        assert all(torch.equal(*both) for both in zip(*results, strict=True))
        assert torch.equal(results[0][0], x * results[0][1])


def test_the_gradient_is_the_values_own():
    x = torch.randn(3, 40, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x: dropped(x, keep=0.5, scale=2.0, seed=torch.tensor(3)), x)


def test_a_part_of_a_mask_is_the_masks_part():
    """Fewer images, and fewer columns from the first on: whoever holds a part computes it alone."""
    whole = dropped(torch.ones(8, 100), keep=0.5, scale=1.0, seed=torch.tensor(9))
    assert torch.equal(dropped(torch.ones(5, 60), keep=0.5, scale=1.0, seed=torch.tensor(9)), whole[:5, :60])


@pytest.mark.parametrize("chosen", [*WAYS, "plain"])
def test_a_part_from_anywhere_is_the_masks_part_forward_and_backward(monkeypatch, chosen):
    monkeypatch.setattr(dropout, "way", lambda x: chosen)
    whole = dropped(torch.ones(8, 100), keep=0.5, scale=1.0, seed=torch.tensor(9))
    part = torch.ones(4, 50, requires_grad=True)
    result = dropped(part, keep=0.5, scale=1.0, seed=torch.tensor(9), row=3, column=50)
    result.sum().backward()
    assert torch.equal(result, whole[3:7, 50:]) and torch.equal(part.grad, whole[3:7, 50:])


def test_rows_columns_and_seeds_are_independent():
    count = 512
    masks = [
        dropped(torch.ones(count, count), keep=0.5, scale=1.0, seed=torch.tensor(seed)).double() - 0.5
        for seed in (1, 2, 2**32)
    ]
    bound = 5 * sqrt(0.25 / count**2)
    assert all(abs(mask.mean()) < bound for mask in masks)
    pairs = (
        [(a[:, :-1], a[:, 1:]) for a in masks] + [(a[:-1], a[1:]) for a in masks] + [(masks[0], b) for b in masks[1:]]
    )
    assert all(abs((a * b).mean()) < bound / 2 for a, b in pairs)


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9999])
def test_the_share_that_survives(keep):
    mask = dropped(torch.ones(300, 1000), keep=keep, scale=1.0, seed=torch.tensor(4))
    assert abs(mask.mean() - keep) < 5 * sqrt(keep * (1 - keep) / mask.numel())
