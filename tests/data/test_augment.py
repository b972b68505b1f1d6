"""Section 4.1: patches, reflections and colour shifts, as printed and as run: counted, measured and recomputed."""

from dataclasses import replace

import numpy as np
import pytest

from alexnet.data.augment import Alterations, Images, colour_shifts, drawn, order, view
from alexnet.data.statistics import Statistics
from alexnet.runtime.randomness import Purpose, numbers
from alexnet.training.recipes import RECIPES

AS_RUN, PAPER = RECIPES["source-2012"].images, RECIPES["paper"].images
# The author's own components, from the files of his later program: deviations of grey levels, and vectors in columns.
DEVIATIONS = np.array([19.7208, 37.0939, 121.7801])
VECTORS = np.array(
    [[0.41796, -0.81698, 0.39731], [-0.71258, -0.02354, 0.70120], [-0.56351, -0.57618, -0.59200]],
).T
COLOURS = Statistics(np.zeros((256, 256, 3), np.float32), DEVIATIONS**2, VECTORS)


def small(**changes) -> Images:
    return Images(**({"side": 9, "patch": 5, "positions": 5} | changes))


def small_statistics() -> Statistics:
    mean = np.random.default_rng(1).uniform(90, 140, (9, 9, 3)).astype(np.float32)
    return Statistics(mean, DEVIATIONS**2, VECTORS)


def squares(count: int) -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (count, 9, 9, 3), dtype=np.uint8)


def patches_of(images: Images, groups: int, epoch: int = 80) -> np.ndarray:
    """Row, column and reflection of so many patches, as one number each."""
    done = drawn(images, COLOURS, seed=1, epoch=epoch, count=groups * images.patch_shared_by)
    corners, mirrored = (each[:: images.patch_shared_by] for each in (done.corners, done.mirrored))
    assert corners.min() >= 0
    assert corners.max() + images.patch <= images.side
    return (corners[:, 0] * images.positions + corners[:, 1]) * 2 + mirrored


def alterations_equal(one: Alterations, other: Alterations) -> bool:
    pairs = ((getattr(one, name), getattr(other, name)) for name in ("corners", "mirrored", "shifts"))
    return all(np.array_equal(*pair) for pair in pairs) and one.divisor == other.divisor


@pytest.mark.parametrize(
    ("name", "distinct"),
    [
        ("source-2012", 33 * 33 * 2),
        ("paper", 32 * 32 * 2),
        ("caffe", 30 * 30 * 2),
        ("cifar-13pct", 9 * 9 * 2),
        ("cifar-18pct", 1),
    ],
)
def test_every_patch_is_as_probable_as_every_other(name, distinct):
    images = RECIPES[name].images
    found = np.unique(patches_of(replace(images, patch_shared_by=1, colour="none"), distinct * 25), return_counts=True)
    assert len(found[0]) == distinct
    chi_square = ((found[1] - 25) ** 2 / 25).sum()
    assert abs(chi_square - (distinct - 1)) <= 4 * np.sqrt(2 * (distinct - 1))


def test_2178_is_what_was_run_and_2048_is_what_was_printed():
    assert len(np.unique(patches_of(AS_RUN, 2178 * 15))) == 2178
    assert len(np.unique(patches_of(replace(PAPER, colour="none"), 2048 * 15))) == 2048


def test_positions_reach_both_edges_as_run_and_all_but_the_last_as_printed():
    for images, last in ((AS_RUN, 32), (PAPER, 31)):
        corners = drawn(images, COLOURS, seed=1, epoch=0, count=20_000).corners
        assert (corners.min(0).tolist(), corners.max(0).tolist()) == ([0, 0], [last, last])


def test_thirty_two_neighbours_share_a_patch_and_a_reflection_but_no_colour():
    done = drawn(AS_RUN, COLOURS, seed=1, epoch=0, count=32 * 40 + 5)
    groups = [slice(start, start + 32) for start in range(0, 32 * 40 + 5, 32)]
    assert len(done.corners) == len(done.mirrored) == len(done.shifts) == 32 * 40 + 5
    for group in groups:
        assert len(np.unique(done.corners[group], axis=0)) == len(set(done.mirrored[group])) == 1
    own = {(*done.corners[group.start].tolist(), bool(done.mirrored[group.start])) for group in groups}
    assert len(own) > 35  # 41 draws of 2178
    assert len(np.unique(done.shifts, axis=0)) == 32 * 40 + 5


def test_half_of_the_patches_are_mirrored_or_none():
    count = 40_000
    assert abs(drawn(PAPER, COLOURS, 1, 0, count).mirrored.mean() - 0.5) < 5 * 0.5 / count**0.5
    assert not drawn(replace(PAPER, reflections=False), COLOURS, 1, 0, count).mirrored.any()


