"""What kernels are compared by: their results and gradients, near those in float64."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode


def numbers(*shape, dtype=torch.float64, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)


def with_gradients(compute, given, kind):
    """What it gives when it computes in `kind`, and the gradients for all that it is given."""
    dtype = given[0].dtype
    given = [each.detach().to(kind, copy=True).requires_grad_() for each in given]
    result = compute(*given)
    result.backward(numbers(*result.shape, dtype=dtype, seed=9).to(kind))
    return [result, *(each.grad for each in given)]


def assert_near(ours, exact, bound):
    for own, other in zip(ours, exact, strict=True):
        assert own.shape == other.shape
        assert (own.double() - other.double()).norm() <= bound * other.double().norm()


class Counted(TorchDispatchMode):
    """Which gradients of convolutions are computed, and how many matrix products."""

    def __init__(self):
        super().__init__()
        self.asked, self.products = [], 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        if operation is torch.ops.aten.convolution_backward.default:
            self.asked.append(tuple(args[10]))
        self.products += operation in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default)
        return operation(*args, **(kwargs or {}))
