"""The mean image and the principal components of RGB, against float64 sums over every pixel."""

from pathlib import Path

import numpy as np
import pytest

from alexnet.data.pictures import Pictures
from alexnet.data.squares import PORTION, Squares
from alexnet.data.statistics import Statistics, statistics
from alexnet.runtime.errors import BadInputError

SIDE = 6


def coloured(count: int, seed: int = 0) -> np.ndarray:
    """Pictures whose channels go together, as those of photographs do, and whose mean is not flat."""
    random = np.random.default_rng(seed)
    light = random.normal(0, 45, (count, SIDE, SIDE, 1))
    own = random.normal(0, (12, 5, 20), (count, SIDE, SIDE, 3))
    slope = np.linspace(-20, 20, SIDE)[:, None, None] * (1, 0, -1)
    return (120 + light * (1, 0.95, 0.8) + own + slope).clip(0, 255).astype(np.uint8)


def split(pictures: np.ndarray) -> Squares:
    labels, keys = np.zeros(len(pictures), np.int64), [str(i) for i in range(len(pictures))]
    return Squares(Pictures(labels, keys, "", lambda i: pictures[i]), pictures.shape[1], "cropped")


def measured(pictures: np.ndarray) -> Statistics:
    return statistics(split(pictures), lambda done, total: None)


def covariance_slowly(pictures: np.ndarray) -> np.ndarray:
    """Pixel by pixel about the mean colour, in two passes."""
    pixels = pictures.reshape(-1, 3).astype(np.float64)
    about = pixels - pixels.mean(axis=0)
    result = np.zeros((3, 3))
    for pixel in about:
        result += np.outer(pixel, pixel)
    return result / len(about)


def test_the_mean_image_is_the_mean_at_every_place():
    pictures = coloured(50)
    expected = np.zeros((SIDE, SIDE, 3))
    for picture in pictures:
        expected += picture.astype(np.float64) / 50
    found = measured(pictures).mean
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_components_are_those_of_the_pixels_covariance():
    pictures = coloured(50)
    found, covariance = measured(pictures), covariance_slowly(pictures)
    vectors = found.eigenvectors
    np.testing.assert_allclose((vectors * found.eigenvalues) @ vectors.T, covariance, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(3), atol=1e-12)
    for value, vector in zip(found.eigenvalues, vectors.T, strict=True):  # in columns
        np.testing.assert_allclose(covariance @ vector, value * vector, atol=1e-8)
    assert (np.diff(found.eigenvalues) > 1).all()  # ascending, and apart


def test_the_greatest_entry_of_every_component_is_positive():
    for seed in range(8):
        for vector in measured(coloured(10, seed)).eigenvectors.T:
            assert vector[np.abs(vector).argmax()] > 0


def test_exchanged_channels_exchange_the_components_entries():
    pictures = coloured(20)
    found, turned = measured(pictures), measured(pictures[..., ::-1].copy())
    np.testing.assert_allclose(turned.eigenvalues, found.eigenvalues, rtol=1e-12)
    np.testing.assert_allclose(turned.eigenvectors, found.eigenvectors[::-1], atol=1e-10)


def test_the_order_of_the_pictures_changes_no_bit():
    pictures = coloured(PORTION + 40)
    first = measured(pictures)
    again = measured(pictures[np.random.default_rng(1).permutation(len(pictures))])
    for name in ("mean", "eigenvalues", "eigenvectors"):
        assert np.array_equal(getattr(first, name), getattr(again, name)), name


def test_every_picture_is_counted_once_whatever_the_portions():
    for count in (1, PORTION - 1, PORTION, PORTION + 1):
        pictures, told = coloured(count), []
        found = statistics(split(pictures), lambda done, total, told=told: told.append((done, total)))
        np.testing.assert_allclose(found.mean, pictures.astype(np.float64).mean(axis=0), atol=1e-5)
        assert told == ([(PORTION, count)] if count > PORTION else []) + [(count, count)]


def test_the_brightest_pictures_are_summed_without_loss():
    pictures = np.random.default_rng(5).integers(253, 256, (8, 64, 64, 3), dtype=np.uint8)
    found = measured(pictures)
    expected = np.linalg.eigvalsh(np.cov(pictures.reshape(-1, 3).astype(np.float64).T, bias=True))
    # Squares of 255 on 4096 pixels do not fit a float32; rounded there, these small differences would be wrong.
    np.testing.assert_allclose(found.eigenvalues, expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.mean, pictures.astype(np.float64).mean(axis=0), atol=1e-5)


def test_grey_pictures_have_one_component_and_no_negative_ones():
    for seed in range(10):
        grey = np.random.default_rng(seed).integers(0, 256, (5, SIDE, SIDE, 1), dtype=np.uint8).repeat(3, axis=3)
        found = measured(grey)
        assert (found.eigenvalues >= 0).all()
        assert found.eigenvalues.tolist() == pytest.approx([0, 0, 3 * grey[..., 0].var()], abs=1e-8)
        assert found.eigenvectors[:, 2] == pytest.approx([3**-0.5] * 3)


def test_one_colour_has_no_components_to_shift_along():
    found = measured(np.full((4, SIDE, SIDE, 3), 77, np.uint8))
    assert found.eigenvalues.tolist() == pytest.approx([0, 0, 0], abs=1e-9)
    assert np.isfinite(found.eigenvectors).all()


def test_statistics_come_back_from_their_file_as_they_were(tmp_path: Path):
    found = measured(coloured(5))
    found.write(tmp_path / "statistics.safetensors")
    again = Statistics.read(tmp_path / "statistics.safetensors")
    for name in ("mean", "eigenvalues", "eigenvectors"):
        assert np.array_equal(getattr(again, name), getattr(found, name)), name
        assert getattr(again, name).dtype == getattr(found, name).dtype


@pytest.mark.parametrize("content", [None, b"", b"not a tensor", b"\xff" * 64])
def test_a_damaged_file_is_named(tmp_path: Path, content):
    path = tmp_path / "statistics.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadInputError, match=r"statistics\.safetensors: cannot be read \(.+\); train again"):
        Statistics.read(path)


def test_a_file_cut_short_or_of_something_else_is_named(tmp_path: Path):
    path = tmp_path / "statistics.safetensors"
    measured(coloured(5)).write(path)
    whole = path.read_bytes()
    for content in (whole[:-1], whole.replace(b"eigenvalues", b"eigenvalue5")):
        path.write_bytes(content)
        with pytest.raises(BadInputError, match="train again"):
            Statistics.read(path)
