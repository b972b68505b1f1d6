"""What minimal filtering rests on: its matrices, and how images are cut into squares."""

import numpy as np
import pytest
import torch

from alexnet.kernels import points
from alexnet.kernels.compiled import compiled
from alexnet.kernels.squares_numba import squares_of, where_it_is


@compiled
def where(offsets, side, maps, cut, which):
    return where_it_is(offsets, side, maps, cut, which)


@pytest.mark.parametrize("those", [*points.IN_FLOAT32.values(), *points.IN_BF16.values()])
def test_products_at_the_points_are_a_convolution(those):
    """In float64, by the definition: what the kernels see, the kernels' gradients, and results from pixels."""
    a, g, b = points.results_at_points(those), points.kernel_at_points(those), points.pixels_at_points(those)
    draw, size = np.random.default_rng(0), those.size
    pixels, kernel, gradients = (draw.normal(size=(side, side)) for side in (those.side, size, those.results))
    at_points = b @ pixels @ b.T
    seen = np.lib.stride_tricks.sliding_window_view(pixels, (size, size))
    np.testing.assert_allclose(a.T @ (g @ kernel @ g.T * at_points) @ a, (seen * kernel).sum((2, 3)), atol=1e-12)
    seen = np.lib.stride_tricks.sliding_window_view(pixels, gradients.shape)
    np.testing.assert_allclose(g.T @ (a @ gradients @ a.T * at_points) @ g, (seen * gradients).sum((2, 3)), atol=1e-12)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("height", "width", "size", "pad"), [(13, 13, 3, 1), (27, 27, 5, 2), (4, 9, 3, 0), (2, 3, 5, 4)]
)
def test_squares_have_each_result_once_and_around_it_what_the_kernel_sees(height, width, size, pad, kind):
    maps, kernels, image = 16, 32, 2
    cut, found = squares_of(torch.empty(image + 1, maps, height, width, dtype=kind), kernels, size, pad), []
    rows, columns = (side + 2 * pad - size + 1 for side in (height, width))
    for which in range(image * cut.rows * cut.columns, (image + 1) * cut.rows * cut.columns):
        pixels, places = (np.empty((side, side), np.int64) for side in (cut.side, cut.results))
        for offsets, of in ((pixels, cut.pixels), (places, cut.places)):
            ahead, following = where(offsets.reshape(-1), len(offsets), of, cut, which), offsets.copy()
            where(following.reshape(-1), len(offsets), of, cut, which + 1)
            assert (following - offsets == ahead)[(following >= 0) & (offsets >= 0)].all()
        for i, j in zip(*np.nonzero(places >= 0), strict=True):
            row, column = divmod(places[i, j] // kernels - image * rows * columns, columns)
            seen = np.add.outer(
                np.arange(row - pad, row - pad + size) * width, np.arange(column - pad, column - pad + size)
            )
            inside = np.logical_and.outer(
                *(
                    abs(2 * (np.arange(size) + first - pad) + 1 - side) < side
                    for first, side in ((row, height), (column, width))
                )
            )
            expected = np.where(inside, (image * height * width + seen) * maps, -1)
            assert (pixels[i : i + size, j : j + size] == expected).all()
        found += [place for place in places.flat if place >= 0]
    assert sorted(found) == [(image * rows * columns + place) * kernels for place in range(rows * columns)]
