"""A convolution of stride 1 in float32 or bf16 by minimal filtering: a form for `stride_one.py`.

In float32 results and gradients are some 2e-6 to 3.5e-6 of their size from exact ones, the more the more maps there
are (as many as the paper's layers have), where direct sums are at 0.5e-6; the tests' bounds are 3e-6 for 3 x 3 kernels
(4e-6 over hundreds of maps), 1e-5 for 5 x 5 and 1e-6. In bf16, whose rounding moves what goes in and what comes of it
by 1.4e-3, squares are larger, and what is rounded is 7e-6 to 2e-5 from exact, for 5 x 5 kernels 4e-5 to 7e-5 and 1e-4
over hundreds of maps. That is of the largest numbers in a square: what is a thousand times smaller than its neighbours
may be wrong by more than a rounding of its own. (What is not finite makes nothing finite of its square's results, six
places further than kernels reach, at most; so do numbers above 1e33.)
"""

from torch import Tensor

from alexnet.kernels.plain_convolution import gradients, masked
from alexnet.kernels.winograd_numba import backward, fits, fits_back, forward, worth_it
from alexnet.kernels.winograd_weights_numba import weights

__all__ = ["backward", "fits", "fits_back", "forward", "of_weights", "worth_it"]


def of_weights(
    g: Tensor, y: Tensor | None, x: Tensor, weight: Tensor, pad: int, groups: int, asked: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    """float[N, K, H', W'], the output if a rectifier is behind it, float[N, C, H, W] -> what is asked for of
    float[K, C / groups, size, size] and float[K], the gradients of weights and biases."""
    if not asked[0]:
        return None, gradients(masked(g, y), x, weight, pad, groups, (False, False, True))[2]
    by_weight, by_bias = weights(x, g, y, weight.shape[-1], pad, groups)
    return by_weight, by_bias if asked[1] else None
