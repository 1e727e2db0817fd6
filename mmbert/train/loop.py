"""The training loop, from the first step to the best checkpoint."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from mmbert.errors import NumericalError, RecipeError, nearest
from mmbert.evaluate.evaluator import Evaluation
from mmbert.model import MMBert
from mmbert.recipe.training import Optim, Train
from mmbert.train.average import WeightAverage
from mmbert.train.console import Console
from mmbert.train.folder import RunFolder
from mmbert.train.optimizer import make_optimizer
from mmbert.train.schedule import factor
from mmbert.types import Batch


@dataclass
class Progress:
    """What a training run has seen."""

    losses: list[dict[str, float]] = field(default_factory=list)  # of each step, mean over all labelled units
    best_step: int = 0
    best: Evaluation | None = None


def fit(
    model: MMBert,
    steps: Iterable[Sequence[Batch]],
    evaluate: Callable[[], Evaluation],
    keep: Callable[[], None],
    accelerator: Accelerator,
    *,
    train: Train,
    optim: Optim,
    total: int,
    every: int,
    folder: RunFolder,
    console: Console,
) -> Progress:
    """Train a model and keep its best state.

    Args:
        steps: the micro-batches of each step, this process's share, on any device.
        evaluate: evaluates the validation split; called on all processes.
        keep: saves the model as it is; called on the main process when an evaluation is the best so far.
        total: optimiser steps.
        every: steps between evaluations; the last step is always evaluated.

    Raises ``NumericalError`` on all processes where a loss is not finite; the weights are then as before the step.
    """
    optimizer = make_optimizer(model, optim)
    wrapped, optimizer = accelerator.prepare(model, optimizer)
    weights = {name: task.weight for name, task in model.tasks.items()}
    average = WeightAverage(model, train.ema)
    progress, waited = Progress(), 0
    for step, batches in enumerate(steps, 1):
        scale = factor(step, total, warmup=optim.warmup, schedule=optim.schedule)
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * scale
        losses = accumulate_gradients(wrapped, batches, weights, accelerator, seed=(train.seed, step))
        norm = cast(Tensor, accelerator.clip_grad_norm_(wrapped.parameters(), optim.clip or float("inf")))
        if not torch.tensor([*losses.values(), float(norm)]).isfinite().all():
            raise NumericalError(
                f"step {step}: a loss or the gradient is not finite: {losses}, norm of the gradient {float(norm)}. "
                "Try a lower optim.lr"
            )
        optimizer.step()
        optimizer.zero_grad()
        average.update()
        progress.losses.append(losses)
        folder.log(step, "train", {name: {"loss": loss} for name, loss in losses.items()})
        console.step(step, losses)
        if step % every and step != total:
            continue
        with average.applied():
            found = evaluate()
            score = selected(found, model, train.select)
            better = progress.best is None or score > selected(progress.best, model, train.select)
            if better and accelerator.is_main_process:
                keep()
        folder.log(step, "validation", {**found.scores, "all": {"skill": found.mean_skill}})
        console.evaluation(step, found)
        if better:
            progress.best, progress.best_step, waited = found, step, 0
        elif train.patience is not None and (waited := waited + 1) >= train.patience:
            break
    accelerator.wait_for_everyone()
    return progress


def accumulate_gradients(
    wrapped: nn.Module,
    batches: Sequence[Batch],
    weights: dict[str, float],
    accelerator: Accelerator,
    *,
    seed: tuple[int, int],
) -> dict[str, float]:
    """Gradients of the weighted sum of all tasks' mean losses, exact over micro-batches and processes.

    Counts of labelled units are known before the forward: they are reduced once, then each task's sum is divided by the
    global count, so that a rank or micro-batch with few labels weighs as much as its labels.

    Returns each task's mean loss over all ranks and micro-batches; a task without a label in the step has none.
    """
    model: MMBert = accelerator.unwrap_model(wrapped)
    device, dtype = accelerator.device, next(model.parameters()).dtype
    names = list(model.tasks)
    counts = cast(Tensor, accelerator.reduce(count_units(model, batches, device), reduction="sum"))
    sums = torch.zeros_like(counts)
    for micro, batch in enumerate(batches):
        torch.manual_seed(dropout_seed(*seed, micro, accelerator.process_index))
        last = micro == len(batches) - 1
        with nullcontext() if last else accelerator.no_sync(wrapped):
            found = wrapped(batch.to(device, dtype))
            stacked = torch.stack([found[name].float() if dtype != torch.float64 else found[name] for name in names])
            # the wrapper averages gradients over processes: undo that, the division is by global counts
            share = accelerator.num_processes / counts.clamp(min=1).to(stacked.dtype)
            scales = share * torch.tensor([weights[name] for name in names], device=device, dtype=stacked.dtype)
            accelerator.backward((stacked * scales).sum())
        sums += stacked.detach().to(sums.dtype)
    sums = cast(Tensor, accelerator.reduce(sums, reduction="sum"))
    means = (sums / counts.clamp(min=1)).tolist()
    return {name: mean for name, mean, count in zip(names, means, counts.tolist(), strict=True) if count}


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


def selected(evaluation: Evaluation, model: MMBert, select: str) -> float:
    """The score, higher is better, by which checkpoints are chosen: mean skill, or a metric of one task.

    Raises ``RecipeError`` where the evaluation has no such score.
    """
    if select == "skill":
        return evaluation.mean_skill
    task, _, metric = select.partition("/")
    scores = evaluation.scores.get(task, {})
    if metric not in scores:
        valid = [f"{name}/{own}" for name, metrics in evaluation.scores.items() for own in metrics]
        raise RecipeError(f"train.select: validation gives no score '{select}'. {nearest(select, ['skill', *valid])}")
    value = scores[metric]
    return -value if metric in model.tasks[task].lower_is_better else value
