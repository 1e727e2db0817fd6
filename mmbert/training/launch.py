"""How this process was launched, checked before anything is written."""

import os

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from mmbert.data.sampler import count_pieces
from mmbert.errors import RecipeError
from mmbert.recipe.training import Train

CPU_PAIR = "ACCELERATE_USE_CPU=1 accelerate launch --multi_gpu --num_processes {world} --main_process_port 0 -m mmbert"


def make_accelerator(train: Train) -> Accelerator:
    """The accelerator of this run. Raises ``RecipeError`` where the launcher started something else than was asked for.

    ``precision: auto`` follows the launcher's ``--mixed_precision`` where one is given, else bf16 where a GPU has it.
    """
    wanted = int(os.environ.get("WORLD_SIZE", "1"))
    AcceleratorState._reset_state()  # an earlier run in this process may have had another precision
    accelerator = Accelerator(mixed_precision=_precision(train.precision))
    if accelerator.num_processes != wanted:
        raise RecipeError(
            f"the launcher started {wanted} processes, of which each would train alone. On CPU, launch with\n"
            f"  {CPU_PAIR.format(world=wanted)} train ..."
        )
    if accelerator.mixed_precision not in ("no", "bf16"):
        found = accelerator.mixed_precision
        raise RecipeError(f"--mixed_precision must be no or bf16, which needs no scaling of the loss, found {found}")
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
