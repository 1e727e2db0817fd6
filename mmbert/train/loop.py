"""The training loop, from a step of the plan to the last one."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import cast

from accelerate import Accelerator
from torch import Tensor

from mmbert.errors import Preempted, RecipeError, nearest
from mmbert.evaluate.evaluator import Evaluation
from mmbert.model import MMBert
from mmbert.recipe.training import OgmGe, Optim, Train
from mmbert.train.bad_steps import not_finite, pass_over
from mmbert.train.balance import Modulation
from mmbert.train.collapse import Collapse
from mmbert.train.console import Console
from mmbert.train.failures import in_words
from mmbert.train.folder import RunFolder
from mmbert.train.schedule import factor
from mmbert.train.signals import Interruption
from mmbert.train.silent import STEPS, Silent
from mmbert.train.state import TrainingState
from mmbert.train.step import accumulate_gradients, count_units
from mmbert.types import Batch
from mmbert.world import together


def fit(
    state: TrainingState,
    steps: Iterator[Sequence[Batch]],
    evaluate: Callable[[], Evaluation],
    save: Callable[[], bool],
    accelerator: Accelerator,
    interruption: Interruption,
    folder: RunFolder,
    console: Console,
    *,
    train: Train,
    optim: Optim,
    total: int,
    every: int,
    ogm_ge: OgmGe | None = None,
) -> None:
    """Train a model from where ``state`` is to step ``total``.

    Args:
        state: changed in place.
        steps: the micro-batches of each further step, this process's share, on any device.
        evaluate: evaluates the validation split; called on all processes.
        save: keeps the state as it is, and returns whether it could; called on all processes.
        total: optimiser steps.
        every: steps between evaluations; the last step is always evaluated.

    Raises ``NumericalError`` on all processes where more steps than ``train.max_bad_steps`` have a loss or a gradient
    that is not finite; ``Preempted`` on all, with the state saved, where any is told to stop; and what reading data
    raises.
    """
    model, progress, average = state.model, state.progress, state.average
    weights = model.weights
    wrapped, optimizer = accelerator.prepare(model, state.optimizer)
    silent, collapse = Silent(model), Collapse()
    modulation = Modulation(model, ogm_ge, train.seed) if ogm_ge else None

    def evaluate_and_save() -> None:
        with average.applied():
            found = evaluate()
        before = replace(progress)
        better = progress.see(selected(found, model, train.select), train.patience)
        folder.log(progress.step, "validation", {**found.scores, "all": {"skill": found.mean_skill}})
        console.evaluation(progress.step, found)
        for name in collapse.see(found):
            folder.event("collapsed", progress.step, input=name)
            console.warn(f"input '{name}' has collapsed: what is read of it is all but the same in every row")
        if better or train.save_every is None or due() or progress.stopped or progress.step == total:
            saved = save()
            if better and not saved:  # what is not on the disk cannot be the best
                progress.best_step, progress.best_score = before.best_step, before.best_score
                progress.waited = before.waited

    def due() -> bool:
        return train.save_every is not None and progress.step % train.save_every == 0

    try:
        if not progress.evaluated:
            evaluate_and_save()
        while progress.step < total and not progress.stopped:
            step = progress.step + 1
            batches, error = _next(steps, interruption)
            units = count_units(model, batches, accelerator.device)
            units = together(units, error=error, stop=interruption.asked).sums
            scale = factor(step, total, warmup=optim.warmup, schedule=optim.schedule)
            for group in optimizer.param_groups:
                group["lr"] = group["base_lr"] * scale
            with in_words(f"step {step}"):
                outcome = accumulate_gradients(wrapped, batches, units, weights, accelerator, seed=(train.seed, step))
                factors = modulation.apply(outcome, optimizer, step) if modulation else {}
                norm = float(cast(Tensor, accelerator.clip_grad_norm_(wrapped.parameters(), optim.clip or math.inf)))
            if problem := not_finite(outcome, norm):
                pass_over(step, problem, outcome, state, folder, console, most=train.max_bad_steps)
            else:
                for part in silent.step(batches) if step > optim.warmup * total else ():
                    folder.event("silent", step, part=part)
                    console.warn(f"{part}: no gradient has reached it in {STEPS} steps with rows; it learns nothing")
                optimizer.step()
                average.update()
                folder.log(step, "train", told(outcome.losses, factors))
            optimizer.zero_grad()
            progress.step = step
            console.step(step, {name: loss for name, loss in outcome.losses.items() if name in model.tasks})
            if step % every == 0 or step == total:
                progress.evaluated = False
                evaluate_and_save()
            elif due():
                save()
    except Preempted:
        if progress.step:
            save()
        raise


def _next(steps: Iterator[Sequence[Batch]], interruption: Interruption) -> tuple[Sequence[Batch], Exception | None]:
    """The micro-batches of the next step, or what went wrong with them. A signal ends the wait for them."""
    try:
        with interruption.breakable():
            return next(steps), None
    except Preempted:
        return (), None
    except Exception as error:
        return (), error


def told(losses: Mapping[str, float], factors: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Task -> metric -> value of a step; the factors, which belong to no task, stand under ``all``.

    >>> told({"kind": 0.5, "kind/text": 0.9}, {"text": 1.0})
    {'kind': {'loss': 0.5, 'loss_of_text': 0.9}, 'all': {'factor_of_text': 1.0}}
    """
    found: dict[str, dict[str, float]] = {}
    for name, loss in losses.items():
        task, _, stream = name.partition("/")
        found.setdefault(task, {})[f"loss_of_{stream}" if stream else "loss"] = loss
    return found | ({"all": {f"factor_of_{name}": one for name, one in factors.items()}} if factors else {})


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
