"""How this process holds its memory. Only glibc has these switches."""

import ctypes
import platform


def keep_memory() -> None:
    """Let the C library keep freed memory instead of giving it back to the system each time.

    Large arrays are otherwise mapped anew, and zeroed page by page, for every picture and every step.
    """
    largest_mapping, keep_at_top = -4, -1  # M_MMAP_MAX, M_TRIM_THRESHOLD of <malloc.h>
    if libc := _glibc():
        libc.mallopt(largest_mapping, 0)
        libc.mallopt(keep_at_top, -1)


def give_back_memory() -> None:
    """Give the system back what is free now, where much of it is not needed again."""
    if libc := _glibc():
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL("libc.so.6") if platform.libc_ver()[0] == "glibc" else None
