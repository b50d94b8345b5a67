"""The C library's allocator: memory of large tensors is kept, not given back and faulted in again page by page."""

from __future__ import annotations

import ctypes
import os
import platform

__all__ = ["keep_memory"]

_TRIM, _TOP_PAD, _MMAP = -1, -2, -3  # malloc.h
_MOST = 2**31 - 1


def keep_memory() -> bool:
    """Tell glibc to serve large blocks from its heap and to keep what is freed; for a process of one's own.

    By default glibc maps every block above 32 MiB anew, and the kernel clears each of its pages at the first touch: up
    to a third of a training step on a CPU. A process that does this holds its peak of memory to its end.

    Returns:
        Whether it was done: not where the C library is another one, nor where ``MALLOC_*`` variables say how.

    >>> keep_memory() in (True, False)
    True
    """
    chosen = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_MMAP_THRESHOLD_")
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in chosen):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all([mallopt(_MMAP, _MOST), mallopt(_TRIM, _MOST), mallopt(_TOP_PAD, 2**28)])
