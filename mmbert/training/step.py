"""One optimiser step's gradients, exact over micro-batches and processes, and the metrics it logs."""

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
    """What the forward passes of a step computed, by the names of the losses, see ``MMBert.loss_weights``.

    All are means over the labelled units of the step; a loss without any is absent.

    Attributes:
        losses: by name.
        likelihoods: the probability of the true label under the heads on one stream.
        suspects: ids of the samples in those micro-batches of this process whose loss is not finite.
    """

    losses: dict[str, float]
    likelihoods: dict[str, float]
    suspects: list[int] = field(default_factory=list)


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
        accelerator: of this process.
        seed: of the run, and the step: dropout masks are keyed by both, the micro-step and the rank.
    """
    model: MMBert = accelerator.unwrap_model(wrapped)
    device, dtype = accelerator.device, next(model.parameters()).dtype
    names = list(model.loss_weights)
    sums = units.new_zeros(2, len(names))  # of the losses, and of the likelihoods
    finite: list[Tensor] = []
    for micro, batch in enumerate(batches):
        torch.manual_seed(dropout_seed(*seed, micro, accelerator.process_index))
        last = micro == len(batches) - 1
        with nullcontext() if last else accelerator.no_sync(wrapped):
            outputs = wrapped(batch.to(device, dtype))
            losses = torch.stack([outputs[name].float() if dtype != torch.float64 else outputs[name] for name in names])
            # the wrapper averages gradients over processes: undo that, the division is by global counts
            share = accelerator.num_processes / units.clamp(min=1).to(losses.dtype)
            scales = share * torch.tensor([weights[name] for name in names], device=device, dtype=losses.dtype)
            accelerator.backward((losses * scales).sum())
        finite.append(losses.detach().isfinite().all())
        sums[0] += losses.detach().to(sums.dtype)
        zero = torch.zeros_like(sums[0, 0])
        sums[1] += torch.stack([outputs.get(f"{name}/likelihood", zero).to(sums.dtype) for name in names])
    sums = cast(Tensor, accelerator.reduce(sums, reduction="sum"))
    counts = units.tolist()
    mean_losses, likelihoods = (
        {name: mean for name, mean, count in zip(names, means, counts, strict=True) if count}
        for means in (sums / units.clamp(min=1)).tolist()
    )
    bad = [batch for batch, is_finite in zip(batches, finite, strict=True) if not is_finite]
    likelihoods = {name: mean for name, mean in likelihoods.items() if name not in model.tasks}
    return Outcome(mean_losses, likelihoods, [sample for batch in bad for sample in batch.ids.tolist()])


def count_units(model: MMBert, batches: Sequence[Batch], device: torch.device) -> Tensor:
    """[losses] float64: the labelled units of each loss in these batches.

    Args:
        model: whose losses are counted.
        batches: this process's micro-batches.
        device: of the result.
    """
    counts = [model.count_labelled(batch) for batch in batches]
    units = [sum(count[name] for count in counts) for name in model.loss_weights]
    return torch.tensor(units, dtype=torch.float64, device=device)


def dropout_seed(*key: int | str) -> int:
    """The seed of a micro-step's dropout masks, from (seed, step, micro-step, rank); of other draws, from more."""
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=7).digest(), "big")


def step_metrics(losses: Mapping[str, float], factors: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Task -> metric -> value of a step, for the log; factors belong to no task and stand under ``all``.

    Args:
        losses: by task, and by ``task/stream`` for heads on one stream.
        factors: of each stream under OGM-GE.

    Example:
        >>> step_metrics({"kind": 0.5, "kind/text": 0.9}, {"text": 1.0})
        {'kind': {'loss': 0.5, 'loss_of_text': 0.9}, 'all': {'factor_of_text': 1.0}}
    """
    metrics: dict[str, dict[str, float]] = {}
    for name, loss in losses.items():
        task, _, stream = name.partition("/")
        metrics.setdefault(task, {})[f"loss_of_{stream}" if stream else "loss"] = loss
    if factors:
        metrics["all"] = {f"factor_of_{stream}": factor for stream, factor in factors.items()}
    return metrics
