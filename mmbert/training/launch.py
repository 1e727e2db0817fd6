"""The accelerator of a run, and checks of how the processes were launched."""

import os

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from mmbert.data.sampler import count_pieces
from mmbert.distributed import CPU_PAIR, connect
from mmbert.errors import RecipeError
from mmbert.recipe.training import Train


def make_accelerator(train: Train) -> Accelerator:
    """The accelerator of this run.

    ``precision: auto`` follows the launcher's ``--mixed_precision`` where it is given, else bf16 on a GPU that has it.

    Args:
        train: the recipe's section.

    Raises:
        RecipeError: where the processes are not connected, the launcher's precision is not supported, or the batch size
            cannot be divided among the processes.
    """
    AcceleratorState._reset_state()  # an earlier run in this process may have had another precision
    accelerator = connect(mixed_precision=_precision(train.precision))
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != world:
        raise RecipeError(
            f"the launcher started {world} processes, each of which would train alone. On CPU, launch with\n"
            f"  {CPU_PAIR.format(world=world)} train ..."
        )
    count_pieces(train.batch_size, accelerator.num_processes, train.accumulate)
    return accelerator


def _precision(precision: str) -> str | None:
    if precision in ("fp32", "fp64"):
        return "no"
    if precision == "bf16":
        return "bf16"
    if os.environ.get("ACCELERATE_MIXED_PRECISION"):
        return None  # as the launcher says
    return "bf16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "no"
