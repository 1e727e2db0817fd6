"""Memory that one training step frees and the next asks for again."""

import ctypes

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # of mallopt(3)
MOST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let the allocator of this process keep what is freed; returns whether it can (glibc does).

    By default it gives large pieces back to the system, which hands them out again page by page, zeroed: some
    hundredths of a training step on CPU.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, another system
        return False
    return bool(mallopt(MMAP_MAX, 0) and mallopt(TRIM_THRESHOLD, MOST))
