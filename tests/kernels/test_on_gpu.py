"""The GPU's kernels on a GPU: against the same operations one by one in float64, on a processor."""

import pytest
import torch
from test_after_convolution import EVERY, activities, each
from test_update_rule import formula, numbers, rule
from test_within_map import ANOTHER, AS_RUN, CIFAR

from alexnet.kernels import after_convolution, choice, dropout, response_norm, update_rule
from alexnet.kernels import within_map as within_map_module

pytestmark = pytest.mark.skipif(not torch.cuda.is_available() or not choice.TRITON, reason="no GPU")
BOUNDS = [(torch.float32, 3e-6), (torch.bfloat16, 1.01 * 2**-8), (torch.float16, 1.01 * 2**-11)]
KINDS = pytest.mark.parametrize(("dtype", "bound"), BOUNDS)


@pytest.fixture(autouse=True)
def compiled(monkeypatch):
    """What is tested is what PyTorch's own operations cannot stand in for."""
    for module in (after_convolution, dropout, update_rule, within_map_module):
        way = module.way
        monkeypatch.setattr(module, "way", lambda x, way=way: "triton" if x.is_cuda and way(x) == "triton" else "plain")


def apart(ours, plain, x):
    """Values and gradients of `ours` on the GPU, and of `plain` in float64 on the processor."""
    given, exact = x.cuda().requires_grad_(), x.double().requires_grad_()
    result, right = ours(given), plain(exact)
    g = activities(*right.shape, seed=1, size=1).to(x.dtype)
    result.backward(g.cuda())
    right.backward(g.double())
    return result.detach().double().cpu(), right.detach(), given.grad.double().cpu(), exact.grad


SIDES = [(12, 7, 9), (96, 43, 12), (2, 5, 5), (256, 27, 27)]
CASES = [(sides, *kind) for sides in SIDES for kind in BOUNDS[:2]] + [((24, 6, 5), *BOUNDS[2])]


@each
@pytest.mark.parametrize(("sides", "dtype", "bound"), CASES)
def test_what_follows_a_convolution(what, sides, dtype, bound):
    for images in (1, 3):
        x = activities(images, *sides)
        if dtype != torch.float32:  # no two alike within a window: which of them wins is anybody's choice
            x = (torch.randperm(x.numel(), generator=torch.Generator().manual_seed(0)) / 64 - 20).reshape(x.shape)
        result, right, gradient, right_gradient = apart(what, what.plainly, x.to(dtype))
        torch.testing.assert_close(result, right, rtol=bound, atol=1e-6)
        if dtype == torch.float32 or what.pool[0] == 1:
            torch.testing.assert_close(gradient, right_gradient, rtol=max(bound, 1e-5), atol=3e-6)


@pytest.mark.parametrize("how", [AS_RUN, CIFAR, ANOTHER])
@KINDS
@pytest.mark.parametrize("sides", [(3, 13, 13), (32, 6, 9), (1100, 2, 1)])
def test_normalization_within_a_map(how, dtype, bound, sides):
    x = activities(2, *sides).to(dtype)
    found = apart(lambda x: within_map_module.within_map(x, **how), lambda x: response_norm.within_map(x, **how), x)
    for ours, right in (found[:2], found[2:]):
        torch.testing.assert_close(ours, right, rtol=bound, atol=3e-6)


@KINDS
def test_dropouts_masks_are_the_processors(dtype, bound):
    for shape, seed in (((3, 4096), 2**63 - 1), ((1, 1), 5), ((70, 33), 2**40 + 7), ((2, 3, 4, 5), 16)):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
        how = {"keep": 0.7, "scale": 2.0, "row": 3, "column": 7}
        given = x.cuda().requires_grad_()
        result = dropout.dropped(given, seed=torch.tensor(seed, device="cuda"), **how)
        result.backward(torch.ones_like(result))
        assert torch.equal(result.cpu(), dropout.dropped(x, seed=torch.tensor(seed), **how)), bound
        assert torch.equal(result, given.detach() * given.grad)


@pytest.mark.parametrize("size", [1, 7, 1024, 100_003])
@pytest.mark.parametrize("gradient", [torch.bfloat16, torch.float32])
def test_the_update_is_the_papers_rule(size, gradient):
    w, v, g = (numbers(size, seed=seed) for seed in range(3))
    g = g.to(gradient)
    exact_w, exact_v = formula(w.double(), v.double(), g.double(), 0.9, 0.0005, 0.01)
    w, v, g, copy = w.cuda(), v.cuda(), g.cuda(), torch.zeros(size, dtype=torch.bfloat16, device="cuda")
    update_rule.move(w, v, g, copy, rule(0.9, 0.0005, 0.01, w).cuda())
    torch.testing.assert_close(v.double().cpu(), exact_v, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(w.double().cpu(), exact_w, rtol=1e-6, atol=1e-6)
    assert torch.equal(copy, w.to(torch.bfloat16))


@pytest.mark.parametrize("what", [EVERY["paper, layers 1 and 2"], EVERY["2012, layer 1"], EVERY["rectifier alone"]])
def test_towers_that_lie_apart_and_a_bias_and_the_same_bits_each_time(what):
    x, bias = activities(40, 96, 27, 27).to(torch.bfloat16), activities(96, seed=3, dtype=torch.float32)
    runs = []
    for _ in range(3):
        given = [each.cuda().requires_grad_() for each in x.chunk(2, 1)]
        added = bias.cuda().requires_grad_()
        results = what.behind(given, added, 2)
        g = activities(*torch.cat(results, 1).shape, seed=1, size=1).to(torch.bfloat16).cuda()
        torch.cat(results, 1).backward(g)
        runs.append([*results, *(each.grad for each in given), added.grad])
    assert all(torch.equal(one, other) for run in runs[1:] for one, other in zip(runs[0], run, strict=True))
    exact, biases = x.double().requires_grad_(), bias.double().requires_grad_()
    what.plainly(exact + biases[:, None, None]).backward(g.cpu().double())
    right = [*what.plainly(exact + biases[:, None, None]).chunk(2, 1), *exact.grad.chunk(2, 1), biases.grad]
    for own, other in zip(runs[0], right, strict=True):  # bf16 makes ties, and other winners
        assert (own.double().cpu() - other).norm() <= 0.05 * other.norm()
