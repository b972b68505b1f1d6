"""Compiled kernels on as many threads as PyTorch uses."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from typing import Any

import torch


def on_all_cores(kernel: Callable[..., None], count: int, *arguments: Any) -> None:
    """Call `kernel(first, last, *arguments)` for shares of `count`, on as many threads as PyTorch uses.

    What a kernel does for one number must not depend on the others: then the result is the same for any threads.
    """
    threads = min(torch.get_num_threads(), count)
    ends = [count * share // threads for share in range(threads + 1)]
    others = [_pool().submit(kernel, *each, *arguments) for each in pairwise(ends[1:])]
    kernel(ends[0], ends[1], *arguments)
    for other in others:
        other.result()


@lru_cache(1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_name_prefix="kernels")
