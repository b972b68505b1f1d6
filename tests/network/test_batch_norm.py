"""Batch normalization over a fixed number of images: the formula, its averages, and no layout to be seen in either."""

import pytest
import torch
from torch import nn

from alexnet.network.alexnet import AlexNet
from alexnet.network.batch_norm import BatchNormalized
from alexnet.network.layers import BatchNorm
from alexnet.network.operations import Here
from company import small

MAPS, EPSILON = 3, 1e-4


def layer(images=4, kept=0.9):
    return BatchNormalized(BatchNorm("bn", images, kept, EPSILON), (MAPS, 5, 5)).double()


def activities(count, seed=0):
    scales = torch.tensor([1.0, 10.0, 0.1], dtype=torch.float64)[:, None, None]
    return (
        torch.randn(count, MAPS, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * scales + 2
    )


def stated(x, images):
    """Group by group and map by map, with the moments of all: mean and unbiased variance, weighted by images."""
    made, moments = torch.empty_like(x), torch.zeros(2, MAPS, dtype=x.dtype)
    for start in range(0, len(x), images):
        for number in range(MAPS):
            own = x[start : start + images, number]
            centred = own - own.mean()
            made[start : start + images, number] = centred / (centred.square().mean() + EPSILON).sqrt()
            variance = centred.square().sum() / (own.numel() - 1)
            moments[:, number] += torch.stack([own.mean(), variance]) * len(own) / len(x)
    return made, moments


@pytest.mark.parametrize("count", [1, 4, 10])
def test_each_group_of_images_is_normalized_by_its_own_moments(count):
    x, bn = activities(count), layer()
    expected, moments = stated(x, 4)
    torch.testing.assert_close(bn(x, 1.0), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(bn.moments, moments, rtol=1e-12, atol=1e-12)


def test_its_gradient_is_the_formulas():
    x = activities(6).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: layer()(x, 1.0), x)


def test_in_portions_it_computes_the_same_and_what_does_not_count_leaves_nothing():
    x, whole, parts = activities(10), layer(), layer()
    made = whole(x, 1.0)
    portions = [parts(x[:8], 0.8), parts(x[8:], 0.2)]
    parts(activities(1, seed=1), 0.0)
    torch.testing.assert_close(torch.cat(portions), made, rtol=0, atol=0)
    torch.testing.assert_close(parts.moments, whole.moments, rtol=1e-12, atol=1e-12)


def test_the_averages_are_plain_at_first_then_moving_and_judging_goes_by_them():
    bn, expected = layer(kept=0.75), torch.zeros(2, MAPS, dtype=torch.float64)
    for step in range(6):
        x = activities(4, seed=step)
        bn(x, 1.0)
        bn.settle(bn.moments, torch.tensor(step))
        new = max(0.25, 1 / (step + 1))
        expected = (1 - new) * expected + new * stated(x, 4)[1]
        torch.testing.assert_close(torch.stack([bn.mean, bn.variance]), expected, rtol=1e-12, atol=1e-12)
    x = activities(3, seed=9)
    judged = (x - expected[0, :, None, None]) / (expected[1, :, None, None] + EPSILON).sqrt()
    torch.testing.assert_close(bn.eval()(x), judged, rtol=1e-12, atol=1e-12)


def test_in_a_loop_of_ones_own_it_is_pytorchs():
    bn, stock = layer(images=64), nn.BatchNorm2d(MAPS, eps=EPSILON, momentum=0.1, affine=False).double()
    for step in range(3):
        x = activities(8, seed=step)
        torch.testing.assert_close(bn(x), stock(x))
    torch.testing.assert_close(bn.mean, stock.running_mean)
    torch.testing.assert_close(bn.variance, stock.running_var)
    assert set(bn.state_dict()) == {"mean", "variance"}


def test_whoever_says_which_masks_and_no_share_has_the_averages_settled():
    """A loop of one's own, with a run's masks."""
    plain, masked = (AlexNet(small("large-batch"), classes=5, seed=1).train() for _ in range(2))
    images = torch.randn(4, 3, plain.lineage.side, plain.lineage.side) * 60
    for step in range(2):
        plain(images)
        masked(images, Here(masked.masks(0, step)))
    assert masked.bn2.mean.any() and not masked.bn2.moments.any()
    torch.testing.assert_close(masked.bn2.mean, plain.bn2.mean)


def test_beginning_anew_forgets_the_averages():
    network, fresh = (AlexNet(small("large-batch"), classes=5, seed=1) for _ in range(2))
    network(torch.randn(4, 3, network.lineage.side, network.lineage.side) * 60)
    network.set_initial_values(1)
    assert all(map(torch.equal, network.state_dict().values(), fresh.state_dict().values()))
