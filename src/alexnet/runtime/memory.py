"""How this process holds its memory."""

import ctypes
import platform


def keep_memory() -> None:
    """Let the C library keep freed memory instead of giving it back to the system each time.

    Large arrays are otherwise mapped anew, and zeroed page by page, for every picture and every step. Only glibc has
    these switches.
    """
    largest_mapping, keep_at_top = -4, -1  # M_MMAP_MAX, M_TRIM_THRESHOLD of <malloc.h>
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(largest_mapping, 0)
        libc.mallopt(keep_at_top, -1)
