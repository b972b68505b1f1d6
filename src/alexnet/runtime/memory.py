"""How this process holds its memory. Only glibc has these switches, and large pages are Linux's."""

import ctypes
import mmap
import platform

AHEAD = 4 << 30  # bytes: more than a step of the paper's network holds
LARGE_PAGE = 1 << 21


def keep_memory() -> None:
    """Let the C library keep freed memory instead of giving it back to the system each time, in large pages.

    Large arrays are otherwise mapped anew, and zeroed page by page, for every picture and every step.
    """
    largest_mapping, keep_at_top = -4, -1  # M_MMAP_MAX, M_TRIM_THRESHOLD of <malloc.h>
    if libc := _glibc():
        libc.mallopt(largest_mapping, 0)
        libc.mallopt(keep_at_top, -1)
        _in_large_pages(libc)


def give_back_memory() -> None:
    """Give the system back what is free now, where much of it is not needed again."""
    if libc := _glibc():
        libc.malloc_trim(0)
        _in_large_pages(libc)


def _in_large_pages(libc: ctypes.CDLL) -> None:
    """Have the heap's next bytes, so many as are asked for here, come 2 MB at a time where the system does that for
    who asks. Nothing is taken before it is written to, and where there is not so much to be had all stays as it is.

    A kernel that goes to its points writes to some hundred places by turns: more small pages than a processor knows.
    """
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    if begin := libc.malloc(AHEAD):
        whole = -(-begin // LARGE_PAGE) * LARGE_PAGE
        libc.madvise(whole, AHEAD - LARGE_PAGE, mmap.MADV_HUGEPAGE)
        libc.free(begin)


def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL("libc.so.6") if platform.libc_ver()[0] == "glibc" else None
