"""What all processes of a run decide together: to go on, to stop, or to fail with one error."""

import time
from typing import NamedTuple, cast

import torch
from accelerate import PartialState
from accelerate.utils import gather_object, reduce
from torch import Tensor

from mmbert.errors import Elsewhere, Preempted, exit_code

LAST_WORD = 2.0  # seconds in which the other processes say that this one has failed: the cause is then read last


class Round(NamedTuple):
    """What the processes know after a call of ``together``."""

    sums: Tensor  # over all processes
    working: bool  # whether any of them has more to do


def together(
    sums: Tensor | None = None, *, error: Exception | None = None, stop: str = "", working: bool = False
) -> Round:
    """One round of all processes, in which each says how it stands; one reduction carries everything.

    Raises on all processes where one says ``error`` (this error there, ``Elsewhere`` on the others), and
    ``Preempted`` where one says ``stop``.

    Args:
        stop: why this process has to stop, if it has to.
        sums: [any] float64, summed over the processes.

    >>> together(torch.ones(2, dtype=torch.float64), working=True)
    Round(sums=tensor([1., 1.], dtype=torch.float64), working=True)
    """
    state = PartialState()
    flags = torch.tensor([error is not None, bool(stop), working], dtype=torch.float64, device=state.device)
    told = flags if sums is None else torch.cat([flags, sums])
    if state.num_processes > 1:
        told = cast(Tensor, reduce(told, reduction="sum"))
    failed, stopped, busy = (bool(flag) for flag in told[:3].tolist())
    if failed:
        raise _first(error)
    if stopped:
        raise Preempted(stop or "another process was told to stop")
    return Round(told[3:], busy)


def _first(error: Exception | None) -> Exception:
    """The error of this process, or that of the first process that has one."""
    said = None if error is None else (f"{error}" or type(error).__name__, exit_code(error))
    messages = gather_object([said]) if PartialState().num_processes > 1 else [said]
    if error is not None:
        if len(messages) > 1:
            time.sleep(LAST_WORD)
        return error
    rank, (message, code) = next((rank, one) for rank, one in enumerate(messages) if one is not None)
    return Elsewhere(f"process {rank}: {message}", code)
