"""Convolutions on a processor's tiles, and images in pairs, against PyTorch's own in float64."""

import pytest
import torch
from torch.nn import functional as F

from alexnet.kernels import convolution as module
from alexnet.kernels import convolution_numba, convolution_on_tiles
from alexnet.kernels.compiled import AVAILABLE
from alexnet.kernels.convolution import convolution
from alexnet.kernels.laid_numba import laid_out
from alexnet.kernels.pairs_numba import in_pairs
from alexnet.kernels.stride_one import StrideOne
from alexnet.kernels.tiles_numba import there_are_tiles
from gradients import assert_near, numbers, with_gradients

tiles = pytest.mark.skipif(not there_are_tiles(), reason="this processor has no tiles of bf16, or they are not allowed")
HALF, BOUND = torch.bfloat16, 2**-7
CASES = {  # images, maps, kernels, height, width, size, pad, groups
    "conv1 over blocks": (4, 48, 96, 9, 57, 3, 0, 1),
    "conv2": (4, 96, 128, 5, 27, 5, 2, 2),
    "conv3": (6, 64, 96, 13, 13, 3, 1, 1),
    "conv4": (4, 128, 64, 4, 13, 3, 1, 2),
    "an odd number of images": (7, 32, 32, 3, 5, 3, 1, 1),
    "more than are laid out together": (17, 32, 32, 3, 4, 3, 1, 1),
    "sixteen maps": (4, 16, 32, 6, 6, 3, 1, 1),
    "sixteen more": (4, 80, 64, 6, 9, 5, 2, 1),
    "a tile and one pixel": (4, 32, 32, 3, 17, 3, 1, 1),
    "two tiles and one pixel": (4, 32, 32, 2, 33, 3, 1, 1),
    "many tiles": (4, 16, 32, 2, 130, 5, 2, 1),
    "kernels of one": (4, 48, 32, 3, 4, 1, 0, 1),
    "even kernels": (4, 32, 32, 7, 8, 4, 1, 1),
    "no zeros around": (4, 48, 64, 7, 21, 5, 0, 1),
    "zeros beyond what kernels see": (4, 32, 32, 3, 4, 3, 3, 1),
    "one place": (4, 32, 32, 3, 3, 3, 0, 1),
    "more zeros than places": (4, 32, 32, 3, 3, 3, 100, 1),
    "large kernels": (4, 32, 32, 40, 41, 40, 0, 1),
}


def on_tiles(*given):
    return StrideOne.apply(convolution_on_tiles, *given)


