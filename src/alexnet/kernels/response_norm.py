"""Section 3.3: local response normalization, in every historical flavour, by PyTorch's own operations.

All flavours are one formula, `y = x / (k + alpha * sum of x^2 over a neighbourhood) ^ beta`; they differ in the
neighbourhood. PyTorch's own `local_response_norm` runs some fifty sweeps forward and backward and divides alpha by n;
here the sum is one small convolution (or pooling) and alpha multiplies the plain sum, as in the paper's formula. Being
ordinary operations it can be differentiated again, forwards, and as a function.
"""

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor
from torch.nn import functional as F

Sum = Callable[[Tensor], Tensor]


def across_maps(x: Tensor, *, towers: int, n: int, k: float, alpha: float, beta: float) -> Tensor:
    """Section 3.3: divide each activity by the energy of `n` adjacent maps of its own tower.

    x         float[N, C, H, W]   the towers' maps side by side; C a multiple of `towers`
    returns   float[N, C, H, W]

    The window is clipped at a tower's edge: in 2012 each tower's maps lay on another card, out of the other's reach.
    An even window reaches one map further down than up, as in the 2012 program. With towers=1 it crosses everything.
    """
    band = _band(x.shape[1] // towers, n, x.device, _wide(x.dtype)).repeat(towers, 1, 1, 1)
    return _normalized(x, lambda energy: F.conv2d(energy, band, groups=towers), k, alpha, beta)


def within_map(x: Tensor, *, size: int, k: float, alpha: float, beta: float) -> Tensor:
    """The 2012 program's second normalization: divide by the energy of a `size` x `size` patch of the same map.

    x         float[N, C, H, W]
    returns   float[N, C, H, W]

    The patch is clipped at the border; `size` is odd. The paper does not mention this layer; run 145 has it after the
    cross-map normalization of layer 2, and the 18 % CIFAR-10 network uses it alone.
    """

    def patch_sum(energy: Tensor) -> Tensor:
        return F.avg_pool2d(energy, size, stride=1, padding=size // 2, divisor_override=1)

    return _normalized(x, patch_sum, k, alpha, beta)


def _normalized(x: Tensor, neighbours: Sum, k: float, alpha: float, beta: float) -> Tensor:
    # There is no autocast on the meta device, and no way to switch it off.
    with nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False):
        wide = x.to(_wide(x.dtype))
        return (wide * _power(k + alpha * neighbours(wide * wide), beta)).to(x.dtype)


def _wide(dtype: torch.dtype) -> torch.dtype:
    # A sum of squares in bf16 would keep 8 bits of each; half types are summed in float32.
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype


def _band(maps: int, n: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """1 x 1 kernels that add up each map's window: float[maps, maps, 1, 1] of zeros and ones."""
    row = torch.arange(maps, device=device)
    first = row - n // 2  # an even window reaches further down
    column = row[None, :]
    inside = (column >= first[:, None]) & (column < first[:, None] + n)
    return inside.to(dtype)[:, :, None, None]


def _power(d: Tensor, beta: float) -> Tensor:
    """d ^ -beta; for the paper's 0.75 by two square roots, several times faster than pow."""
    if beta != 0.75:
        return d.pow(-beta)
    root = d.rsqrt()
    return root.sqrt() * root
