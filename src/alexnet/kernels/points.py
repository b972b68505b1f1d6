"""Minimal filtering (Winograd, 1980; Lavin and Gray, 2016): the matrices that take it to its points and back.

Pixels d in a row, enough for four results, and a kernel g are taken for polynomials, and evaluated at as many points;
there, 6 products are what would be 4 * 3, or 8 what would be 4 * 5: results = A^T ((G g) * (B^T d)). In two dimensions
it is 36 for 144, and 64 for 400. What depends on them linearly has the transposed matrices: a kernel's gradients are
G^T ((A gradients) * (B^T d)).
"""

import numpy as np
from numpy.typing import NDArray

RESULTS = 4  # on a side of a square of pixels
# The last point is at infinity. In pairs, and near 1, results are nearest to exact ones: with 3 / 4 and 3 / 2 twice as
# near as with 1 and 2.
FINITE = {3: (0.0, 0.75, -0.75, 1.5, -1.5), 5: (0.0, 0.5, -0.5, 1.0, -1.0, 2.0, -2.0)}

Matrix = NDArray[np.float64]


def side_of_square(size: int) -> int:
    """How many pixels in a row four results of a kernel see: as many as there are points."""
    return RESULTS + size - 1


def results_at_points(size: int) -> Matrix:
    """A, float64[side, 4]: powers of the points."""
    return _powers(size, RESULTS)


def kernel_at_points(size: int) -> Matrix:
    """G, float64[side, size]: powers of the points, divided by how far they are from the others."""
    apart = [np.prod([p - q for q in _others(size, p)]) for p in FINITE[size]]
    kernels: Matrix = _powers(size, size) / np.array([*apart, 1.0])[:, None]
    return kernels


def pixels_at_points(size: int) -> Matrix:
    """B^T, float64[side, side]: coefficients of the polynomials that are 0 at all finite points but one, or at all."""
    points, side = FINITE[size], side_of_square(size)
    rows = [np.poly(zeros)[::-1] for zeros in (*(_others(size, p) for p in points), points)]
    return np.array([np.pad(row, (0, side - len(row))) for row in rows])


def _others(size: int, point: float) -> list[float]:
    return [q for q in FINITE[size] if q != point]


def _powers(size: int, count: int) -> Matrix:
    return np.array([[p**i for i in range(count)] for p in FINITE[size]] + [[0.0] * (count - 1) + [1.0]])
