"""Normalization within a map: compiled against PyTorch's operations in float64, which test_response_norm holds against
slow loops."""

import pytest
import torch
from torch.autograd import gradcheck

from alexnet.kernels import choice, response_norm
from alexnet.kernels import within_map as within_map_module
from alexnet.kernels.compiled import AVAILABLE
from alexnet.kernels.within_map import within_map

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="Numba is not installed or switched off")
AS_RUN, CIFAR = (
    {"size": 5, "k": 1.0, "alpha": 4e-5, "beta": 0.75},
    {"size": 3, "k": 1.0, "alpha": 5e-5 / 9, "beta": 0.75},
)
ANOTHER = {"size": 7, "k": 2.0, "alpha": 0.01, "beta": 0.5}


def activities(*shape, dtype, seed=0, size=60.0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, dtype=torch.float64, generator=generator) * size).to(dtype)


def assert_plain(x, how, bound):
    """Values and gradients are those of the plain form on the same numbers in float64."""
    g = activities(*x.shape, dtype=x.dtype, seed=1, size=1)
    ours, plain = x.clone().requires_grad_(), x.double().requires_grad_()
    result, exact = within_map(ours, **how), response_norm.within_map(plain, **how)
    result.backward(g)
    exact.backward(g.double())
    torch.testing.assert_close(result.double(), exact, rtol=bound, atol=bound * 1e-2)
    torch.testing.assert_close(ours.grad.double(), plain.grad, rtol=bound, atol=bound)


@pytest.mark.parametrize("how", [AS_RUN, CIFAR, ANOTHER])
@pytest.mark.parametrize("sides", [(3, 13, 13), (32, 6, 9), (1, 2, 3), (5, 1, 1), (4, 1, 8)])
@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float64, 1e-13), (torch.float32, 3e-6), (torch.bfloat16, 1.01 * 2**-8)]
)
def test_values_and_gradients_are_the_plain_forms_own(how, sides, dtype, bound):
    for images in (1, 3):
        assert_plain(activities(images, *sides, dtype=dtype), how, bound)


@pytest.mark.skipif(not choice.TRITON or torch.cuda.is_available(), reason="Triton's interpreter, where no GPU is")
@pytest.mark.parametrize("how", [AS_RUN, CIFAR, ANOTHER])
@pytest.mark.parametrize("sides", [(3, 13, 13), (32, 6, 9), (1, 2, 3), (1100, 2, 1)])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 3e-6), (torch.bfloat16, 1.01 * 2**-7)])
def test_the_gpus_kernels_give_the_same(monkeypatch, how, sides, dtype, bound):
    monkeypatch.setattr(within_map_module, "way", lambda x: "triton")
    assert_plain(activities(2, *sides, dtype=dtype), how, bound)


def test_the_gradient_is_the_values_own():
    heavy = AS_RUN | {"alpha": 0.3}  # so that the sum of squares weighs as much as k
    assert gradcheck(
        lambda y: within_map(y, **heavy), activities(2, 2, 4, 6, dtype=torch.float64, size=1).requires_grad_()
    )


def test_an_even_patch_is_refused():
    with pytest.raises(ValueError, match="a patch of 4 has no middle"):
        within_map(activities(1, 2, 5, 5, dtype=torch.float32), size=4, k=1.0, alpha=1e-3, beta=0.75)


def test_any_number_of_threads_gives_the_same_bits():
    x, before, results = activities(5, 8, 7, 7, dtype=torch.float32), torch.get_num_threads(), []
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        given = x.clone().requires_grad_()
        result = within_map(given, **AS_RUN)
        result.square().sum().backward()
        results.append(torch.cat([result.flatten(), given.grad.flatten()]))
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


def test_what_is_not_a_number_stays_within_its_patches():
    x, g = activities(3, 4, 9, 8, dtype=torch.float32), activities(3, 4, 9, 8, dtype=torch.float32, seed=1)
    x[0, 1, 8, 7] = float("nan")
    x[1, 2, 4, 7] = float("nan")
    ours, exact = x.clone().requires_grad_(), x.double().requires_grad_()
    for given, compute in ((ours, within_map), (exact, response_norm.within_map)):
        result = compute(given, **AS_RUN)
        result.backward(g.to(given.dtype))
        given.result = result.isnan()
    assert torch.equal(ours.result, exact.result)
    assert not ours.grad[2].isnan().any() and not ours.grad[:, [0, 3]].isnan().any()
    assert not ours.grad[1, 2, :, :3].isnan().any() and not ours.grad[0, 1, :4].isnan().any()
