"""Section 4.1: the ten views, and the average of their probabilities, against one view at a time."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from alexnet.data.augment import Images
from alexnet.data.pictures import Pictures
from alexnet.data.squares import Squares
from alexnet.data.statistics import Statistics
from alexnet.evaluation.predictions import PORTION, predict
from alexnet.evaluation.views import probabilities, views
from alexnet.network.alexnet import AlexNet
from alexnet.network.layers import Convolution, Dropout, FullyConnected, MaxPool, Rectifier
from alexnet.network.lineages import Lineage
from alexnet.runtime.devices import Machine

CPU = Machine(torch.device("cpu"), torch.float32, "for tests")
SMALL = Images(side=16, patch=12, positions=5)
LAYERS = (
    Convolution("conv1", 4, 3),
    Rectifier("relu1"),
    MaxPool("pool1"),
    Dropout("drop1"),
    FullyConnected("fc2", 5),
)


def network() -> AlexNet:
    """Its logits differ by several units between classes and views."""
    made = AlexNet(Lineage("tiny", "", side=12, towers=1, layers=LAYERS, code="relu1"), seed=1)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(2)
    return made


def statistics(side: int) -> Statistics:
    mean = np.random.default_rng(3).uniform(90, 140, (side, side, 3)).astype(np.float32)
    return Statistics(mean, np.ones(3), np.eye(3))


def squares(count: int, side: int = 16) -> np.ndarray:
    return np.random.default_rng(4).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def probabilities_one_by_one(made: AlexNet, pictures: np.ndarray, images: Images, mean: np.ndarray, count: int):
    """Every view of every picture on its own, in float64; then their average. And the average of the logits."""
    made = copy.deepcopy(made).double().eval()
    far, centre = images.side - images.patch, (images.side - images.patch) // 2
    five = [(centre, centre)] if count == 1 else [(0, 0), (0, far), (centre, centre), (far, 0), (far, far)]
    shares, logits = np.zeros((len(pictures), 5)), np.zeros((len(pictures), 5))
    for i, picture in enumerate(pictures):
        for mirrored in (False,) if count == 1 else (False, True):
            for top, left in five:
                patch = picture[top : top + images.patch, left : left + images.patch].astype(np.float64)
                at = (top, left) if images.mean == "at-patch" else (centre, centre)
                own_mean = mean[at[0] : at[0] + images.patch, at[1] : at[1] + images.patch].astype(np.float64)
                if images.mean == "at-patch":
                    patch = patch - own_mean
                    patch = patch[:, ::-1] if mirrored else patch
                else:
                    patch = (patch[:, ::-1] if mirrored else patch) - own_mean
                x = torch.from_numpy((patch * images.scale).transpose(2, 0, 1).copy())[None]
                given = made(x).detach().numpy()[0]
                logits[i] += given / count
                shares[i] += np.exp(given) / np.exp(given).sum() / count
    return shares, np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


def test_the_ten_views_of_256_pixels_are_those_of_2012():
    five = [(0, 0), (0, 32), (16, 16), (32, 0), (32, 32)]
    assert views(Images(), 10) == [*((corner, False) for corner in five), *((corner, True) for corner in five)]
    assert views(Images(), 1) == [((16, 16), False)]


def test_the_ten_views_of_cifar_lie_in_its_corners_too():
    cifar = Images(side=32, patch=24, positions=9)
    corners = [corner for corner, mirrored in views(cifar, 10) if mirrored]
    assert corners == [(0, 0), (0, 8), (4, 4), (8, 0), (8, 8)]
    assert views(cifar, 1) == [((4, 4), False)]


@pytest.mark.parametrize("count", [1, 10])
@pytest.mark.parametrize("mean", ["at-patch", "centre"])
@pytest.mark.parametrize("scale", [1.0, 1 / 64])
def test_probabilities_are_the_average_of_each_views_softmax(count, mean, scale):
    images, made, measured, pictures = replace(SMALL, mean=mean, scale=scale), network(), statistics(16), squares(3)
    found = probabilities(made, pictures, images, measured, CPU, count)
    expected, _ = probabilities_one_by_one(made, pictures, images, measured.mean, count)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-6)
    np.testing.assert_allclose(found.sum(1).numpy(), 1, atol=1e-6)


def test_it_is_not_the_logits_that_are_averaged():
    made, measured, pictures = network(), statistics(16), squares(3)
    _, of_logits = probabilities_one_by_one(made, pictures, SMALL, measured.mean, 10)
    found = probabilities(made, pictures, SMALL, measured, CPU, 10).numpy()
    assert np.abs(found - of_logits).max() > 0.01


def test_ten_views_see_the_corners_and_one_view_does_not():
    made, measured, pictures = network(), statistics(16), squares(2)
    changed = pictures.copy()
    changed[:, 0, 0] = 255 - changed[:, 0, 0]
    one, same = (probabilities(made, each, SMALL, measured, CPU, 1) for each in (pictures, changed))
    ten, other = (probabilities(made, each, SMALL, measured, CPU, 10) for each in (pictures, changed))
    assert torch.equal(one, same)
    assert not torch.equal(ten, other)


def test_a_mirrored_picture_has_the_same_ten_views_when_its_mean_is_mirrored_too():
    made, pictures = network(), squares(2)
    measured = statistics(16)
    turned = replace(measured, mean=measured.mean[:, ::-1].copy())
    found = probabilities(made, pictures, SMALL, measured, CPU, 10)
    again = probabilities(made, pictures[:, :, ::-1].copy(), SMALL, turned, CPU, 10)
    torch.testing.assert_close(found, again, rtol=1e-5, atol=1e-6)


def test_judging_uses_the_networks_test_form_and_no_colour_shifts():
    images = replace(SMALL, colour="deviation")
    made, measured, pictures = network().train(), statistics(16), squares(2)
    first = probabilities(made, pictures, images, measured, CPU, 1)
    assert not made.training
    assert torch.equal(first, probabilities(made.train(), pictures, SMALL, measured, CPU, 1))


@pytest.mark.parametrize("count", [1, 10])
def test_every_picture_is_judged_once_and_in_order(count):
    pictures, made, measured = squares(PORTION + 3), network(), statistics(16)
    labels = np.arange(len(pictures), dtype=np.int64) % 5
    split = Squares(Pictures(labels, [str(i) for i in range(len(labels))], "", lambda i: pictures[i]), 16, "cropped")
    told = []
    judged = predict(made, split, SMALL, measured, CPU, count, lambda done, total: told.append((done, total)))
    alone = torch.cat(
        [probabilities(made, pictures[i : i + 1], SMALL, measured, CPU, count) for i in range(len(labels))]
    )
    torch.testing.assert_close(judged.probabilities, alone, rtol=1e-5, atol=1e-6)
    assert judged.labels.tolist() == labels.tolist()
    assert judged.views == count
    assert told == [(PORTION, PORTION + 3), (PORTION + 3, PORTION + 3)]


def test_where_nothing_is_mirrored_in_training_the_five_patches_are_all():
    five = views(Images(reflections=False), 10)
    assert len(five) == 5
    assert five == views(Images(), 10)[:5]


def test_a_patch_that_is_the_whole_picture_is_looked_at_once():
    whole = replace(SMALL, side=12, positions=1)
    assert views(whole, 10) == [((0, 0), False), ((0, 0), True)]
    assert views(replace(whole, reflections=False), 10) == [((0, 0), False)]
