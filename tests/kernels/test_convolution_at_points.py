"""Convolutions by minimal filtering, in float32 and bf16, against PyTorch's own in float64."""

import pytest
import torch
from torch.nn import functional as F

from alexnet.kernels import convolution as module
from alexnet.kernels import (
    convolution_at_points,
    convolution_on_tiles,
    winograd_numba,
    winograd_weights_numba,
)
from alexnet.kernels.compiled import AVAILABLE
from alexnet.kernels.convolution import convolution
from alexnet.kernels.stride_one import StrideOne
from gradients import Counted, assert_near, numbers, with_gradients

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="Numba is not installed or switched off")
# For kernels of 3, over hundreds of maps, and of 5; PyTorch's own are within 1e-6.
BOUND, MANY_MAPS, WIDER = 3e-6, 4e-6, 1e-5
CASES = {  # images, maps, kernels, height, width, size, pad, groups
    "conv1 over blocks": (4, 48, 96, 9, 57, 3, 0, 1),
    "conv2": (4, 96, 256, 5, 27, 5, 2, 2),
    "conv3": (9, 64, 96, 13, 13, 3, 1, 1),
    "conv3 of the paper": (3, 256, 384, 13, 13, 3, 1, 1),
    "one-weird-trick's conv4": (3, 384, 256, 13, 13, 3, 1, 1),
    "conv4": (8, 128, 64, 4, 13, 3, 1, 2),
    "one image": (1, 32, 32, 7, 7, 3, 1, 1),
    "many images": (37, 16, 32, 3, 5, 3, 1, 1),
    "sixteen maps": (4, 16, 32, 6, 6, 3, 1, 1),
    "eighty maps": (4, 80, 160, 6, 9, 5, 2, 1),
    "three groups": (8, 96, 96, 5, 4, 3, 1, 3),
    "no zeros around": (4, 48, 64, 7, 21, 5, 0, 1),
    "zeros on all that a kernel sees": (9, 32, 32, 3, 4, 5, 4, 1),
    "one place": (4, 32, 32, 3, 3, 3, 0, 1),
    "a tower of conv1": (4, 48, 48, 9, 57, 3, 0, 1),
    "one pixel": (9, 32, 64, 1, 1, 5, 2, 1),
    "a narrow image": (8, 32, 32, 40, 2, 3, 1, 1),
}


