"""Failures of a run: library errors that mean a lack of resources, and raising on all processes what fails on one."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TypeVar, cast

import torch

from mmbert.distributed import all_reduce_or_raise
from mmbert.errors import Preempted, ResourceError
from mmbert.training.signals import Interruption

T = TypeVar("T")
MEMORY = re.compile(r"can't allocate memory|out of memory|not enough memory", re.IGNORECASE)
GONE = re.compile(r"closed by peer|connection (reset|refused|closed)|gloo|nccl|broken pipe", re.IGNORECASE)


class ProcessGone(ResourceError):
    """Another process of the run ended without reporting an error to this one."""


@contextmanager
def explain_resource_errors(where: str) -> Iterator[None]:
    """Context that turns errors of libraries for lack of memory or a lost process into ``ResourceError``, with advice.

    Args:
        where: what was being done, for the message.
    """
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise _out_of_memory(where, error) from error
    except RuntimeError as error:
        if MEMORY.search(str(error)):
            raise _out_of_memory(where, error) from error
        if GONE.search(str(error)):
            raise ProcessGone(
                f"{where}: another process of this run has ended ({str(error).splitlines()[0][:200]}). Its message, "
                "or that of the system, says why; the same command resumes the run from its last checkpoint"
            ) from error
        raise


def _out_of_memory(where: str, error: BaseException) -> ResourceError:
    reason = (str(error) or "no memory left").splitlines()[0][:200]
    return ResourceError(
        f"{where}: out of memory ({reason}). Try twice the train.accumulate (half the memory of a micro-batch), "
        "shorter texts (max_length), or trunk.tune=top2, in another --out or with --resume never"
    )


def call_or_raise_everywhere(function: Callable[[], T], interruption: Interruption, *, interruptible: bool = True) -> T:
    """The function's result on each process; where it fails or is interrupted on any of them, all raise.

    Args:
        function: called on every process.
        interruption: of the run.
        interruptible: whether a signal ends the function at once.
    """
    result, error = None, None
    try:
        with interruption.interruptible() if interruptible else nullcontext(), explain_resource_errors("preparing"):
            result = function()
    except Preempted:
        pass  # raised below, on all processes
    except Exception as caught:
        error = caught
    all_reduce_or_raise(error=error, stop=interruption.reason)
    return cast(T, result)


def next_or_error(iterator: Iterator[T], interruption: Interruption) -> tuple[T | tuple[()], Exception | None]:
    """The next item, or the error of making it; neither where a signal ended the wait for it.

    Args:
        iterator: of what the next step needs.
        interruption: of the run.
    """
    try:
        with interruption.interruptible():
            return next(iterator), None
    except Preempted:
        return (), None
    except Exception as error:
        return (), error
