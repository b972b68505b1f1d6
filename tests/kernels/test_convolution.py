"""Convolutions over blocks of pixels and fully connected layers, against PyTorch's own in float64."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional as F

from alexnet.kernels import choice, in_blocks
from alexnet.kernels.compiled import AVAILABLE
from alexnet.kernels.convolution import convolution
from gradients import assert_near, numbers, with_gradients

compiled = pytest.mark.skipif(not AVAILABLE, reason="Numba is not installed or switched off")
KINDS = pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 2**-7)]
)
CASES = {  # images, maps, height, width, size, pad
    "paper": (2, 3, 224, 224, 11, (0, 3)),
    "caffe": (2, 3, 227, 227, 11, (0, 0)),
    "one-weird-trick": (2, 3, 224, 224, 11, (2, 2)),
    "a whole image for ten views": (1, 3, 256, 256, 11, (0, 3)),
    "one place": (1, 3, 11, 12, 11, (0, 0)),
    "lines that no kernel reaches": (3, 3, 30, 21, 11, (0, 0)),
    "one map": (1, 1, 31, 19, 5, (1, 2)),
    "kernels smaller than a block": (2, 4, 9, 10, 3, (3, 0)),
    "many maps": (2, 5, 20, 20, 5, (1, 2)),
}


@KINDS
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_convolution_over_blocks_is_the_convolution(case, dtype, bound):
    images, maps, height, width, size, pad = case
    given = numbers(images, maps, height, width), numbers(6, maps, size, size, seed=1), numbers(6, seed=2)
    given = [each.to(dtype) for each in given]

    def plainly(x, weight, bias):
        return F.conv2d(F.pad(x, (*pad, *pad)), weight, bias, stride=4)

    ours = with_gradients(lambda *of: convolution(*of, stride=4, pad=pad, groups=1), given, dtype)
    assert_near(ours, with_gradients(plainly, given, torch.float64), bound)


@compiled
@pytest.mark.parametrize(("maps", "blocks"), [(3, True), (5, False)])
def test_few_maps_come_in_blocks(monkeypatch, maps, blocks):
    seen = []
    monkeypatch.setattr(F, "conv2d", lambda x, *_, **__: seen.append(tuple(x.shape)))
    weight = numbers(8, maps, 11, 11).requires_grad_()
    convolution(numbers(1, maps, 227, 227), weight, numbers(8), stride=4, pad=(0, 0), groups=1)
    assert seen == [(1, 48, 57, 57) if blocks else (1, 5, 227, 227)]


@compiled
def test_the_blocks_gradient_is_its_own():
    def few(x, weight, bias):
        return convolution(x, weight, bias, stride=4, pad=(1, 2), groups=1)

    given = numbers(2, 2, 6, 9), numbers(3, 2, 5, 5, seed=1), numbers(3, seed=2)
    given = [each.requires_grad_() for each in given]
    assert gradcheck(few, given) and gradgradcheck(few, given)


def test_images_in_any_layout_and_under_autocast():
    x, weight, bias = numbers(2, 6, 30, 30, dtype=torch.float32), numbers(4, 3, 11, 11), numbers(4)
    weight, bias = weight.float(), bias.float()
    for given in (x[:, ::2], x[:, :3], x.contiguous(memory_format=torch.channels_last)[:, :3, 3:, 2:]):
        exact = F.conv2d(given.double(), weight.double(), bias.double(), stride=4)
        assert_near([convolution(given, weight, bias, stride=4, pad=(0, 0), groups=1)], [exact], 1e-5)
        with torch.autocast("cpu", torch.bfloat16):
            half = convolution(given, weight, bias, stride=4, pad=(0, 0), groups=1)
        assert half.dtype == torch.bfloat16
        assert_near([half], [exact], 2**-7)


@pytest.mark.parametrize("products", [torch.bfloat16, torch.float16])
def test_float64_stays_that_under_autocast_and_float16_is_pytorchs(products):
    x, weight, bias = numbers(2, 3, 15, 15), numbers(4, 3, 11, 11).requires_grad_(), numbers(4)
    with torch.autocast("cpu", products):
        assert convolution(x, weight, bias, stride=4, pad=(0, 0), groups=1).dtype == torch.float64
        narrow = convolution(x.float(), weight.float(), bias.float(), stride=4, pad=(0, 0), groups=1)
    assert narrow.dtype == products


@compiled
def test_a_gradient_for_pixels_that_padding_alone_reaches():
    x, weight = numbers(1, 1, 1, 1).requires_grad_(), numbers(2, 1, 3, 3, seed=1).requires_grad_()
    assert gradcheck(lambda *of: convolution(*of, numbers(2), stride=4, pad=(5, 0), groups=1), (x, weight))


def test_no_place_for_a_kernel_and_no_images_end_as_in_pytorch():
    weight, bias = numbers(4, 3, 11, 11), numbers(4)
    with pytest.raises(RuntimeError, match="Kernel size"):
        convolution(numbers(1, 3, 7, 7), weight, bias, stride=4, pad=(0, 3), groups=1)
    none = convolution(numbers(0, 3, 27, 27), weight, bias, stride=4, pad=(0, 0), groups=1)
    assert none.shape == (0, 4, 5, 5)


@compiled
def test_any_number_of_threads_gives_the_same_blocks():
    x, before, results = numbers(5, 3, 40, 40, dtype=torch.float32), torch.get_num_threads(), []
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        results.append(in_blocks.InBlocks.apply(x, torch.bfloat16, (0, 3), 11))
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


@compiled
@pytest.mark.skipif(not choice.TRITON or torch.cuda.is_available(), reason="Triton's interpreter, where no GPU is")
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_gpus_blocks_are_the_processors(case):
    from alexnet.kernels import in_blocks_triton

    images, maps, height, width, size, pad = case
    height, width = min(height, 50), min(width, 40)
    x = numbers(images, maps, height, width, dtype=torch.float32).contiguous(memory_format=torch.channels_last)
    blocks = in_blocks.InBlocks.apply(x, torch.float32, pad, size)
    more = torch.full((images, blocks.shape[1] + 9, *blocks.shape[2:]), torch.nan)
    more = more.contiguous(memory_format=torch.channels_last)
    in_blocks_triton.fill(x, more, pad[0])
    assert torch.equal(more[:, : blocks.shape[1]], blocks) and not more[:, blocks.shape[1] :].any()


@compiled
@pytest.mark.parametrize("amx", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_with_the_rectifier_behind_it_the_same_bits(monkeypatch, amx, dtype):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    given = [each.to(dtype) for each in (numbers(4, 32, 13, 13), numbers(48, 16, 3, 3, seed=1), numbers(48, seed=2))]

    def computed(behind, **how):
        leaves = [each.clone().requires_grad_() for each in given]
        result = behind(convolution(*leaves, stride=1, pad=(1, 1), groups=2, **how))
        result.backward(numbers(*result.shape, seed=3).to(dtype))
        return result.detach(), *(each.grad for each in leaves)

    for one, other in zip(computed(torch.relu), computed(torch.nn.Identity(), rectified=True), strict=True):
        assert torch.equal(one, other)


@compiled
def test_a_rectifier_does_not_hide_what_is_not_a_number(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    x, bias = numbers(4, 32, 13, 13).bfloat16(), numbers(48, seed=2).bfloat16()
    weight = numbers(48, 16, 3, 3, seed=1).bfloat16().requires_grad_()
    x[1, 3, 5, 6] = torch.nan
    y = convolution(x, weight, bias, stride=1, pad=(1, 1), groups=2, rectified=True)
    assert torch.equal(y.isnan(), F.conv2d(x, weight, bias, 1, 1, groups=2).isnan()) and y[1].isnan().any()
