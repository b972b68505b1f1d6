"""What follows a convolution, at once: against PyTorch's operations one after the other in float64, which
test_response_norm and test_operations hold against slow loops; both ways are tested, compiled and not."""

import pytest
import torch
from torch.autograd import gradcheck

from alexnet.kernels import after_convolution
from alexnet.kernels.after_convolution import RECTIFIED, Following
from alexnet.kernels.compiled import AVAILABLE

PAPER, AS_RUN, CAFFE = (2, 5, 2.0, 1e-4, 0.75), (2, 5, 2.0, 2e-5, 0.75), (1, 5, 1.0, 2e-5, 0.75)
EVERY = {
    "paper, layers 1 and 2": Following(True, PAPER, (3, 2)),
    "2012, layer 1": Following(False, AS_RUN, (3, 2), last=True),
    "2012, layer 2": Following(True, AS_RUN),
    "2012, layer 5": Following(False, pool=(3, 2), last=True),
    "2012 without overlap": Following(False, AS_RUN, (2, 2), last=True),
    "caffe": Following(True, CAFFE, (3, 2)),
    "caffenet, pooling first": Following(True, pool=(3, 2)),
    "normalization alone": Following(norm=CAFFE),
    "pooling alone": Following(pool=(3, 2)),
    "rectifier alone": Following(True),
    "CIFAR-10's 9 maps": Following(True, (1, 9, 1.0, 0.001 / 9, 0.75), (3, 2)),
    "9 maps, no pooling": Following(True, (1, 9, 1.0, 0.001 / 9, 0.75)),
    "a rectifier behind, no pooling": Following(norm=CAFFE, last=True),
    "an even window, another power": Following(True, (2, 4, 1.0, 0.3, 0.5), (2, 1)),
    "a window wider than the tower": Following(False, (2, 20, 2.0, 0.01, 1.0), (3, 3), last=True),
}
each = pytest.mark.parametrize("what", EVERY.values(), ids=EVERY.keys())


@pytest.fixture(params=["compiled", "plain"])
def way(request, monkeypatch):
    if request.param == "plain":
        monkeypatch.setattr(after_convolution, "way", lambda x: "plain")
    elif not AVAILABLE:
        pytest.skip("Numba is not installed or switched off")


def activities(*shape, seed=0, size=60.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, dtype=torch.float64, generator=generator) * size).to(dtype)


def both(what, x, seed=1):
    """Result and gradient: ours on `x`, and the plain ones on the same numbers in float64."""
    ours, plain = x.detach().clone().requires_grad_(), x.detach().double().clone().requires_grad_()
    result, exact = what(ours), what.plainly(plain)
    g = activities(*exact.shape, seed=seed, size=1).to(x.dtype)
    result.backward(g)
    exact.backward(g.double())
    return result.detach().double(), exact.detach(), ours.grad.double(), plain.grad


