"""Exact evaluation: every row of a split once, whatever the number of processes."""

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate.utils import gather_object
from torch import Tensor

from mmbert.distributed import together
from mmbert.errors import IntegrityError
from mmbert.layers.masked import mean_token
from mmbert.model import MMBert
from mmbert.types import Batch, Fused, Tokens


class ByRow(Mapping[int, Any]):
    """Sample id -> a row of a tensor, or of each tensor of a dict, in the order of the ids.

    A tensor object of its own for each row would take a hundred times the memory of the number in it: a row is cut out
    when it is asked for. ``blocks`` are pairs of ids [rows] and tensors [rows, ...].

    >>> rows = ByRow([(torch.tensor([7, 3]), torch.tensor([0.7, 0.3])), (torch.tensor([5]), torch.tensor([0.5]))])
    >>> list(rows), rows[7].item()
    ([3, 5, 7], 0.699999988079071)
    """

    def __init__(self, blocks: Sequence[tuple[Tensor, Any]]):
        ids = torch.cat([ids for ids, _ in blocks]).numpy() if blocks else np.zeros(0, np.int64)
        sizes = [len(ids) for ids, _ in blocks]
        order = np.argsort(ids, kind="stable")
        self._ids = ids[order]
        self._block = np.repeat(np.arange(len(blocks)), sizes)[order]
        self._place = np.concatenate([np.arange(size) for size in sizes] or [ids])[order]
        self._blocks = list(blocks)

    @property
    def blocks(self) -> list[tuple[Tensor, Any]]:
        """The blocks that it was made of, in their order."""
        return self._blocks

    @property
    def distinct(self) -> bool:
        """Whether no id is there twice."""
        return bool((self._ids[1:] != self._ids[:-1]).all())

    def __getitem__(self, sample: int) -> Any:
        at = int(np.searchsorted(self._ids, sample))
        if at == len(self) or self._ids[at] != sample:
            raise KeyError(sample)
        return self._row(at)

    def __iter__(self) -> Iterator[int]:
        return iter(self._ids.tolist())

    def __len__(self) -> int:
        return len(self._ids)

    def rows(self) -> list[Any]:
        """The rows in the order of the ids."""
        return [self._row(at) for at in range(len(self))]

    def _row(self, at: int) -> Any:
        place = int(self._place[at])
        values = self._blocks[self._block[at]][1]
        if isinstance(values, Tensor):
            return values[place]
        return {name: tensor[place] for name, tensor in values.items()}


class Moments(NamedTuple):
    """Sums over the rows that have an input, of their vectors and the squares of these, in float64 on the CPU."""

    name: str
    rows: int
    vectors: Tensor  # [dim]
    squares: float


def moments(name: str, token: Tokens) -> Moments:
    """Of the rows [batch, 1, dim] that are not masked."""
    vectors = token.values[token.mask].double().cpu()
    return Moments(name, len(vectors), vectors.sum(0), float(vectors.square().sum()))


def spread(parts: Iterable[Moments]) -> dict[str, float]:
    """The standard deviation of each input's vectors over their root mean square; none where two rows do not have it.

    0 where all are the same, or zero; 1 where their mean is zero.

    >>> same, other = torch.tensor([[1.0, 0.0]]), torch.tensor([[-1.0, 0.0]])
    >>> real = torch.ones(2, 1, dtype=torch.bool)
    >>> def of(*rows): return [moments("x", Tokens(torch.stack(rows), real, real.long()))]
    >>> spread(of(same, same)), spread(of(same, other))
    ({'x': 0.0}, {'x': 1.0})
    """
    found: dict[str, Moments] = {}
    for one in parts:
        before = found.get(one.name, Moments(one.name, 0, torch.zeros_like(one.vectors), 0.0))
        sums = before.rows + one.rows, before.vectors + one.vectors, before.squares + one.squares
        found[one.name] = Moments(one.name, *sums)
    return {name: _spread(one) for name, one in sorted(found.items()) if one.rows > 1}


def _spread(one: Moments) -> float:
    size = one.squares / one.rows
    variance = size - float((one.vectors / one.rows).square().sum())
    return 0.0 if size == 0 or variance < 0 else (variance / size) ** 0.5  # rounding can make it negative


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
