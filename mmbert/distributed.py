"""Collectives by which all processes of a run decide together: to continue, to stop, or to fail with one error."""

import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar, cast

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object, reduce
from torch import Tensor

from mmbert.errors import OtherProcessError, Preempted, exit_code

T = TypeVar("T")
REPORT_DELAY = (
    2.0  # seconds in which the other processes report that this one has failed, so that the cause is printed last
)


class Reduced(NamedTuple):
    """What every process knows after ``all_reduce_or_raise``.

    Attributes:
        sums: [any] float64, over all processes.
        working: whether any process has more to do.
    """

    sums: Tensor
    working: bool


def all_reduce_or_raise(
    values: Tensor | None = None, *, error: Exception | None = None, stop: str = "", working: bool = False
) -> Reduced:
    """Sum values over all processes, or raise on all of them; one reduction carries everything.

    Args:
        values: [any] float64.
        error: what went wrong on this process.
        stop: why this process has to stop, if it has to.
        working: whether this process has more to do.

    Raises:
        Exception: ``error`` on the processes that have one, ``OtherProcessError`` on all others.
        Preempted: on all processes, where one has to stop.

    Example:
        >>> all_reduce_or_raise(torch.ones(2, dtype=torch.float64), working=True)
        Reduced(sums=tensor([1., 1.], dtype=torch.float64), working=True)
    """
    state = PartialState()
    flags = torch.tensor([error is not None, bool(stop), working], dtype=torch.float64, device=state.device)
    reduced = flags if values is None else torch.cat([flags, values])
    if state.num_processes > 1:
        reduced = cast(Tensor, reduce(reduced, reduction="sum"))
    any_failed, any_stops, any_works = (bool(flag) for flag in reduced[:3].tolist())
    if any_failed:
        raise _first_error(error)
    if any_stops:
        raise Preempted(stop or "another process was stopped")
    return Reduced(reduced[3:], any_works)


def on_main_then_broadcast(function: Callable[[], T]) -> T:
    """Call a function on the main process alone and give its result to all.

    Args:
        function: its result can be pickled.

    Raises:
        Exception: what ``function`` raises, on the main process; ``OtherProcessError`` on all others.
    """
    result, error = None, None
    if PartialState().is_main_process:
        try:
            result = function()
        except Exception as caught:
            error = caught
    all_reduce_or_raise(error=error)
    return cast(T, broadcast_object_list([result])[0])


def _first_error(error: Exception | None) -> Exception:
    """The error of this process, or that of the first process that has one."""
    message = None if error is None else (f"{error}" or type(error).__name__, exit_code(error))
    messages = gather_object([message]) if PartialState().num_processes > 1 else [message]
    if error is not None:
        if len(messages) > 1:
            time.sleep(REPORT_DELAY)
        return error
    rank, (text, code) = next((rank, message) for rank, message in enumerate(messages) if message is not None)
    return OtherProcessError(f"process {rank}: {text}", code)
