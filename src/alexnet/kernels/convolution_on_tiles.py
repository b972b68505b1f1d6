"""A convolution of stride 1 in bf16 on a processor with matrix units: a form for `stride_one.py`.

The results, and where it fits their gradient for what went in, are computed on tiles by code of our own
(`convolution_numba.py`); the weights' gradient by PyTorch, of images in pairs (`pairs_numba.py`).
"""

from torch import Tensor

from alexnet.kernels.convolution_numba import backward, fits, fits_back, forward, worth_it
from alexnet.kernels.pairs_numba import in_pairs, pairs_fit
from alexnet.kernels.plain_convolution import gradients, masked

__all__ = ["backward", "fits", "fits_back", "forward", "of_weights", "worth_it"]


def of_weights(
    g: Tensor, y: Tensor | None, x: Tensor, weight: Tensor, pad: int, groups: int, asked: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    """bf16[N, K, H', W'], the output if a rectifier is behind it, bf16[N, C, H, W] -> what is asked for of
    bf16[K, C / groups, size, size] and bf16[K], the gradients of weights and biases."""
    if pairs_fit(x, weight.shape[-1], pad):
        x, g = in_pairs(x, None, pad), in_pairs(g, y, pad)
    else:
        g = masked(g, y)
    _, by_weight, by_bias = gradients(g, x, weight, pad, groups, (False, *asked))
    return by_weight, by_bias