# maps, height, width: exact fits, windows that hang over, maps below a window's size, one pixel
@each
@pytest.mark.parametrize("sides", [(12, 7, 9), (96, 13, 12), (2, 5, 5), (8, 2, 3), (66, 6, 27)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_values_and_gradients_are_those_of_the_operations_one_by_one(way, what, sides, dtype):
    bound = 1e-12 if dtype == torch.float64 else 3e-6
    for images in (1, 3):
        result, exact, gradient, exact_gradient = both(what, activities(images, *sides, dtype=dtype))
        torch.testing.assert_close(result, exact, rtol=bound, atol=bound * 0.01)
        torch.testing.assert_close(gradient, exact_gradient, rtol=bound, atol=bound)


@each
def test_bf16_costs_one_rounding_in_value_and_gradient(way, what):
    unit = 2**-8
    distinct = torch.randperm(3 * 12 * 6 * 7, generator=torch.Generator().manual_seed(0))  # no ties but at zero
    x = ((distinct - 700) / 64).reshape(3, 12, 6, 7).to(torch.bfloat16)
    result, exact, gradient, exact_gradient = both(what, x)
    torch.testing.assert_close(result, exact, rtol=1.01 * unit, atol=1e-6)
    if what.pool[0] == 1:  # bf16 makes ties, and which of two equal activities wins is anybody's choice
        torch.testing.assert_close(gradient, exact_gradient, rtol=1.01 * unit, atol=1e-6)


def test_one_map_and_no_towers(way):
    what = Following(True, CAFFE, (3, 2))
    result, exact, gradient, exact_gradient = both(what, activities(2, 1, 5, 6))
    torch.testing.assert_close(result, exact)
    torch.testing.assert_close(gradient, exact_gradient)


@pytest.mark.parametrize("what", [EVERY["paper, layers 1 and 2"], EVERY["2012, layer 1"], EVERY["2012, layer 2"]])
def test_the_gradient_is_the_values_own(way, what):
    heavy = what._replace(norm=(*what.norm[:3], 0.3, 0.75))  # so that the sum of squares weighs as much as k
    assert gradcheck(heavy, activities(2, 6, 4, 5, size=1).requires_grad_())


@pytest.mark.skipif(not AVAILABLE, reason="Numba is not installed or switched off")
def test_a_result_may_be_changed_in_place():
    for what in set(EVERY.values()) - {RECTIFIED}:  # whose gradient PyTorch computes from the result
        x = activities(2, 6, 5, 7).requires_grad_()
        what(x).mul_(2).sum().backward()
        assert x.grad.shape == x.shape


@each
def test_the_layout_in_memory_changes_nothing(way, what):
    x = activities(2, 6, 5, 7)
    spread = torch.zeros(2, 6, 5, 14, dtype=x.dtype)
    spread[..., ::2] = x
    plain = what.plainly(x)
    for laid in (x.contiguous(memory_format=torch.channels_last), spread[..., ::2], x.transpose(2, 3).contiguous().mT):
        given = laid.detach().requires_grad_()
        result = what(given)
        torch.testing.assert_close(result, plain, rtol=1e-12, atol=1e-12)
        result.sum(dim=(2, 3)).square().sum().backward()  # a gradient that is not channels last
        torch.testing.assert_close(given.detach(), x, rtol=0, atol=0)  # what was given keeps its values
    assert given.grad.shape == x.shape


@each
def test_what_is_not_a_number_is_not_hidden(way, what):
    x = activities(2, 6, 5, 5, dtype=torch.float32)
    x[0, 2, 2, 2] = torch.nan
    result = what(x)
    assert result[0, 2].isnan().any() and result[1].isfinite().all()


def test_of_equal_activities_the_first_wins(way):
    x = torch.ones(1, 2, 5, 5, requires_grad=True)
    Following(pool=(3, 2))(x).sum().backward()
    expected = torch.zeros(5, 5)
    expected[[0, 0, 2, 2], [0, 2, 0, 2]] = 1
    assert torch.equal(x.grad[0, 0], expected)


def test_no_images_are_refused(way):
    with pytest.raises(ValueError, match="no images"):
        Following(True)(torch.zeros(0, 4, 5, 5))


def test_maps_that_towers_cannot_share_are_refused(way):
    for maps in (1, 33):
        with pytest.raises(ValueError, match=rf"^{maps} maps: cannot be shared by 2 towers that are normalized apart$"):
            Following(norm=PAPER)(torch.zeros(2, maps, 5, 5))


@each
def test_any_number_of_threads_gives_the_same_bits(what):
    x, before, results = activities(5, 12, 9, 9, dtype=torch.float32), torch.get_num_threads(), []
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        results.append(torch.cat([both(what, x)[0].flatten(), both(what, x)[2].flatten()]))
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


@pytest.mark.parametrize(("size", "stride", "side"), [(15, 7, 17), (16, 16, 16), (17, 17, 17), (2, 3, 9)])
def test_windows_larger_than_a_byte_can_tell_and_strides_beyond_them_are_computed_plainly(way, size, stride, side):
    what = Following(pool=(size, stride), last=True)
    for x in (activities(2, 3, side, side), -activities(2, 3, side, side).abs()):
        result, exact, gradient, exact_gradient = both(what, x)
        assert torch.equal(result, exact) and torch.equal(gradient, exact_gradient)


def test_what_is_not_a_number_stays_in_its_image(way):
    for what in (Following(norm=(2, 5, 1.0, 2e-5, 0.75)), Following(True, (2, 5, 1.0, 2e-5, 0.75), (3, 2))):
        x = activities(3, 6, 5, 5, dtype=torch.float32).requires_grad_()
        y = what(x)
        g = torch.ones_like(y)
        g[0, 2, 0, 0] = float("nan")
        y.backward(g)
        assert not x.grad[1:].isnan().any()


@pytest.mark.parametrize("sides", [(1, 5), (5, 1), (1, 1)])
def test_maps_without_room_for_a_window_are_refused(way, sides):
    with pytest.raises((ValueError, RuntimeError), match=r"no place|too small"):
        Following(True, pool=(3, 2))(activities(1, 16, *sides))


def test_what_is_not_a_number_has_its_gradient_at_the_edge_too(way):
    for place in ((3, 5), (5, 5), (0, 1)):
        x, plain = (torch.zeros(1, 16, 6, 6).requires_grad_() for _ in range(2))
        for each, compute in ((x, Following(pool=(3, 2))), (plain, Following(pool=(3, 2)).plainly)):
            with torch.no_grad():
                each[0, 2, *place] = torch.nan
            compute(each).sum().backward()
        assert torch.equal(x.grad, plain.grad)
