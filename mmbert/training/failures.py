"""What a failing library call means to a person: memory that gave out, a process that has gone."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mmbert.errors import ResourceError

MEMORY = re.compile(r"can't allocate memory|out of memory|not enough memory", re.IGNORECASE)
GONE = re.compile(r"closed by peer|connection (reset|refused|closed)|gloo|nccl|broken pipe", re.IGNORECASE)


class ProcessGone(ResourceError):
    """Another process of the run ended without a word to this one."""


@contextmanager
def in_words(where: str) -> Iterator[None]:
    """Raise ``ResourceError`` instead of a library's error that says that memory or another process gave out."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise _out_of_memory(where, error) from error
    except RuntimeError as error:
        if MEMORY.search(str(error)):
            raise _out_of_memory(where, error) from error
        if GONE.search(str(error)):
            raise ProcessGone(
                f"{where}: another process of this run has gone ({str(error).splitlines()[0][:200]}). Its message, or "
                "that of the system, says why; the run goes on from its last checkpoint when it is started again"
            ) from error
        raise


def _out_of_memory(where: str, error: BaseException) -> ResourceError:
    said = (str(error) or "no memory left").splitlines()[0][:200]
    return ResourceError(
        f"{where}: out of memory ({said}). Try twice the train.accumulate (half the memory of a micro-batch), shorter "
        "texts (max_length), or trunk.tune=top2, in another --out or with --resume never"
    )
