"""The update by factors is section 5's rule with the gradient that is their product, in every kind and size."""

import pytest
import torch

from alexnet.kernels import update_by_factors
from alexnet.kernels.choice import way
from alexnet.kernels.compiled import AVAILABLE
from alexnet.kernels.fully_connected import gradient_of_bias
from alexnet.kernels.tiles_numba import there_are_tiles
from alexnet.kernels.update_by_factors import fits, move_by_factors
from gradients import numbers

SIZES = [(1, 1, 16), (2, 5, 48), (7, 37, 208), (33, 20, 96), (64, 100, 1040), (128, 16, 64)]
RULE = torch.tensor([0.9, 0.0005 * 0.01, 0.01])
compiled = pytest.mark.skipif(not AVAILABLE, reason="Numba is not installed or switched off")


def begun(images, units, inputs, kind):
    """Weights, velocity, what entered, what was passed back, and the copy that products in bf16 read."""
    w, v = (numbers(units, inputs, seed=seed, dtype=torch.float32) for seed in range(2))
    x, g = numbers(images, inputs, seed=2, dtype=kind), numbers(images, units, seed=3, dtype=kind)
    return w, v, x, g, w.bfloat16() if kind == torch.bfloat16 else None


def exact(w, v, x, g):
    """Weights and velocity afterwards, and how large the gradient's terms are, in float64."""
    momentum, pull, rate = RULE.double().tolist()
    w, v, x, g = (each.double() for each in (w, v, x, g))
    v = momentum * v - pull * w - rate * (g.t() @ x)
    return w + v, v, g.abs().t() @ x.abs()


@pytest.fixture(params=["compiled", "plain"])
def form(request, monkeypatch):
    if request.param == "plain":
        monkeypatch.setattr(update_by_factors, "way", lambda x: "plain")
    return request.param


@pytest.mark.parametrize(("images", "units", "inputs"), SIZES)
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_it_is_the_papers_rule_with_the_product_for_a_gradient(form, images, units, inputs, kind):
    w, v, x, g, copy = begun(images, units, inputs, kind)
    right_w, right_v, terms = exact(w, v, x, g)
    move_by_factors(w, v, x, g, copy, RULE)
    # A gradient that is written down is rounded to its kind; one that is not is a sum in float32.
    rounded = 2**-8 if kind == torch.bfloat16 and not fits(copy) else 1e-6
    bound = 0.01 * terms * rounded + 1e-6
    assert (v.double() - right_v).abs().le(bound).all() and (w.double() - right_w).abs().le(bound).all()
    assert copy is None or torch.equal(copy, w.bfloat16())


@compiled
def test_which_weights_fit():
    assert fits(torch.empty(3, 32)) and not fits(torch.empty(3, 33)) and not fits(torch.empty(32, 3).t())
    assert not fits(torch.empty(3, 32, dtype=torch.float64)) and not fits(torch.empty(3, 2, 2, 16))
    assert not fits(torch.empty(3, 32, device="meta")) and way(torch.empty(3, 32)) == "numba"
    in_bf16 = there_are_tiles() or update_by_factors.THERE_ARE_PAIRS
    assert fits(torch.empty(3, 32, dtype=torch.bfloat16)) == in_bf16


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_a_batch_without_images_moves_by_decay_and_momentum(form, kind):
    w, v, x, g, copy = begun(0, 5, 48, kind)
    right_w, right_v, _ = exact(w, v, x, g)
    move_by_factors(w, v, x, g, copy, RULE)
    torch.testing.assert_close((w.double(), v.double()), (right_w, right_v), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_factors_may_lie_anyhow_in_memory(kind):
    w, v, x, g, copy = begun(9, 20, 112, kind)
    other, whole = (w.clone(), v.clone(), copy if copy is None else copy.clone()), numbers(9, 40, dtype=kind)
    move_by_factors(w, v, x, g, copy, RULE)
    whole[:, ::2] = g
    move_by_factors(other[0], other[1], x.t().contiguous().t(), whole[:, ::2], other[2], RULE)
    assert torch.equal(w, other[0]) and torch.equal(v, other[1])


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_what_is_not_a_number_stays_with_its_own_unit_and_input(form, kind):
    w, v, x, g, copy = begun(3, 20, 112, kind)
    g[1, 7], x[2, 17] = float("nan"), float("inf")
    move_by_factors(w, v, x, g, copy, RULE)
    unknown = torch.zeros(20, 112, dtype=torch.bool)
    unknown[7] = unknown[:, 17] = True
    assert torch.equal(~w.isfinite(), unknown)


@compiled
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_a_weight_moves_the_same_whoever_else_moves(monkeypatch, kind):
    """To the last bit: with any number of threads, in a tower's share of the units, and however much stays in a cache
    at a time."""
    w, v, x, g, copy = begun(70, 90, 1056, kind)
    results = []
    for threads, panels in ((1, 2**20), (2, 2**20), (3, 1)):
        monkeypatch.setattr(update_by_factors, "PANELS", panels)
        before, moved = torch.get_num_threads(), [each if each is None else each.clone() for each in (w, v, copy)]
        torch.set_num_threads(threads)
        halves = [[None] * 2 if each is None else each.chunk(2) for each in moved]
        if threads == 3:
            for a, b, c, part in zip(*halves, g.chunk(2, 1), strict=True):
                move_by_factors(a, b, x, part, c, RULE)
        else:
            move_by_factors(moved[0], moved[1], x, g, moved[2], RULE)
        torch.set_num_threads(before)
        results.append(torch.cat(moved[:2]))
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


def test_biases_learn_the_same_whoever_else_does():
    for kind in (torch.float32, torch.bfloat16):
        g = numbers(50, 1001, dtype=kind)
        whole = gradient_of_bias(g)
        assert whole.dtype == torch.float32 and torch.equal(whole[:13], gradient_of_bias(g[:, :13]))
        assert (whole.double() - g.double().sum(0)).abs().max() < 1e-5
    assert torch.equal(gradient_of_bias(torch.empty(0, 3)), torch.zeros(3))
