"""Minimal filtering (Winograd, 1980; Lavin and Gray, 2016): the matrices that take it to its points and back.

Pixels d in a row, enough for some results, and a kernel g are taken for polynomials, and evaluated at as many points;
there, 7 products are what would be 5 * 3, or 8 what would be 4 * 5: results = A^T ((G g) * (B^T d)). In two dimensions
it is 49 for 225, and 64 for 400. What depends on them linearly has the transposed matrices: a kernel's gradients are
G^T ((A gradients) * (B^T d)).
"""

import numpy as np
from numpy.typing import NDArray

# On a side of a square of pixels, by the kernels' size. Five fill what the networks have, 13 and 55 places, better than
# four; with six for 5 x 5 kernels results would be further from exact ones.
RESULTS = {3: 5, 5: 4}
# The last point is at infinity. In pairs, and around 1, results are nearest to exact ones.
FINITE = {3: (0.25, -0.25, 0.875, -0.875, 1.75, -1.75), 5: (0.0, 0.5, -0.5, 1.0, -1.0, 2.0, -2.0)}

Matrix = NDArray[np.float64]


def side_of_square(size: int) -> int:
    """How many pixels in a row a square's results see: as many as there are points."""
    return RESULTS[size] + size - 1


def results_at_points(size: int) -> Matrix:
    """A, float64[side, results]: powers of the points."""
    return _powers(size, RESULTS[size])


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
