"""One optimiser step's gradients, exact over micro-batches and processes."""

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from mmbert.model import MMBert
from mmbert.types import Batch


@dataclass
class Outcome:
    """What the forward passes of a step said."""

    losses: dict[str, float]  # mean over all labelled units of the step; a task without a label has none
    suspects: list[int] = field(default_factory=list)  # ids in this process's micro-batches whose loss is not finite


def accumulate_gradients(
    wrapped: nn.Module,
    batches: Sequence[Batch],
    units: Tensor,
    weights: Mapping[str, float],
    accelerator: Accelerator,
    *,
    seed: tuple[int, int],
) -> Outcome:
    """Gradients of the weighted sum of all tasks' mean losses.

    Counts of labelled units are known before the forward: each task's sum is divided by the global count, so that a
    rank or micro-batch with few labels weighs as much as its labels.

    Args:
        wrapped: the model as the accelerator prepared it.
        batches: this process's micro-batches.
        units: [tasks] float64, the labelled units of each task over all processes and micro-batches.
        weights: of the tasks.
        seed: of the run, and the step: dropout masks are keyed by both, the micro-step and the rank.
    """
    model: MMBert = accelerator.unwrap_model(wrapped)
    device, dtype = accelerator.device, next(model.parameters()).dtype
    names = list(model.tasks)
    sums = torch.zeros_like(units)
    finite: list[Tensor] = []
    for micro, batch in enumerate(batches):
        torch.manual_seed(dropout_seed(*seed, micro, accelerator.process_index))
        last = micro == len(batches) - 1
        with nullcontext() if last else accelerator.no_sync(wrapped):
            found = wrapped(batch.to(device, dtype))
            stacked = torch.stack([found[name].float() if dtype != torch.float64 else found[name] for name in names])
            # the wrapper averages gradients over processes: undo that, the division is by global counts
            share = accelerator.num_processes / units.clamp(min=1).to(stacked.dtype)
            scales = share * torch.tensor([weights[name] for name in names], device=device, dtype=stacked.dtype)
            accelerator.backward((stacked * scales).sum())
        finite.append(stacked.detach().isfinite().all())
        sums += stacked.detach().to(sums.dtype)
    sums = cast(Tensor, accelerator.reduce(sums, reduction="sum"))
    means = (sums / units.clamp(min=1)).tolist()
    bad = [batch for batch, fine in zip(batches, finite, strict=True) if not fine]
    return Outcome(
        {name: mean for name, mean, count in zip(names, means, units.tolist(), strict=True) if count},
        [sample for batch in bad for sample in batch.ids.tolist()],
    )


def count_units(model: MMBert, batches: Sequence[Batch], device: torch.device) -> Tensor:
    """[tasks] float64: the labelled units of each task in these batches."""
    counts = [
        sum(int(task.count(batch.targets[name].tensors)) for batch in batches if name in batch.targets)
        for name, task in model.tasks.items()
    ]
    return torch.tensor(counts, dtype=torch.float64, device=device)


def dropout_seed(*key: int) -> int:
    """The seed of a micro-step's dropout masks, from (seed, step, micro-step, rank)."""
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=7).digest(), "big")
