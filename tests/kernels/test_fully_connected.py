"""A fully connected layer is the product of its activities and weights, in any kind, whoever shares it."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional as F

from alexnet.kernels.compiled import AVAILABLE
from alexnet.kernels.fully_connected import _Connected, fully_connected, gradients
from gradients import Counted, assert_near, numbers, with_gradients

compiled = pytest.mark.skipif(not AVAILABLE, reason="Numba is not installed or switched off")
KINDS = pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 2**-7)]
)


def connected(x, weight, bias):
    """As in bf16, in any kind."""
    return _Connected.apply(x, weight, bias)


def test_weights_of_another_kind_are_refused_as_by_pytorch():
    x, weight, bias = numbers(2, 3), numbers(4, 3), numbers(4)
    for given in ((x.float(), weight, bias), (x.bfloat16(), weight.float(), bias.float())):
        with pytest.raises(RuntimeError, match="same dtype"):
            fully_connected(*given)


@KINDS
@pytest.mark.parametrize(("images", "inputs", "outputs"), [(1, 1, 1), (5, 64, 10), (128, 300, 77)])
def test_a_fully_connected_layer_is_the_product(images, inputs, outputs, dtype, bound):
    given = numbers(images, inputs), numbers(outputs, inputs, seed=1), numbers(outputs, seed=2)
    given = [each.to(dtype) for each in given]
    compute = fully_connected if dtype == torch.bfloat16 else connected
    ours = with_gradients(compute, given, dtype)
    assert ours[0].is_contiguous()
    assert_near(ours, with_gradients(F.linear, given, torch.float64), bound)


@compiled
def test_a_fully_connected_layer_is_pytorchs_own_but_in_bf16(monkeypatch):
    seen = []
    monkeypatch.setattr(_Connected, "apply", lambda x, *_: seen.append(x.dtype))
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        fully_connected(numbers(2, 4, dtype=dtype), numbers(3, 4, dtype=dtype), numbers(3, dtype=dtype))
    assert seen == [torch.bfloat16]


def test_a_fully_connected_layers_gradient_is_its_own_and_only_what_is_asked_for():
    given = [each.requires_grad_() for each in (numbers(3, 4), numbers(2, 4, seed=1), numbers(2, seed=2))]
    assert gradcheck(connected, given) and gradgradcheck(connected, given)
    still = [each.detach().bfloat16() for each in given]
    for which in (0, 1):
        leaves = [each.clone().requires_grad_(number == which) for number, each in enumerate(still)]
        result = connected(*leaves).sum()
        with Counted() as counted:
            result.backward()
        assert counted.products == 1 and leaves[which].grad is not None


def test_what_a_fully_connected_layer_gives_may_be_changed_in_place():
    for images in (1, 2):
        given = numbers(images, 4), numbers(3, 4, seed=1).requires_grad_(), numbers(3, seed=2)
        fully_connected(*(each.bfloat16() for each in given)).add_(1).sum().backward()
        assert given[1].grad.norm() > 0


def test_weights_in_float32_under_autocast_have_gradients_in_float32():
    given = [each.float().requires_grad_() for each in (numbers(3, 4), numbers(2, 4, seed=1), numbers(2, seed=2))]
    with torch.autocast("cpu", torch.bfloat16):
        result = fully_connected(*given)
    assert result.dtype == torch.bfloat16
    result.float().sum().backward()
    assert {each.grad.dtype for each in given} == {torch.float32}


@compiled
def test_towers_gradients_for_what_both_of_them_read_add_up():
    given = [numbers(5, 12).float(), numbers(8, 12, seed=1).float(), numbers(8, seed=2).float()]
    own = with_gradients(lambda *of: fully_connected(*of, 2), given, torch.float32)
    assert_near(own, with_gradients(F.linear, given, torch.float64), 1e-6)

    def of_gradients(compute, kind):
        leaves = [each.to(kind).requires_grad_() for each in given]
        first = torch.autograd.grad(compute(*leaves).square().sum(), leaves, create_graph=True)
        return torch.autograd.grad(sum(each.square().sum() for each in first), leaves)

    assert_near(
        of_gradients(lambda *of: fully_connected(*of, 2), torch.float32), of_gradients(F.linear, torch.float64), 1e-5
    )


@KINDS
def test_weights_learn_from_factors_what_autograd_finds(dtype, bound):
    given = numbers(7, 12), numbers(8, 12, seed=1), numbers(8, seed=2)
    weight, bias = with_gradients(F.linear, given, torch.float64)[2:]
    g = numbers(7, 8, seed=9)  # as `with_gradients` has it
    assert_near(gradients(given[0].to(dtype), g.to(dtype)), [weight, bias], bound)
