"""What minimal filtering rests on: its matrices, and how images are cut into squares."""

import numpy as np
import pytest

from alexnet.kernels import points
from alexnet.kernels.squares_numba import squares_of


@pytest.mark.parametrize("size", [3, 5])
def test_products_at_the_points_are_a_convolution(size):
    """In float64, by the definition: what the kernels see, the kernels' gradients, and results from pixels."""
    a, g, b = points.results_at_points(size), points.kernel_at_points(size), points.pixels_at_points(size)
    draw = np.random.default_rng(0)
    pixels, kernel, gradients = (draw.normal(size=(side, side)) for side in (3 + size, size, 4))
    at_points = b @ pixels @ b.T
    seen = np.lib.stride_tricks.sliding_window_view(pixels, (size, size))
    np.testing.assert_allclose(a.T @ (g @ kernel @ g.T * at_points) @ a, (seen * kernel).sum((2, 3)), atol=1e-12)
    seen = np.lib.stride_tricks.sliding_window_view(pixels, (4, 4))
    np.testing.assert_allclose(g.T @ (a @ gradients @ a.T * at_points) @ g, (seen * gradients).sum((2, 3)), atol=1e-12)


@pytest.mark.parametrize(
    ("height", "width", "size", "pad"), [(13, 13, 3, 1), (27, 27, 5, 2), (4, 9, 3, 0), (2, 3, 5, 4)]
)
def test_squares_have_each_result_once_and_around_it_what_the_kernel_sees(height, width, size, pad):
    cut = squares_of(height, width, size, pad)
    for pixels, places, side in zip(cut.pixels, cut.places, (height, width), strict=True):
        count = side + 2 * pad - size + 1
        assert [line for line in places if line >= 0] == list(range(count))
        for line, own in enumerate(places):
            for i, pixel in enumerate(pixels[line : line + size] if own >= 0 else ()):
                expected = own - pad + i
                assert pixel == (expected if 0 <= expected < side else -1)
        assert len(pixels) == len(places) + size - 1
        assert len(places) % 4 == 0
