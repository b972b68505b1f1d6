"""The GPU's kernels on a processor, by Triton's interpreter: against the same operations one by one, in float64."""

import pytest
import torch
from test_after_convolution import EVERY, activities, both, each

from alexnet.kernels import after_convolution

pytest.importorskip("triton", reason="Triton is there on Linux only")
from alexnet.kernels import after_convolution_triton


@pytest.fixture(autouse=True)
def interpreted(monkeypatch):
    if torch.cuda.is_available():
        pytest.skip("tested on the GPU itself")
    monkeypatch.setattr(after_convolution, "way", lambda x: "triton")


@each
@pytest.mark.parametrize("sides", [(12, 7, 9), (96, 5, 4), (2, 5, 5), (6, 4, 27), (2, 35, 4)])
def test_values_and_gradients_are_those_of_the_operations_one_by_one(what, sides):
    result, exact, gradient, exact_gradient = both(what, activities(2, *sides, dtype=torch.float32))
    torch.testing.assert_close(result, exact, rtol=3e-6, atol=1e-6)
    torch.testing.assert_close(gradient, exact_gradient, rtol=1e-5, atol=3e-6)


@each
def test_bf16_costs_one_cut(what):  # the interpreter cuts digits off where a GPU rounds
    result, exact, gradient, exact_gradient = both(what, activities(2, 12, 6, 7).to(torch.bfloat16))
    torch.testing.assert_close(result, exact, rtol=1.01 * 2**-7, atol=1e-6)
    if what.pool[0] == 1:
        torch.testing.assert_close(gradient, exact_gradient, rtol=1.01 * 2**-7, atol=1e-6)


def test_of_equal_activities_the_first_wins():
    x = torch.ones(1, 2, 5, 5, requires_grad=True)
    EVERY["pooling alone"](x).sum().backward()
    expected = torch.zeros(5, 5)
    expected[[0, 0, 2, 2], [0, 2, 0, 2]] = 1
    assert torch.equal(x.grad[0, 0], expected)


def test_what_is_not_a_number_is_not_hidden():
    x = activities(2, 6, 5, 5, dtype=torch.float32)
    x[0, 2, 2, 2] = torch.nan
    for what in EVERY.values():
        result = what(x)
        assert result[0, 2].isnan().any() and result[1].isfinite().all()


@pytest.mark.parametrize("place", [(5, 5), (5, 2), (0, 1)])
def test_each_window_passes_its_gradient_into_the_map(place):
    """Also one that hangs over its edge and has something in it that is not a number."""
    x = torch.zeros(1, 2, 6, 6)
    x[0, 1, *place] = torch.nan
    EVERY["pooling alone"](x.requires_grad_()).sum().backward()
    assert x.grad.sum((2, 3)).tolist() == [[9, 9]]


@each
@pytest.mark.parametrize(
    ("maps", "parts", "towers", "programs"),
    [(32, 1, 1, 2048), (24, 2, 1, 2048), (20, 2, 2, 2048), (24, 1, 2, 2048), (24, 2, 2, 2)],
)
def test_towers_that_lie_apart_and_a_bias(monkeypatch, what, maps, parts, towers, programs):
    """As a grouped convolution leaves them, and as the next one reads them; backward in several turns of few programs,
    as a whole batch has them."""
    monkeypatch.setattr(after_convolution_triton, "PROGRAMS", programs)
    x, bias = activities(2, maps, 6, 7, dtype=torch.float32), activities(maps, seed=3, dtype=torch.float32)
    given = [each.detach().requires_grad_() for each in x.chunk(parts, 1)]
    plain = [each.detach().double().requires_grad_() for each in given]
    biases = bias.requires_grad_(), bias.detach().double().requires_grad_()
    results = what.behind(given, biases[0], towers)
    assert len(results) == towers
    result = torch.cat(results, 1)
    exact = what.plainly(torch.cat(plain, 1) + biases[1][:, None, None])
    torch.testing.assert_close(result.double(), exact, rtol=3e-6, atol=1e-6)
    g = activities(*exact.shape, seed=1, size=1)
    result.backward(g.float())
    exact.backward(g)
    for one, other in zip((*given, biases[0]), (*plain, biases[1]), strict=True):
        torch.testing.assert_close(one.grad.double(), other.grad, rtol=1e-5, atol=3e-5)
