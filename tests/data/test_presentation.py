"""From bytes to what the network sees: cut, centred, mirrored, shifted, scaled, alike one by one and all at once."""

from unittest.mock import patch

import numpy as np
import pytest
import torch

from alexnet.data import presentation
from alexnet.data.augment import Alterations, Images, drawn, view
from alexnet.data.presentation import Cut, Presentation
from alexnet.data.statistics import Statistics
from alexnet.kernels import choice

# On a GPU by Triton's interpreter if need be.
FORMS = (
    "one by one", "at once", *(["compiled"] if choice.AVAILABLE else []), *(["on a GPU"] if choice.TRITON else [])
)  # fmt: skip
WAYS = {"compiled": "numba", "on a GPU": "triton"}


def small(**changes) -> Images:
    return Images(**{"side": 9, "patch": 5, "positions": 5} | changes)


def small_statistics(side: int = 9) -> Statistics:
    random = np.random.default_rng(6)
    vectors = np.linalg.qr(random.normal(size=(3, 3)))[0]
    return Statistics(
        random.uniform(90, 150, (side, side, 3)).astype(np.float32), np.array([400.0, 1400.0, 14800.0]), vectors
    )


def squares(count: int, side: int = 9) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (count, side, side, 3)).astype(np.uint8)


def laid(patches, there):
    """Cut out of something larger, as judging has them where they are."""
    whole = torch.zeros(len(patches), *(side + 3 for side in patches.shape[1:3]), 3, dtype=torch.uint8, device=there)
    whole[:, 1:-2, 2:-1] = patches.to(there)
    return whole[:, 1:-2, 2:-1]


def presented(pictures, done, images, measured, form=FORMS[0]):
    """float32[N, patch, patch, 3], by either form."""
    size = images.patch
    cut = [one[top : top + size, left : left + size] for one, (top, left) in zip(pictures, done.corners, strict=True)]
    patches = np.stack(cut)
    on_gpu = form == "on a GPU"
    there = torch.device("cuda" if on_gpu and torch.cuda.is_available() else "cpu")
    ours = Presentation(images, measured, there)
    if form == FORMS[1]:
        ours._one_by_one = ours.at_once
    with patch.object(presentation, "way", lambda x: WAYS.get(form, "plain")):
        shown = ours(laid(torch.from_numpy(patches), there), done).cpu()
    assert shown.shape == (len(pictures), 3, size, size) and shown.is_contiguous(memory_format=torch.channels_last)
    return shown.permute(0, 2, 3, 1).numpy()


def presented_slowly(pictures: np.ndarray, done: Alterations, images: Images, mean: np.ndarray) -> np.ndarray:
    """One number at a time, in float64."""
    size, start = images.patch, (images.side - images.patch) // 2
    result = np.empty((len(pictures), size, size, 3))
    for i, row, column, channel in np.ndindex(*result.shape):
        top, left = done.corners[i]
        # Where the pixel comes from when the patch is mirrored; and which pixel of the mean image is subtracted there.
        from_column = size - 1 - column if done.mirrored[i] else column
        pixel = float(pictures[i, top + row, left + from_column, channel])
        if images.mean == "at-patch":
            subtracted = float(mean[top + row, left + from_column, channel])
        else:
            subtracted = float(mean[start + row, start + column, channel])
        result[i, row, column, channel] = (pixel - subtracted + float(done.shifts[i, channel])) / done.divisor
    return result * images.scale


@pytest.mark.parametrize("mean", ["at-patch", "centre"])
@pytest.mark.parametrize("colour", ["none", "eigenvalue", "deviation"])
@pytest.mark.parametrize("scale", [1.0, 1 / 64])
@pytest.mark.parametrize("form", FORMS)
def test_an_altered_patch_is_cut_mirrored_centred_shifted_and_divided(mean, colour, scale, form):
    images, measured, pictures = small(mean=mean, colour=colour, scale=scale), small_statistics(), squares(24)
    done = drawn(images, measured, seed=1, epoch=0, count=24)
    assert 0 < done.mirrored.sum() < 24
    before = pictures.copy()
    found = presented(pictures, done, images, measured, form)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, presented_slowly(pictures, done, images, measured.mean), rtol=1e-5, atol=2e-5)
    assert np.array_equal(pictures, before)


def test_the_mean_is_mirrored_with_its_patch_or_stays_as_it_is():
    measured, pictures = small_statistics(), squares(1)
    corner = (1, 3)
    for mirrored in (False, True):
        found = {
            mean: presented(pictures, view(1, corner, mirrored), small(mean=mean), measured)[0]
            for mean in ("at-patch", "centre")
        }
        patch = pictures[0, 1:6, 3:8].astype(np.float32)
        turn = slice(None, None, -1 if mirrored else 1)
        assert np.array_equal(found["at-patch"], (patch - measured.mean[1:6, 3:8])[:, turn])
        assert np.array_equal(found["centre"], patch[:, turn] - measured.mean[2:7, 2:7])


def test_a_sample_is_altered_by_its_own_row_whatever_stands_beside_it():
    images, measured, pictures = small(colour="deviation", patch_shared_by=4), small_statistics(), squares(12)
    done = drawn(images, measured, seed=1, epoch=0, count=12)
    together = presented(pictures, done, images, measured)
    chosen = np.array([7, 2, 2, 11])
    assert np.array_equal(presented(pictures[chosen], done.choose(chosen), images, measured), together[chosen])


def test_one_shifted_image_among_others_is_shifted():
    measured, pictures = small_statistics(), squares(3)
    done = view(3, (1, 3), False)
    plain = presented(pictures, done, small(), measured)
    done.shifts[1] = (4, -5, 6)
    shifted = presented(pictures, done, small(), measured)
    assert np.array_equal(shifted[[0, 2]], plain[[0, 2]])
    np.testing.assert_allclose(shifted[1] - plain[1], np.broadcast_to(done.shifts[1], plain[1].shape), atol=1e-4)


@pytest.mark.parametrize("mean", ["at-patch", "centre"])
@pytest.mark.parametrize("patch", [1, 5, 6, 10, 11, 21])
def test_all_forms_give_the_same_bits(mean, patch):
    """Whatever of a row is left over behind its sixteens, or its five pixels at once."""
    side = patch + 4
    images = small(mean=mean, colour="deviation", scale=1 / 57, side=side, patch=patch)
    measured = small_statistics(side)
    done = drawn(images, measured, seed=3, epoch=2, count=40)
    one, *others = (presented(squares(40, side), done, images, measured, form) for form in FORMS)
    assert others and all(np.array_equal(one, other) for other in others)


@pytest.mark.skipif(not choice.AVAILABLE, reason="nothing is compiled")
def test_rounded_to_the_kind_of_products_it_is_what_was_rounded_behind_it():
    images, measured = small(colour="deviation", side=25, patch=21), small_statistics(25)
    done = drawn(images, measured, seed=3, epoch=2, count=8)
    ours = Presentation(images, measured, torch.device("cpu"))
    cut = Cut.of(torch.from_numpy(squares(8, 21)), done)
    wide = ours.computed(cut, done.shifted, done.divisor)
    for kind in (torch.bfloat16, torch.float64):
        assert torch.equal(ours.computed(cut, done.shifted, done.divisor, kind), wide.to(kind))
