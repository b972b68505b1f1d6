"""Minimal filtering (Winograd, 1980; Lavin and Gray, 2016): the matrices that take it to its points and back.

Pixels d in a row, enough for some results, and a kernel g are taken for polynomials, and evaluated at as many points;
there, 7 products are what would be 5 * 3, or 8 what would be 4 * 5: results = A^T ((G g) * (B^T d)). In two dimensions
it is 49 for 225, and 64 for 400. What depends on them linearly has the transposed matrices: a kernel's gradients are
G^T ((A gradients) * (B^T d)).

The more results a square has, the fewer products each takes, and the further it is from exact.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


class Points(NamedTuple):
    """Where squares are multiplied.

    size      of the kernels
    results   on a side of a square
    finite    points, one fewer than there are: the last is at infinity. In pairs, and around 1, results are nearest to
              exact ones.
    """

    size: int
    results: int
    finite: tuple[float, ...]

    @property
    def side(self) -> int:
        """How many pixels in a row a square's results see: as many as there are points."""
        return self.results + self.size - 1


def _in_pairs(*points: float) -> tuple[float, ...]:
    return tuple(each for point in points for each in (point, -point))


# By the kernels' size. In float32 five results fill what the networks have, 13 and 55 places, better than four; with
# six for 5 x 5 kernels they would be further from exact ones.
IN_FLOAT32 = {3: Points(3, 5, _in_pairs(0.25, 0.875, 1.75)), 5: Points(5, 4, (0.0, *_in_pairs(0.5, 1.0, 2.0)))}
# Two and four sevens cover 13 and 27. What goes in is right to eight bits, and what comes of it is rounded to them:
# beside that it is not seen that these are right to 16, and for 5 x 5 kernels to 14.
IN_BF16 = {
    3: Points(3, 7, _in_pairs(0.25, 0.625, 1.125, 2.125)),
    5: Points(5, 7, _in_pairs(0.25, 0.5, 0.875, 1.375, 2.75)),
}


def results_at_points(points: Points) -> Matrix:
    """A, float64[side, results]: powers of the points."""
    return _powers(points, points.results)


def kernel_at_points(points: Points) -> Matrix:
    """G, float64[side, size]: powers of the points, divided by how far they are from the others."""
    apart = [np.prod([p - q for q in _others(points, p)]) for p in points.finite]
    kernels: Matrix = _powers(points, points.size) / np.array([*apart, 1.0])[:, None]
    return kernels


def pixels_at_points(points: Points) -> Matrix:
    """B^T, float64[side, side]: coefficients of the polynomials that are 0 at all finite points but one, or at all."""
    rows = [np.poly(zeros)[::-1] for zeros in (*(_others(points, p) for p in points.finite), points.finite)]
    return np.array([np.pad(row, (0, points.side - len(row))) for row in rows])


def _others(points: Points, point: float) -> list[float]:
    return [q for q in points.finite if q != point]


def _powers(points: Points, count: int) -> Matrix:
    return np.array([[p**i for i in range(count)] for p in points.finite] + [[0.0] * (count - 1) + [1.0]])
