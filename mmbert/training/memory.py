"""Memory of a process: keeping freed memory between training steps, and the peak."""

import ctypes
import sys

import torch

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # of mallopt(3)
MOST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let the allocator of this process keep freed memory.

    By default it returns large blocks to the system, which hands them out again page by page, zeroed: this costs a few
    per cent of a training step on CPU.

    Returns:
        Whether the allocator can do this; glibc's can.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, another system
        return False
    return bool(mallopt(MMAP_MAX, 0) and mallopt(TRIM_THRESHOLD, MOST))


def peak(device: torch.device) -> int:
    """Peak memory in bytes.

    Args:
        device: a GPU for the peak of torch since its last reset, else the peak resident size of this process.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
