"""Whose kernels compute a tensor's operations, Numba's, Triton's or PyTorch's own: the one place that decides."""

from importlib.util import find_spec
from typing import Literal

import torch
from torch import Tensor
from torch.autograd import forward_ad

from alexnet.kernels.compiled import AVAILABLE

Way = Literal["numba", "triton", "plain"]
TRITON = find_spec("triton") is not None
ON_CPU = (torch.float32, torch.float64, torch.bfloat16)
ON_CUDA = (torch.float32, torch.bfloat16, torch.float16)


def way(x: Tensor) -> Way:
    """Compiled for the processor by Numba, for an NVIDIA GPU by Triton, or PyTorch's own operations one by one.

    Those, too, where PyTorch itself compiles, exports or traces the network, differentiates it as a function
    (`torch.func`) or forwards, or counts with tensors that hold no numbers.
    """
    if torch.compiler.is_compiling() or type(x) not in (Tensor, torch.nn.Parameter):
        return "plain"
    if _as_a_function(x) or _traced():
        return "plain"
    if AVAILABLE and x.device.type == "cpu" and x.dtype in ON_CPU:
        return "numba"
    if TRITON and x.device.type == "cuda" and x.dtype in ON_CUDA and not _lacking(x.device):
        return "triton"
    return "plain"


def _lacking(device: torch.device) -> str:
    from alexnet.kernels.launching_triton import lacking

    return lacking(device)


# There is no public way to ask for any of these.


def _as_a_function(x: Tensor) -> bool:
    functions = torch._C._functorch
    batched = functions.is_legacy_batchedtensor(x)  # `is_grads_batched`
    return batched or functions.peek_interpreter_stack() is not None or forward_ad._current_level >= 0


def _traced() -> bool:
    proxy = torch._C._TorchDispatchModeKey.PROXY
    modes = torch._C._get_dispatch_mode(proxy), torch._ops._get_dispatch_mode_pre_dispatch(proxy)
    return any(modes) or torch._C._get_tracing_state() is not None


def one_kind(x: Tensor, *parameters: Tensor) -> bool:
    """Whether they are of one kind, or autocast makes them so."""
    return all(each.dtype == x.dtype for each in parameters) or torch.is_autocast_enabled(x.device.type)


def kind_of_products(x: Tensor) -> torch.dtype:
    """In which kind autocast has products with `x` computed; without it, its own."""
    if not x.is_meta and torch.is_autocast_enabled(x.device.type) and x.dtype != torch.float64:
        return torch.get_autocast_dtype(x.device.type)
    return x.dtype


def add_up(x: Tensor) -> bool:
    """Whether towers' gradients for x, which all of them read, are added up one by one: in float32 on a processor, so
    that two processes learn what one does to the last bit."""
    return torch.is_grad_enabled() and x.requires_grad and way(x) == "numba" and kind_of_products(x) == torch.float32


def notice(device: torch.device) -> str | None:
    """What people are told where no kernel is compiled: the results are the same."""
    if way(torch.empty(0, device=device)) != "plain":
        return None
    package = {"cpu": "numba", "cuda": "triton"}.get(device.type)
    remedy = f"; see that {package} is installed and not switched off" if package else ""
    if device.type == "cuda" and TRITON:
        remedy = f"; {_lacking(device)}"
    return f"no compiled kernels here: the same results, several times slower{remedy}"
