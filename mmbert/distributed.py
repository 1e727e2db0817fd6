"""The processes of a launch: its settings, and collectives by which all of them decide together.

They continue, stop, or fail with one error.
"""

import os
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar, cast

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import broadcast_object_list, gather_object, reduce
from torch import Tensor

from mmbert.errors import OtherProcessError, Preempted, RecipeError, exit_code

T = TypeVar("T")
REPORT_DELAY = (
    2.0  # seconds in which the other processes report that this one has failed, so that the cause is printed last
)


OFF = ("", "0", "false", "no", "n", "f", "off", "none")  # what Accelerate reads as not set, in lower case
REFUSED = {  # a setting of Accelerate -> the values that change nothing, and what to do
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": (("", "1"), "set train.accumulate in the recipe instead"),
    "ACCELERATE_GRADIENT_CLIPPING": (OFF, "set optim.clip in the recipe instead"),
    "ACCELERATE_MIXED_PRECISION": (("", "no", "bf16"), "use no or bf16, which needs no scaling of the loss"),
    "ACCELERATE_DYNAMO_BACKEND": (OFF, "mmbert does not compile the model"),
    "ACCELERATE_USE_FSDP": (OFF, "mmbert keeps the whole model on each device: launch with --multi_gpu"),
    "ACCELERATE_USE_DEEPSPEED": (OFF, "mmbert keeps the whole model on each device: launch with --multi_gpu"),
    "ACCELERATE_USE_MEGATRON_LM": (OFF, "mmbert keeps the whole model on each device: launch with --multi_gpu"),
    "ACCELERATE_USE_PARALLELISM_CONFIG": (OFF, "mmbert shares rows among processes, and nothing else"),
    "ACCELERATE_USE_SAGEMAKER": (OFF, "launch with accelerate launch or torchrun"),
    "ACCELERATE_DOWNCAST_BF16": (OFF, "mmbert does not run on TPU"),
    "XLA_USE_BF16": (OFF, "mmbert does not run on TPU"),
    "XLA_DOWNCAST_BF16": (OFF, "mmbert does not run on TPU"),
}
LAUNCHER_VARIABLES = ("RANK", "LOCAL_RANK", "MASTER_ADDR")  # every launcher sets them together with WORLD_SIZE
CPU_PAIR = "ACCELERATE_USE_CPU=1 accelerate launch --multi_gpu --num_processes {world} --main_process_port 0 -m mmbert"
SWITCHES = ("ACCELERATE_USE_CPU", "ACCELERATE_DEBUG_MODE", "ACCELERATE_CPU_AFFINITY")  # on or off
ON = ("1", "true", "yes", "y", "t", "on")
COUNTS = {"WORLD_SIZE": 1, "RANK": 0, "LOCAL_WORLD_SIZE": 1, "LOCAL_RANK": 0, "MASTER_PORT": 0}  # and their least value


def check_launcher(environ: Mapping[str, str]) -> None:
    """Check the settings that a launcher passes on: each is honoured, or refused by its name.

    Args:
        environ: the environment of this process.

    Raises:
        RecipeError: on a setting that mmbert would ignore, or that cannot be read.

    Example:
        >>> check_launcher({"WORLD_SIZE": "2", "RANK": "0", "ACCELERATE_MIXED_PRECISION": "fp8"})
        Traceback (most recent call last):
        mmbert.errors.RecipeError: ACCELERATE_MIXED_PRECISION=fp8: use no or bf16, which needs no scaling of the loss
    """
    for name, (harmless, remedy) in REFUSED.items():
        if environ.get(name, "").strip().lower() not in harmless:
            raise RecipeError(f"{name}={environ[name]}: {remedy}")
    for name in SWITCHES:
        if environ.get(name, "").strip().lower() not in (*OFF, *ON):
            raise RecipeError(f"{name}: expected true or false, found {environ[name]!r}")
    for name, least in COUNTS.items():
        text = environ.get(name)
        if text is not None and not (text.isascii() and text.isdecimal() and int(text) >= least):
            raise RecipeError(
                f"{name}: expected a whole number from {least} on, found {text!r}: unset it; the launcher sets it"
            )
    world, rank = int(environ.get("WORLD_SIZE", 1)), int(environ.get("RANK", 0))
    forked = "ACCELERATE_DEBUG_RDV_FILE" in environ  # by debug_launcher, where a file says who is who
    if world > 1 and not forked and (absent := [name for name in LAUNCHER_VARIABLES if name not in environ]):
        raise RecipeError(
            f"WORLD_SIZE is {world}, but {' and '.join(absent)} {'is' if len(absent) == 1 else 'are'} not set, so no "
            f"launcher started this process. Unset WORLD_SIZE, or launch with\n"
            f"  accelerate launch --num_processes {world} --multi_gpu -m mmbert train ...\n"
            f"or, without GPUs, with\n  {CPU_PAIR.format(world=world)} train ..."
        )
    if rank >= world:
        raise RecipeError(f"RANK={rank}: expected less than WORLD_SIZE={world}: unset both; the launcher sets them")


def connect(**options: Any) -> Accelerator:
    """The accelerator of this process, connected to the other processes of the launch.

    Args:
        options: of ``Accelerator``.

    Raises:
        RecipeError: on a setting of the launcher that mmbert would ignore, or that cannot be read.
    """
    check_launcher(os.environ)
    return Accelerator(**options)


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