def test_what_is_drawn_is_a_function_of_seed_and_epoch():
    first = drawn(AS_RUN, COLOURS, seed=3, epoch=4, count=1000)
    np.random.default_rng().random()
    assert alterations_equal(first, drawn(AS_RUN, COLOURS, seed=3, epoch=4, count=1000))
    for seed, epoch in ((4, 3), (3, 5), (4, 4)):
        other = drawn(AS_RUN, COLOURS, seed=seed, epoch=epoch, count=1000)
        for name in ("corners", "mirrored", "shifts"):
            assert not np.array_equal(getattr(first, name), getattr(other, name)), name


def test_patches_and_colours_are_drawn_apart():
    done, plain = (drawn(replace(AS_RUN, colour=colour), COLOURS, 1, 0, 64) for colour in ("deviation", "none"))
    assert np.array_equal(done.corners, plain.corners)
    assert np.array_equal(done.mirrored, plain.mirrored)


def test_an_epoch_shows_every_sample_once_in_a_new_order_or_in_one_order():
    shuffled, fixed = small(order="shuffled"), small(order="fixed")
    for images in (shuffled, fixed):
        for epoch in (0, 1):
            assert np.array_equal(np.sort(order(images, 1, epoch, 500)), np.arange(500))
        assert np.array_equal(order(images, 1, 1, 500), order(images, 1, 1, 500))
        assert not np.array_equal(order(images, 1, 0, 500), order(images, 2, 0, 500))
        assert not np.array_equal(order(images, 1, 0, 500), np.arange(500))
    assert not np.array_equal(order(shuffled, 1, 0, 500), order(shuffled, 1, 1, 500))
    assert np.array_equal(order(fixed, 1, 0, 500), order(fixed, 1, 7, 500))


def test_colour_shifts_have_the_deviations_of_2012():
    shifts = colour_shifts(COLOURS, "deviation", seed=1, epoch=0, count=400_000).astype(np.float64)
    assert shifts.std(axis=0) == pytest.approx([7.40, 7.20, 7.70], abs=0.03)
    assert shifts.std(axis=0) / 1.1 == pytest.approx([6.73, 6.55, 7.00], abs=0.03)
    assert np.abs(shifts.mean(axis=0)).max() < 5 * 7.7 / 400_000**0.5
    covariance = (VECTORS * (0.1 * DEVIATIONS) ** 2) @ VECTORS.T
    np.testing.assert_allclose(np.cov(shifts.T), covariance, atol=0.5)


def test_colour_shifts_read_literally_are_less_than_half_as_large():
    shifts = colour_shifts(COLOURS, "eigenvalue", seed=1, epoch=0, count=100_000).astype(np.float64)
    deviations = shifts.std(axis=0)
    assert deviations.min() > 3.25 and deviations.max() < 3.55
    alphas = numbers(1, Purpose.COLOUR, 0).standard_normal((100_000, 3))
    # On pixels between 0 and 1: eigenvalues 255^2 times smaller; 255 brings the shift back to grey levels.
    literally = 255 * (0.1 * alphas * (DEVIATIONS / 255) ** 2) @ VECTORS.T
    np.testing.assert_allclose(shifts, literally, rtol=1e-5, atol=1e-5)


def test_a_draw_of_one_along_every_component_gives_the_reference_shift():
    shifts = colour_shifts(COLOURS, "deviation", seed=1, epoch=0, count=1000).astype(np.float64)
    alphas = numbers(1, Purpose.COLOUR, 0).standard_normal((1000, 3))
    per_component = np.linalg.lstsq(alphas, shifts, rcond=None)[0]  # a shift is linear in its three draws
    np.testing.assert_allclose(alphas @ per_component, shifts, atol=1e-5)
    assert per_component.sum(axis=0) == pytest.approx([-8.6814, -8.7153, -3.8249], abs=2e-4)  # vectors of five digits


def test_colour_shifts_and_their_divisor_end_at_their_epoch():
    last, first_without = (drawn(AS_RUN, COLOURS, 1, epoch, 64) for epoch in (66, 67))
    assert (last.divisor, first_without.divisor) == (1.1, 1.0)
    assert last.shifts.any(axis=1).all()
    assert not first_without.shifts.any()
    never_ending = drawn(replace(AS_RUN, colour_until=0), COLOURS, 1, 1000, 64)
    assert never_ending.shifts.any() and never_ending.divisor == 1.1


def test_the_papers_colour_shifts_divide_nothing_and_no_colour_shifts_nothing():
    printed, plain = drawn(PAPER, COLOURS, 1, 0, 64), drawn(replace(PAPER, colour="none"), COLOURS, 1, 0, 64)
    assert printed.shifts.any() and printed.divisor == 1
    assert not plain.shifts.any() and plain.divisor == 1


def test_a_view_is_one_patch_of_every_image_and_nothing_else():
    seen = view(3, (16, 16), True)
    assert seen.corners.tolist() == [[16, 16]] * 3
    assert seen.mirrored.tolist() == [True] * 3
    assert not seen.shifts.any() and seen.shifts.shape == (3, 3)
    assert seen.divisor == 1
