"""Functions compiled to machine code at their first use, and kept for later processes: Numba, where it is installed."""

from collections.abc import Callable
from typing import Any

numba: Any
try:
    import numba
except ImportError:  # each kernel has another way to the same result
    numba = None

AVAILABLE = numba is not None


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as machine code that runs beside other threads; the function itself without Numba."""
    if numba is None:
        return function
    machine_code: Callable[..., Any]
    try:
        machine_code = numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # no folder that could keep it: compiled anew in each process
        machine_code = numba.njit(nogil=True)(function)
    return machine_code
