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
    """What the forward passes of a step said, by the names of the losses, see ``MMBert.weights``.

    All are means over the labelled units of the step; a loss without any is not there.
    """

    losses: dict[str, float]
    likelihoods: dict[str, float]  # the probability of what is true, as heads on one stream tell it
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
    """Gradients of the weighted sum of all mean losses.

    Counts of labelled units are known before the forward: each loss's sum is divided by the global count, so that a
    rank or micro-batch with few labels weighs as much as its labels.

    Args:
        wrapped: the model as the accelerator prepared it.
        batches: this process's micro-batches.
        units: [losses] float64, the labelled units of each loss over all processes and micro-batches.
        weights: of the losses.
        seed: of the run, and the step: dropout masks are keyed by both, the micro-step and the rank.
    """
    model: MMBert = accelerator.unwrap_model(wrapped)
    device, dtype = accelerator.device, next(model.parameters()).dtype
    names = list(model.weights)
    sums = units.new_zeros(2, len(names))  # of the losses, and of the likelihoods
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
        sums[0] += stacked.detach().to(sums.dtype)
        none = torch.zeros_like(sums[0, 0])
        sums[1] += torch.stack([found.get(f"{name}/likelihood", none).to(sums.dtype) for name in names])
    sums = cast(Tensor, accelerator.reduce(sums, reduction="sum"))
    counts = units.tolist()
    losses, likelihoods = (
        {name: mean for name, mean, count in zip(names, means, counts, strict=True) if count}
        for means in (sums / units.clamp(min=1)).tolist()
    )
    bad = [batch for batch, fine in zip(batches, finite, strict=True) if not fine]
    likelihoods = {name: mean for name, mean in likelihoods.items() if name not in model.tasks}
    return Outcome(losses, likelihoods, [sample for batch in bad for sample in batch.ids.tolist()])


def count_units(model: MMBert, batches: Sequence[Batch], device: torch.device) -> Tensor:
    """[losses] float64: the labelled units of each loss in these batches."""
    counts = [model.labelled(batch) for batch in batches]
    units = [sum(one[name] for one in counts) for name in model.weights]
    return torch.tensor(units, dtype=torch.float64, device=device)


def dropout_seed(*key: int | str) -> int:
    """The seed of a micro-step's dropout masks, from (seed, step, micro-step, rank); of other draws, from more."""
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=7).digest(), "big")
