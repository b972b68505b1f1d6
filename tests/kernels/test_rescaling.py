import numpy as np
import pytest
from PIL import Image

from alexnet.data import decode as decode_module
from alexnet.data.decode import PILLOWS, square
from alexnet.kernels import colour_products as products_module
from alexnet.kernels.colour_products import colour_products
from alexnet.kernels.compiled import AVAILABLE
from alexnet.kernels.rescaling import FILTERS, columns_first, rescaled

random = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _with_numba():
    assert AVAILABLE, "the tests are to look at the compiled kernels"


@pytest.mark.parametrize("by", FILTERS)
def test_any_part_of_any_size_is_pillows_to_the_bit(by):
    for _ in range(150):
        height, width, new_height, new_width = (int(n) for n in random.integers(1, 180, 4))
        if columns_first(height, width, (new_height, new_width)):
            continue  # `square` leaves those to Pillow
        # Extremes of black and white overshoot, so that clipping is looked at too.
        pixels = random.choice(np.array([0, 255, 128, 77], np.uint8), (height, width, 3))
        whole = np.asarray(Image.fromarray(pixels).resize((new_width, new_height), PILLOWS[by]))
        top, left = int(random.integers(new_height)), int(random.integers(new_width))
        part = (int(random.integers(new_height - top)) + 1, int(random.integers(new_width - left)) + 1)
        found = rescaled(pixels, (new_height, new_width), (top, left), part, by)
        np.testing.assert_array_equal(found, whole[top : top + part[0], left : left + part[1]])


def test_a_picture_that_is_a_view_of_another_is_rescaled_as_its_copy():
    pixels = random.integers(0, 256, (80, 90, 3), np.uint8)[::-1, 5:70:2]
    np.testing.assert_array_equal(square(pixels, 16), square(pixels.copy(), 16))


@pytest.mark.parametrize("by", FILTERS)
@pytest.mark.parametrize("shape", ["cropped", "squashed"])
def test_without_numba_the_squares_are_the_same(monkeypatch, shape, by):
    pictures = [random.integers(0, 256, (*random.integers(1, 300, 2), 3), np.uint8) for _ in range(20)]
    # Longer than is looked at; and at the edge of Pillow's other order.
    for size in ((2, 700), (700, 2), (192, 96), (193, 96), (191, 96)):
        pictures.append(random.integers(0, 256, (*size, 3), np.uint8))
    fast = [square(pixels, 48, shape, by) for pixels in pictures]
    monkeypatch.setattr(decode_module, "AVAILABLE", False)
    for pixels, found in zip(pictures, fast, strict=True):
        np.testing.assert_array_equal(found, square(pixels, 48, shape, by))


@pytest.mark.parametrize("side", [1, 7, 256])
def test_the_products_of_colours_are_those_of_a_plain_sum(monkeypatch, side):
    squares = random.integers(0, 256, (5, side, side, 3), np.uint8)
    squares[0] = 255  # the largest sums
    wide = squares.reshape(-1, 3).astype(object)
    expected = [[int((wide[:, one] * wide[:, other]).sum()) for other in range(3)] for one in range(3)]
    assert colour_products(squares).tolist() == expected
    monkeypatch.setattr(products_module, "AVAILABLE", False)
    assert colour_products(squares).tolist() == expected


def test_the_longest_row_does_not_overflow():
    row = np.full((1, 1, 2**31 // 255**2, 3), 255, np.uint8)
    assert colour_products(row)[0, 0] == row.shape[2] * 255**2
    longer = np.full((1, 1, 2**31 // 255**2 + 1, 3), 255, np.uint8)
    assert colour_products(longer)[0, 0] == longer.shape[2] * 255**2


def test_no_squares_have_no_products():
    assert colour_products(np.zeros((0, 4, 4, 3), np.uint8)).tolist() == [[0] * 3] * 3
