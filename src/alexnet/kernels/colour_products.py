"""Section 4.1: the sums that the covariance of RGB is made of."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from alexnet.kernels.compiled import AVAILABLE, compiled

ZERO: Any = np.int32(0)  # where a sum in 32 bits begins


def colour_products(squares: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The sum of R, G, B times R, G, B over all pixels of uint8[N, side, side, 3]: int64[3, 3], exact."""
    if AVAILABLE and squares.shape[2] <= 2**31 // 255**2:
        total: NDArray[np.int64] = _by_rows(squares)
        return total
    products = np.zeros((3, 3), np.int64)
    # A float32 product would round; float64 holds each image's sum of squares (below 2^53) exactly.
    for image in squares:
        colours = image.reshape(-1, 3).astype(np.float64)
        products += (colours.T @ colours).astype(np.int64)
    return products


@compiled
def _by_rows(squares: NDArray[np.uint8]) -> NDArray[np.int64]:
    """In 32 bits along a row, which up to 33,025 pixels cannot fill; in 64 from row to row."""
    rr, rg, rb, gg, gb, bb = 0, 0, 0, 0, 0, 0
    for image in squares:
        for row in image:
            a = b = c = d = e = f = ZERO
            for x in range(row.shape[0]):
                red, green, blue = np.int32(row[x, 0]), np.int32(row[x, 1]), np.int32(row[x, 2])
                a = np.int32(a + red * red)
                b = np.int32(b + red * green)
                c = np.int32(c + red * blue)
                d = np.int32(d + green * green)
                e = np.int32(e + green * blue)
                f = np.int32(f + blue * blue)
            rr, rg, rb, gg, gb, bb = rr + a, rg + b, rb + c, gg + d, gb + e, bb + f
    return np.array([[rr, rg, rb], [rg, gg, gb], [rb, gb, bb]])
