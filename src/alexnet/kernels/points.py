"""Minimal filtering (Winograd, 1980; Lavin and Gray, 2016): the matrices that take it to its points and back.

Six pixels d in a row and a kernel g are taken for polynomials, and evaluated at six points; there, six products are
what would be 4 * 3, or 2 * 5: results = A^T ((G g) * (B^T d)). In two dimensions it is 36 for 144, or 100. What the
results depend on linearly has the transposed matrices: gradients of g = G^T ((A gradients) * (B^T d)).
"""

import numpy as np
from numpy.typing import NDArray

from alexnet.kernels.mosaic_numba import SIDE

POINTS = SIDE * SIDE
# The sixth is at infinity. Between fractions near 1, in pairs, results are twice as near to exact ones as with -2 to 2.
FINITE = (0.0, 0.75, -0.75, 1.5, -1.5)

Matrix = NDArray[np.float64]


def results_at_points(size: int) -> Matrix:
    """A, float64[6, 7 - size]: powers of the points."""
    return _powers(SIDE - size + 1)


def kernel_at_points(size: int) -> Matrix:
    """G, float64[6, size]: powers of the points, divided by how far they are from the others."""
    apart = [np.prod([p - q for q in _others(p)]) for p in FINITE]
    kernels: Matrix = _powers(size) / np.array([*apart, 1.0])[:, None]
    return kernels


def pixels_at_points() -> Matrix:
    """B^T, float64[6, 6]: coefficients of the polynomials that are 0 at all finite points but one, or at all."""
    rows = [np.poly(zeros)[::-1] for zeros in (*(_others(p) for p in FINITE), FINITE)]
    return np.array([np.pad(row, (0, SIDE - len(row))) for row in rows])


def _others(point: float) -> list[float]:
    return [q for q in FINITE if q != point]


def _powers(count: int) -> Matrix:
    return np.array([[p**i for i in range(count)] for p in FINITE] + [[0.0] * (count - 1) + [1.0]])
