"""Compiled kernels on PyTorch's own threads.

After each operation PyTorch's OpenMP threads spin for some milliseconds, waiting for the next. A second pool would
share the cores with them: on two cores, a kernel right behind a convolution then takes several times as long.
"""

import ctypes
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

LINE = 64  # bytes that enter a cache together

_Body = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Scratch(NamedTuple):
    """Numbers that a thread has for itself while it works: to the kernel an array of them, at the beginning `zeros`, or
    whatever was there."""

    length: int
    kind: Any
    zeros: bool = False

    def array(self) -> NDArray[Any]:
        """It begins with a line of the cache: what is taken line by line costs twice where it lies across."""
        size = np.dtype(self.kind).itemsize
        whole = (np.zeros if self.zeros else np.empty)(self.length + LINE // size, self.kind)
        begin = -whole.__array_interface__["data"][0] % LINE // size
        return whole[begin : begin + self.length]


def on_all_cores(kernel: Callable[..., None], count: int, *arguments: Any) -> None:
    """Call `kernel(first, last, *arguments)` for shares of `count`, on as many threads as PyTorch uses.

    What a kernel does for one number must not depend on the others: then the result is the same for any threads.
    """
    none = (np.empty(0, each.kind) if isinstance(each, Scratch) else each for each in arguments)
    kernel(0, 0, *none)  # compiled here, if it has to be
    # All of PyTorch's threads, though some may have nothing to do: libgomp ends those that a smaller team leaves over,
    # and makes them anew.
    threads, openmp = torch.get_num_threads() if count > 1 else 1, _openmp()

    def share(number: int, of: int) -> None:
        first, last = count * number // of, count * (number + 1) // of
        if first < last:
            kernel(first, last, *(each.array() if isinstance(each, Scratch) else each for each in arguments))

    if threads < 2:
        share(0, 1)
    elif openmp is None:
        list(_pool().map(share, range(threads), [threads] * threads))
    else:
        _in_parallel(openmp, share, threads)


def _in_parallel(openmp: ctypes.CDLL, share: Callable[[int, int], None], threads: int) -> None:
    """What `#pragma omp parallel` compiles to. There may be fewer threads than asked for."""
    failures: list[BaseException] = []

    def body(_: int | None) -> None:
        try:
            share(openmp.omp_get_thread_num(), openmp.omp_get_num_threads())
        except BaseException as failure:  # nothing may leave a thread that is not Python's
            failures.append(failure)

    openmp.GOMP_parallel(_Body(body), None, threads, 0)
    if failures:
        raise failures[0]


@lru_cache(1)
def _openmp() -> ctypes.CDLL | None:
    """The OpenMP library whose threads PyTorch uses, or None where they are of another kind.

    The linker knows: what was loaded before everything else, or what PyTorch's own library depends on. Other packages
    (scikit-learn) bring libraries of the same name, and pools of their own.
    """
    if sys.platform != "linux":
        return None
    for where in (None, torch._C.__file__):
        if hasattr(library := ctypes.CDLL(where), "GOMP_parallel"):
            return library
    return None


@lru_cache(1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_name_prefix="kernels")