def given_for(case):
    images, maps, kernels, height, width, size, _, groups = case
    drawn = numbers(images, maps, height, width), numbers(kernels, maps // groups, size, size, seed=1)
    return [each.float() for each in (*drawn, numbers(kernels, seed=2))]


def at_points(*given):
    return StrideOne.apply(convolution_at_points, *given)


@pytest.fixture
def whatever_it_is_worth(monkeypatch):
    monkeypatch.setattr(convolution_at_points, "worth_it", lambda *_: True)


@pytest.mark.usefixtures("whatever_it_is_worth")
@pytest.mark.parametrize("rectified", [False, True])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_at_points_it_is_the_convolution_and_so_are_its_gradients(monkeypatch, case, rectified):
    _, maps, *_, size, pad, groups = case
    calls, bound = [], WIDER if size == 5 else MANY_MAPS if maps > 128 else BOUND
    monkeypatch.setattr(
        module, "StrideOne", type("Seen", (), {"apply": lambda *of: calls.append(of[0]) or StrideOne.apply(*of)})
    )

    def ours(x, weight, bias):
        return convolution(x, weight, bias, stride=1, pad=(pad, pad), groups=groups, rectified=rectified)

    own = with_gradients(ours, given_for(case), torch.float32)

    def plainly(x, weight, bias):
        y = F.conv2d(x, weight, bias, padding=pad, groups=groups)
        return y * (own[0] > 0) if rectified else y  # what is nearly 0 may round to either side

    assert_near(own, with_gradients(plainly, given_for(case), torch.float64), bound)
    assert calls == [convolution_at_points]
    assert own[0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_an_image_has_the_same_results_in_any_company(kind):
    """Bit for bit, whatever the others are, and wherever it is."""
    x, weight, bias = (each.to(kind) for each in given_for((9, 64, 96, 13, 13, 3, 1, 1)))
    g = numbers(9, 96, 13, 13, seed=9).to(kind)

    def of(x, g, which):
        x.requires_grad_()
        y = at_points(x, weight, bias, 1, 1, True)
        return y[which].detach(), torch.autograd.grad(y, x, g)[0][which]

    expected = of(x.clone(), g, 8)
    large = torch.tensor([1e9, torch.nan, *[1.0] * 6, 1.0], dtype=kind)[:, None, None, None]
    for own in (of(x * large, g * large, 8), of(x.flip(0), g.flip(0), 0)):
        assert all(torch.equal(one, other) for one, other in zip(own, expected, strict=True))


def test_whole_numbers_are_next_to_exact():
    x, weight, bias = (numbers(*shape).sign().float() for shape in ((8, 48, 7, 9), (32, 48, 3, 3), (32,)))
    exact = F.conv2d(x.double(), weight.double(), bias.double(), padding=1)
    assert exact.abs().max() > 50
    assert (at_points(x, weight, bias, 1, 1, False) - exact).abs().max() < 4e-4


@pytest.mark.parametrize(("kind", "side"), [(torch.float32, 10), (torch.bfloat16, 7)])
def test_what_is_not_a_number_is_not_hidden_and_goes_no_further_than_its_square(kind, side):
    x, weight, bias = (each.to(kind) for each in given_for((4, 48, 32, 13, 13, 3, 1, 1)))
    x[1, 40, 4, 4] = torch.nan
    found = at_points(x, weight, bias, 1, 1, True).isnan()
    assert found[1, :, 3:6, 3:6].all()
    found[1, :, :side, :side] = False
    assert not found.any()
    x, weight, bias = (each.to(kind) for each in given_for((9, 64, 96, 13, 13, 3, 1, 1)))
    x[4] = torch.inf
    found = at_points(x, weight, bias, 1, 1, True).isfinite().flatten(1).all(1)
    assert found.tolist() == [image != 4 for image in range(9)]


@pytest.mark.parametrize(
    ("shape", "kernels", "size", "pad", "groups", "worth"),
    [
        ((128, 256, 13, 13), 384, 3, 1, 1, True),
        ((8, 96, 27, 27), 256, 5, 2, 2, True),
        ((7, 256, 13, 13), 384, 3, 1, 1, False),
        ((128, 16, 16, 16), 64, 5, 2, 1, False),
        ((128, 256, 6, 6), 4096, 6, 0, 1, False),
        ((128, 256, 1, 3), 384, 3, 1, 1, False),
        ((128, 256, 13, 13), 384, 1, 0, 1, False),
        ((8, 40, 13, 13), 64, 3, 1, 1, False),
        ((8, 64, 13, 13), 56, 3, 1, 1, False),
        ((8, 64, 2, 2), 64, 3, 0, 1, False),
        ((8, 64, 9, 9), 64, 3, 3, 1, False),
    ],
    ids=[
        "conv3", "conv2", "few images", "few maps", "kernels of six", "few places", "kernels of one", "no sixteens",
        "no vectors of kernels", "no place", "zeros that no kernel needs",
    ],
)  # fmt: skip
def test_points_are_for_what_is_worth_it(monkeypatch, shape, kernels, size, pad, groups, worth):
    calls = []
    monkeypatch.setattr(module, "StrideOne", type("Seen", (), {"apply": lambda *_: calls.append(1)}))
    monkeypatch.setattr(F, "conv2d", lambda *_, **__: None)
    x, weight = torch.zeros(shape), torch.zeros(kernels, shape[1] // groups, size, size)
    convolution(x, weight, torch.zeros(kernels), stride=1, pad=(pad, pad), groups=groups)
    assert calls == [1] * worth


def test_squares_are_shared_out_to_all_threads_as_evenly_as_whole_blocks_allow(monkeypatch):
    counted, rows = [], winograd_numba.ROWS
    monkeypatch.setattr(winograd_numba, "on_all_cores", lambda kernel, count, *_: counted.append((kernel, count)))
    weight, bias = torch.zeros(32, 16, 3, 3), torch.zeros(32)
    for images in (1, 8, 29, 128):
        winograd_numba.forward(torch.zeros(images, 16, 13, 13), weight, bias, 1, 1, False)
        kernel, blocks = counted[-1]
        assert kernel is winograd_numba._forward
        assert blocks == -(-9 * images // rows)  # of which each thread has as many, but for one


@pytest.mark.parametrize(("groups", "maps", "kernels"), [(1, 48, 96), (2, 192, 128), (3, 16, 32)])
def test_sums_are_shared_out_to_all_threads(groups, maps, kernels):
    before = torch.get_num_threads()
    for threads in (1, 2, 3, 8, 64):
        torch.set_num_threads(threads)
        of_maps, of_kernels = winograd_weights_numba.shared_out(groups, maps, kernels)
        torch.set_num_threads(before)
        assert of_maps <= maps // 16
        assert of_kernels <= kernels // 16
        assert groups * of_maps * of_kernels >= min(threads, groups * (maps // 16) * (kernels // 32) // 4)


@pytest.mark.skipif(winograd_numba.WIDTHS[0] == 1, reason="here kernels go by sixteens")
def test_sums_are_shared_out_so_that_no_thread_waits_for_another(monkeypatch):
    """conv1 over blocks has three times sixteen maps, and twice forty-eight kernels."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert winograd_weights_numba.shared_out(1, 48, 96) == (1, 2)


def test_maps_that_make_no_whole_vectors_have_pytorchs_gradient_for_what_went_in():
    given = given_for((8, 16, 32, 6, 6, 3, 1, 1))
    fits_back = winograd_numba.fits_back(given[1], 1)
    with Counted() as counted:
        own = with_gradients(lambda *of: at_points(*of, 1, 1, True), given, torch.float32)
    assert counted.asked == [(True, False, False)] * (not fits_back)
    exact = with_gradients(lambda *of: F.conv2d(*of, padding=1) * (own[0] > 0), given, torch.float64)
    assert_near(own, exact, BOUND)


@pytest.mark.parametrize("case", CASES)
def test_bf16_is_widened_and_rounded_once(case):
    """Without tiles it, too, comes here. Few results are not next to exact ones: the arithmetic is hardly seen."""
    *_, size, pad, groups = CASES[case]
    given = [each.bfloat16() for each in given_for(CASES[case])]
    own = with_gradients(lambda *of: at_points(*of, pad, groups, True), given, torch.bfloat16)

    def plainly(x, weight, bias):
        return F.conv2d(x, weight, bias, padding=pad, groups=groups) * (own[0] > 0)

    exact = with_gradients(plainly, given, torch.float64)
    assert all(each.dtype == torch.bfloat16 for each in own)
    assert_near(own, exact, 2**-8)
    for one, other in zip(own, exact, strict=True):
        off = (one != other.bfloat16()) & (other != 0)
        assert off.double().mean() < (0.015 if size == 3 else 0.045)


@pytest.mark.parametrize(
    ("tiles", "images", "side", "size", "worth"),
    [
        (False, 128, 27, 5, True),
        (False, 128, 13, 3, True),
        (False, 16, 13, 3, True),
        (False, 15, 13, 3, False),
        (False, 128, 11, 3, False),
        (True, 128, 27, 5, False),
    ],
    ids=["conv2", "conv4", "few images", "too few", "squares half empty", "tiles"],
)
def test_in_bf16_points_are_for_full_squares_of_many_images_where_there_are_no_tiles(
    monkeypatch, tiles, images, side, size, worth
):
    calls = []
    monkeypatch.setattr(module, "there_are_tiles", lambda: tiles)
    monkeypatch.setattr(convolution_on_tiles, "fits", lambda *_: False)
    monkeypatch.setattr(module, "StrideOne", type("Seen", (), {"apply": lambda *of: calls.append(of[0])}))
    monkeypatch.setattr(F, "conv2d", lambda *_, **__: None)
    x, weight = torch.zeros(images, 384, side, side), torch.zeros(384, 192, size, size)
    given = [each.bfloat16() for each in (x, weight, torch.zeros(384))]
    convolution(*given, stride=1, pad=(size // 2, size // 2), groups=2)
    assert calls == [convolution_at_points] * worth


@pytest.mark.usefixtures("whatever_it_is_worth")
def test_towers_gradients_for_what_both_read_add_up():
    given = given_for(CASES["conv3"])

    def ours(towers):
        return with_gradients(
            lambda *of: convolution(*of, stride=1, pad=(1, 1), groups=1, rectified=True, towers=towers),
            given,
            torch.float32,
        )

    whole, added = ours(1), ours(3)
    assert torch.equal(added[0], whole[0]) and not torch.equal(added[1], whole[1])
    assert_near(added, whole, BOUND)


def test_many_images_first_layer_goes_from_blocks_to_points_even_where_nothing_is_learnt(monkeypatch):
    """11 x 11 kernels in steps of 4 are 3 x 3 over blocks."""
    calls = []
    monkeypatch.setattr(
        module, "StrideOne", type("Seen", (), {"apply": lambda *of: calls.append(of[1].shape) or StrideOne.apply(*of)})
    )
    x, weight, bias = numbers(16, 3, 99, 99).float(), numbers(96, 3, 11, 11, seed=1).float(), numbers(96).float()
    own = convolution(x, weight, bias, stride=4, pad=(0, 3), groups=1)
    exact = F.conv2d(F.pad(x.double(), (0, 3, 0, 3)), weight.double(), bias.double(), stride=4)
    assert_near([own], [exact], BOUND)
    assert calls == [(16, 48, 25, 25)]
