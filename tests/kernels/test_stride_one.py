"""Convolutions by code of our own as PyTorch sees them, in both forms: layouts, errors, threads, and what is asked."""

from typing import Any, NamedTuple

import pytest
import torch
from torch.nn import functional as F

from alexnet.kernels import convolution_at_points, convolution_on_tiles
from alexnet.kernels.compiled import AVAILABLE
from alexnet.kernels.convolution import convolution
from alexnet.kernels.stride_one import StrideOne
from alexnet.kernels.tiles_numba import there_are_tiles
from gradients import Counted, assert_near, numbers, with_gradients


class Form(NamedTuple):
    """Its code, in which kind, how near it is, once and differentiated twice, and its results that are ours: all but
    PyTorch's gradients."""

    code: Any
    kind: torch.dtype
    bound: float
    twice: float
    own: slice


TILES = Form(convolution_on_tiles, torch.bfloat16, 2**-7, 2**-5, slice(2))
POINTS = Form(convolution_at_points, torch.float32, 3e-6, 2e-5, slice(4))
HALF_POINTS = Form(convolution_at_points, torch.bfloat16, 2**-7, 2**-5, slice(4))
CASES = {  # images, maps, kernels, height, width, size, pad, groups
    "conv2": (4, 96, 128, 5, 27, 5, 2, 2),
    "conv3": (6, 64, 96, 13, 13, 3, 1, 1),
    "three groups": (8, 96, 96, 5, 4, 3, 1, 3),
    "more images than tiles are laid out for at a time": (17, 32, 32, 3, 4, 3, 1, 1),
    "more squares than are at the points at a time": (130, 16, 32, 3, 4, 3, 1, 1),
}


@pytest.fixture(params=[TILES, POINTS, HALF_POINTS], ids=["tiles", "points", "points in bf16"])
def form(request, monkeypatch):
    """Where it can be computed, and whatever it is worth."""
    if request.param is TILES and not there_are_tiles():
        pytest.skip("this processor has no tiles of bf16, or they are not allowed")
    if not AVAILABLE:
        pytest.skip("Numba is not installed or switched off")
    monkeypatch.setattr(request.param.code, "worth_it", lambda *_: True)
    return request.param


def given_for(form, case):
    images, maps, kernels, height, width, size, _, groups = CASES[case]
    drawn = numbers(images, maps, height, width), numbers(kernels, maps // groups, size, size, seed=1)
    return [each.to(form.kind) for each in (*drawn, numbers(kernels, seed=2))]


def test_in_any_layout(form):
    x, weight, bias = given_for(form, "conv3")
    exact = F.conv2d(x.double(), weight.double(), bias.double(), padding=1)
    kernels, maps, *size = weight.shape
    odd = torch.cat([weight[0, 0, 0, :1], weight.permute(0, 2, 3, 1).flatten()])[1:].view(kernels, *size, maps)
    of_x = (
        x,
        x.contiguous(memory_format=torch.channels_last),
        x.repeat(1, 1, 1, 2)[..., :13],
        x[:, :, ::1].flip(0).flip(0),
    )
    for own in of_x:
        for kernel in (weight, weight.contiguous(memory_format=torch.channels_last), odd.permute(0, 3, 1, 2)):
            for some in (bias, torch.stack([bias, bias], 1)[:, 0]):
                assert_near([convolution(own, kernel, some, stride=1, pad=(1, 1), groups=1)], [exact], form.bound)
    same = bias[:1].expand(kernels)
    exact = F.conv2d(x.double(), weight.double(), same.double(), padding=1)
    assert_near([convolution(x, weight, same, stride=1, pad=(1, 1), groups=1)], [exact], form.bound)


def test_what_has_no_result_stays_pytorchs_error(form):
    x, weight, bias = given_for(form, "conv3")
    other = torch.float64
    wrong = (
        (x[:, :48], weight, bias),
        (torch.cat([x, x], 1), weight, bias),
        (x, weight, bias[:8]),
        (x, weight, bias[:, None]),
        (x, weight.to(other), bias),
        (x, weight, bias.to(other)),
    )
    for given in wrong:
        with pytest.raises(RuntimeError):
            convolution(*given, stride=1, pad=(1, 1), groups=1)


@pytest.mark.parametrize("case", CASES)
def test_any_number_of_threads_gives_the_same(form, case):
    *_, pad, groups = CASES[case]
    given, before, results = given_for(form, case), torch.get_num_threads(), []
    for threads in (1, 2, 5, 16):
        torch.set_num_threads(threads)
        results.append(with_gradients(lambda *of: StrideOne.apply(form.code, *of, pad, groups, True), given, form.kind))
        torch.set_num_threads(before)
    for own in results[1:]:
        both = zip(own[form.own], results[0][form.own], strict=True)
        assert all(torch.equal(one, other) for one, other in both)


def test_only_the_gradients_that_are_asked_for_are_computed(form, monkeypatch):
    backward, seen = form.code.backward, []
    monkeypatch.setattr(form.code, "backward", lambda *of: seen.append(1) or backward(*of))
    given = given_for(form, "conv3")
    for asked in ((True, False, False), (False, True, False), (False, True, True), (False, False, True), (True,) * 3):
        leaves = [each.clone().requires_grad_(wanted) for each, wanted in zip(given, asked, strict=True)]
        result = StrideOne.apply(form.code, *leaves, 1, 1, False).sum()
        seen.clear()
        with Counted() as counted:
            result.backward()
        assert [each.grad is not None for each in leaves] == list(asked)
        assert seen == [1] * asked[0]
        pytorchs = any(asked[1:]) if form is TILES else asked == (False, False, True)
        assert counted.asked == [(False, *asked[1:])] * pytorchs


@pytest.mark.parametrize("case", ["conv2", "conv3"])
def test_its_gradient_is_differentiated_again(form, case):
    *_, pad, groups = CASES[case]

    def of_gradients(compute, kind):
        given = [each.to(kind).requires_grad_() for each in given_for(form, case)]
        first = torch.autograd.grad(compute(*given).square().mean(), given, create_graph=True)
        return torch.autograd.grad(sum(each.square().mean() for each in first), given)

    ours = of_gradients(lambda *of: StrideOne.apply(form.code, *of, pad, groups, False), form.kind)
    plain = of_gradients(lambda *of: F.conv2d(*of, padding=pad, groups=groups), torch.float64)
    assert_near(ours, plain, form.twice)


def test_many_gradients_at_once(form):
    *_, pad, groups = CASES["conv2"]
    given = [each.requires_grad_() for each in given_for(form, "conv2")]
    y = StrideOne.apply(form.code, *given, pad, groups, True)
    some = torch.stack([numbers(*y.shape, seed=seed).to(form.kind) for seed in (5, 6)])
    found = torch.func.vmap(lambda g: torch.autograd.grad(y, given, g, retain_graph=True))(some)
    for number, g in enumerate(some):
        one_by_one = torch.autograd.grad(y, given, g, retain_graph=True)
        assert_near([each[number] for each in found], one_by_one, 4 * form.bound)
