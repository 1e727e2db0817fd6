"""The memory of a process: how it is kept from one training step to the next, and how much it was at most."""

import ctypes
import sys

import torch

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


def peak(device: torch.device) -> int:
    """Bytes: the peak since the last reset on a GPU, else the most that this process has held so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