def given_for(case):
    images, maps, kernels, height, width, size, _, groups = case
    x = numbers(images, maps, height, width)
    return [
        each.to(HALF) for each in (x, numbers(kernels, maps // groups, size, size, seed=1), numbers(kernels, seed=2))
    ]


@pytest.fixture
def whatever_it_is_worth(monkeypatch):
    monkeypatch.setattr(convolution_on_tiles, "worth_it", lambda *_: True)


@tiles
@pytest.mark.usefixtures("whatever_it_is_worth")
@pytest.mark.parametrize("rectified", [False, True])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_on_tiles_it_is_the_convolution_and_so_are_its_gradients(monkeypatch, case, rectified):
    *_, pad, groups = case
    given, calls = given_for(case), []
    monkeypatch.setattr(
        module, "StrideOne", type("Seen", (), {"apply": lambda *of: calls.append(1) or StrideOne.apply(*of)})
    )

    def ours(x, weight, bias):
        return convolution(x, weight, bias, stride=1, pad=(pad, pad), groups=groups, rectified=rectified)

    own = with_gradients(ours, given, HALF)

    def plainly(x, weight, bias):
        y = F.conv2d(x, weight, bias, padding=pad, groups=groups)
        return y * (own[0] > 0) if rectified else y  # what is nearly 0 may round to either side

    assert_near(own, with_gradients(plainly, given, torch.float64), BOUND)
    assert calls == [1]
    assert own[0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("pad", [0, 1, 2, 100])
@pytest.mark.parametrize("size", [1, 3, 5, 40])
def test_no_tile_is_read_from_beyond_an_images_planes(size, pad):
    """By arithmetic, of what compiled code makes room for itself: nothing could stand guard there."""
    sides = [side for side in (*range(1, 70), 130, 227) if side + 2 * pad >= size]
    for maps in (16, 32, 48):
        for side in sides:
            laid, offsets = laid_out(maps, size, size + 2, side, pad)
            rows, columns = 3 + 2 * pad, side + 2 * pad - size + 1
            pixels = convolution_numba.pixels_of_a_tile(columns)
            wide = columns if columns <= 16 else 2 * pixels
            last = (rows - 1) * laid.width + (columns - 1) // wide * wide + wide - 1
            within_its_plane = offsets % laid.size
            assert within_its_plane.max() + (last + 1) * 32 <= laid.size


@tiles
def test_whole_numbers_come_out_exactly():
    """Sums of products below 2^24 are exact in float32, and multiples of 2 below 512 in bf16."""
    x, weight, bias = (numbers(*shape).sign() for shape in ((4, 48, 7, 9), (32, 48, 3, 3), (32,)))
    exact = F.conv2d(x, weight, bias, padding=1)
    own = on_tiles(x.to(HALF), weight.to(HALF), bias.to(HALF), 1, 1, False)
    assert exact.abs().max() < 256
    assert torch.equal(own.double(), exact)


@tiles
@pytest.mark.parametrize(
    ("column", "further"), [(4, [(row, 2) for row in (3, 4, 5)]), (0, [(row, 8) for row in (2, 3, 4)])]
)
def test_what_is_not_a_number_is_not_hidden_and_goes_no_further_than_one_pixel(column, further):
    x, weight, bias = given_for((4, 48, 32, 9, 9, 3, 1, 1))
    x[1, 40, 4, column] = torch.nan
    found = on_tiles(x, weight, bias, 1, 1, True).isnan()
    near = found[1, :, 3:6, max(0, column - 1) : column + 2]
    assert near.all()
    near[...] = False
    for row, beside in further:
        found[1, :, row, beside] = False
    assert not found.any()


@tiles
def test_it_is_differentiated_forwards():
    given = [each.to(HALF) for each in (numbers(128, 96, 5, 27), numbers(128, 96, 5, 5, seed=1), numbers(128))]
    assert convolution_numba.worth_it(given[0], given[1], 2)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(given[1], given[1])
        y = convolution(given[0], dual, given[2], stride=1, pad=(2, 2), groups=1)
        tangent = torch.autograd.forward_ad.unpack_dual(y).tangent
    without_bias = F.conv2d(given[0].double(), given[1].double(), padding=2)
    assert_near([tangent], [without_bias], BOUND)


@tiles
@pytest.mark.parametrize(
    ("shape", "kernels", "size", "pad", "worth"),
    [
        ((128, 256, 13, 13), 384, 3, 1, True),
        ((128, 256, 13, 13), 384, 1, 0, False),
        ((128, 32, 16, 16), 32, 5, 2, False),
        ((4, 256, 6, 6), 4096, 6, 0, False),
    ],
    ids=["conv3", "kernels of one", "little work", "few places"],
)
def test_tiles_compute_what_is_worth_laying_out(monkeypatch, shape, kernels, size, pad, worth):
    calls = []
    monkeypatch.setattr(module, "StrideOne", type("Seen", (), {"apply": lambda *_: calls.append(1)}))
    x, weight = torch.zeros(shape, dtype=HALF), torch.zeros(kernels, shape[1], size, size, dtype=HALF)
    convolution(x, weight, torch.zeros(kernels, dtype=HALF), stride=1, pad=(pad, pad), groups=1)
    assert calls == [1] * worth


@tiles
@pytest.mark.usefixtures("whatever_it_is_worth")
@pytest.mark.parametrize(
    ("kind", "shape", "kernels", "why"),
    [
        (torch.float32, (4, 32, 5, 5), 32, "tiles are for bf16"),
        (HALF, (4, 24, 5, 5), 32, "no sixteens of maps"),
        (HALF, (4, 32, 5, 5), 48, "no 32s of kernels"),
        (HALF, (1, 32, 5, 5), 32, "cores without an image"),
        (HALF, (4, 32, 2, 9), 32, "no place for a kernel"),
    ],
)
def test_what_does_not_fit_is_pytorchs(monkeypatch, kind, shape, kernels, why):
    monkeypatch.setattr(module, "StrideOne", None)
    x, weight = numbers(*shape).to(kind), numbers(kernels, shape[1], 3, 3, seed=1).to(kind)
    bias = numbers(kernels).to(kind)
    try:
        ours = convolution(x, weight, bias, stride=1, pad=(0, 0), groups=1)
    except RuntimeError:
        assert why == "no place for a kernel"
    else:
        assert_near([ours], [F.conv2d(x.double(), weight.double(), bias.double())], BOUND)


@pytest.mark.skipif(not AVAILABLE, reason="Numba is not installed or switched off")
@pytest.mark.parametrize("kind", [HALF, torch.float32])
@pytest.mark.parametrize(("maps", "gap"), [(16, 1), (5, 2), (3, 0)])
def test_two_images_lie_side_by_side(kind, maps, gap):
    x, above = numbers(6, maps, 4, 5).to(kind), numbers(6, maps, 4, 5, seed=1).to(kind)
    above[1, 0, 2, 2], above[3, 1, 1, 1] = torch.nan, 0
    for mask in (None, above):
        pairs = in_pairs(x, mask, gap)
        wanted = x if mask is None else torch.where(mask <= 0, 0, x)
        between = torch.zeros(3, maps, 4, gap, dtype=kind)
        assert torch.equal(pairs, torch.cat([wanted[::2], between, wanted[1::2]], 3))


@tiles
def test_images_in_pairs_have_the_same_weights_gradient(monkeypatch):
    laid = []
    monkeypatch.setattr(convolution_on_tiles, "in_pairs", lambda *of: laid.append(in_pairs(*of)) or laid[-1])
    for case in ("conv3", "an odd number of images", "a tile and one pixel"):
        laid.clear()
        given = given_for(CASES[case])
        own = with_gradients(lambda *of: on_tiles(*of, 1, 1, False), given, HALF)
        assert_near(own, with_gradients(lambda *of: F.conv2d(*of, padding=1), given, torch.float64), BOUND)
        assert [each.shape[3] for each in laid] == ([27, 27] if case == "conv3" else [])
