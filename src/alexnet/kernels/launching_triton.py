"""What a launch on an NVIDIA GPU needs: the tensors' own GPU as the current one, and a Triton that works there."""

from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache

import torch
from torch import Tensor
from triton.runtime import driver


def launching(x: Tensor) -> AbstractContextManager[object]:
    """Triton launches on the current GPU, whichever its tensors are on: here that is x's."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()


@lru_cache(None)
def lacking(device: torch.device) -> str:
    """What Triton lacks on that GPU, in words; nothing: it works.

    It compiles a part of itself when it is first used, by the C compiler of the machine.
    """
    if torch.cuda.get_device_capability(device) < (7, 0):
        return "Triton needs a GPU of compute capability 7.0 or more"
    try:
        _ = driver.active.utils
    except Exception as error:  # of the compiler, of the folder that it writes to, of the driver
        return f"Triton: {str(error).partition(chr(10))[0]}"
    return ""
