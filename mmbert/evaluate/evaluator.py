"""Exact evaluation: every row of a split once, whatever the number of processes."""

import math
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from accelerate.utils import gather_object
from torch import Tensor

from mmbert.errors import IntegrityError
from mmbert.evaluate.by_row import ByRow
from mmbert.evaluate.spread import Moments, moments, spread
from mmbert.layers.masked import mean_token
from mmbert.model import MMBert
from mmbert.types import Batch, Fused
from mmbert.world import together


@dataclass(frozen=True)
class Evaluation:
    """The result on one split; a task without a label in it has no entry."""

    loss: dict[str, float]  # mean over labelled units
    skill: dict[str, float]  # 1 - loss / loss of the best constant predictor; 0 is no better, 1 is perfect
    scores: dict[str, dict[str, float]]  # task -> metric -> value
    predictions: dict[str, ByRow]  # task -> sample id -> prediction, for labelled rows
    targets: dict[str, ByRow]  # task -> sample id -> target tensors by name, for the same rows
    spread: dict[str, float] = field(default_factory=dict)  # stream -> how much its vectors differ between rows

    @property
    def mean_skill(self) -> float:
        return sum(self.skill.values()) / len(self.skill)


class _Part(NamedTuple):
    """What one batch says of one task, on the CPU."""

    task: str
    loss: float
    constant: float
    units: int  # labelled
    ids: Tensor  # [rows] int64
    prediction: Tensor  # [rows, ...]
    target: dict[str, Tensor]  # [rows, ...] each


@torch.no_grad()
def evaluate(
    model: MMBert,
    batches: Iterable[Batch],
    *,
    device: torch.device | str = "cpu",
    without: Collection[str] = (),
    asked: Callable[[], str] = str,
) -> Evaluation:
    """Evaluate a model, not wrapped for distribution, on this process's share of a split; all processes get the whole.

    Args:
        model: put into evaluation mode, and back into the mode it had.
        batches: this process's share; no row may be in two shares.
        without: inputs taken away from every row, as if they were absent.
        asked: gives the reason why this process has to stop, if it has to.

    Raises ``Preempted`` on all processes where one is told to stop, and what reading a batch raises.
    """
    training = model.training
    model.eval()
    dtype = next(model.parameters()).dtype
    parts: list[_Part | Moments] = []
    try:
        for batch in _in_step(iter(batches), asked):
            batch = batch.to(device, dtype)
            kept = {name: present for name, present in batch.inputs.items() if name not in without}
            batch = Batch(batch.ids, kept, batch.targets, batch.attributes)
            fused = model.fuse(batch)
            parts += _parts(model, batch, fused)
            parts += _moments(model, batch, fused)
    finally:
        model.train(training)
    return _summarise(model, gather_object(parts))


def _in_step(batches: Iterator[Batch], asked: Callable[[], str]) -> Iterator[Batch]:
    """The batches of this process, one a round of all of them; they may be fewer than another's."""
    working = True
    while working:
        batch, error = None, None
        try:
            batch = next(batches, None)
        except Exception as caught:
            error = caught
        working = together(error=error, stop=asked(), working=batch is not None).working
        if batch is not None:
            yield batch


def _parts(model: MMBert, batch: Batch, fused: Fused) -> list[_Part]:
    parts = []
    for name, target in batch.targets.items():
        task = model.tasks[name]
        at = fused.at(target.rows)
        output = model.output(name, at)
        labels = {key: tensor.cpu() for key, tensor in target.tensors.items()}
        rows = batch.ids[target.rows].cpu(), task.predict(output).cpu(), labels
        loss, constant = task.loss(output, target.tensors), task.loss(task.constant(at), target.tensors)
        parts.append(_Part(name, float(loss), float(constant), int(task.count(target.tensors)), *rows))
    return parts


def _moments(model: MMBert, batch: Batch, fused: Fused) -> list[Moments]:
    alone = dict(fused.alone)
    if "text" not in alone:  # the trunk reads it beside others
        has = model.present(batch)["text"]
        alone["text"] = mean_token(fused.streams["text"])._replace(mask=has[:, None])
    return [moments(name, token) for name, token in alone.items()]


def _summarise(model: MMBert, parts: list[_Part | Moments]) -> Evaluation:
    result = Evaluation({}, {}, {}, {}, {}, spread(part for part in parts if isinstance(part, Moments)))
    for name, task in model.tasks.items():
        own = [part for part in parts if isinstance(part, _Part) and part.task == name]
        count = sum(part.units for part in own)
        if not count:
            continue
        loss, constant = math.fsum(part.loss for part in own), math.fsum(part.constant for part in own)
        result.loss[name] = loss / count
        result.skill[name] = 1 - loss / constant if constant else 0.0
        predictions = ByRow([(part.ids, part.prediction) for part in own])
        targets = ByRow([(part.ids, part.target) for part in own])
        result.scores[name] = task.score(predictions.rows(), targets.rows())
        result.predictions[name], result.targets[name] = predictions, targets
        if not predictions.distinct:
            raise IntegrityError(f"task '{name}': {len(predictions)} rows were evaluated, of which some twice")
    return result
