"""Exact evaluation: each row of a split counts once, whatever the number of processes."""

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate.utils import gather_object
from torch import Tensor

from mmbert.distributed import all_reduce_or_raise
from mmbert.errors import IntegrityError
from mmbert.layers.masked import mean_token
from mmbert.model import MMBert
from mmbert.types import Batch, Fused, Tokens


class RowsById(Mapping[int, Any]):
    """Rows of tensors by sample id, in the order of the ids.

    Rows are sliced on access: a tensor object per row would take a hundred times the memory of a number.

    Args:
        blocks: pairs of ids [rows] and a tensor [rows, ...], or a dict of such tensors.

    Example:
        >>> blocks = [(torch.tensor([7, 3]), torch.tensor([0.7, 0.3])), (torch.tensor([5]), torch.tensor([0.5]))]
        >>> rows = RowsById(blocks)
        >>> list(rows), rows[7].item()
        ([3, 5, 7], 0.699999988079071)
    """

    def __init__(self, blocks: Sequence[tuple[Tensor, Any]]):
        ids = torch.cat([ids for ids, _ in blocks]).numpy() if blocks else np.zeros(0, np.int64)
        sizes = [len(ids) for ids, _ in blocks]
        order = np.argsort(ids, kind="stable")
        self._ids = ids[order]
        self._block = np.repeat(np.arange(len(blocks)), sizes)[order]
        self._row_of_block = np.concatenate([np.arange(size) for size in sizes] or [ids])[order]
        self._blocks = list(blocks)

    @property
    def blocks(self) -> list[tuple[Tensor, Any]]:
        """The blocks in the order in which they were passed."""
        return self._blocks

    @property
    def distinct(self) -> bool:
        """Whether each id occurs once."""
        return bool((self._ids[1:] != self._ids[:-1]).all())

    def __getitem__(self, sample: int) -> Any:
        position = int(np.searchsorted(self._ids, sample))
        if position == len(self) or self._ids[position] != sample:
            raise KeyError(sample)
        return self._row(position)

    def __iter__(self) -> Iterator[int]:
        return iter(self._ids.tolist())

    def __len__(self) -> int:
        return len(self._ids)

    def rows(self) -> list[Any]:
        """The rows in the order of the ids."""
        return [self._row(position) for position in range(len(self))]

    def _row(self, position: int) -> Any:
        row = int(self._row_of_block[position])
        values = self._blocks[self._block[position]][1]
        if isinstance(values, Tensor):
            return values[row]
        return {name: tensor[row] for name, tensor in values.items()}


class Moments(NamedTuple):
    """Sums over the vectors of one input, of the rows that have it, in float64 on the CPU.

    Attributes:
        name: of the input.
        rows: number of rows that have it.
        vectors: sum of the vectors, [dim].
        squares: sum of their squared norms.
    """

    name: str
    rows: int
    vectors: Tensor
    squares: float


def moments(name: str, token: Tokens) -> Moments:
    """The moments of the rows that are not masked.

    Args:
        name: of the input.
        token: one token a row, [batch, 1, dim].
    """
    vectors = token.values[token.mask].double().cpu()
    return Moments(name, len(vectors), vectors.sum(0), float(vectors.square().sum()))


def spread(parts: Iterable[Moments]) -> dict[str, float]:
    """The standard deviation of each input's vectors, divided by their root mean square.

    0 where all vectors are the same, or zero; 1 where their mean is zero.

    Args:
        parts: moments of batches, of any inputs.

    Returns:
        Input -> spread, for inputs that at least two rows have.

    Example:
        >>> right, left = torch.tensor([[1.0, 0.0]]), torch.tensor([[-1.0, 0.0]])
        >>> real = torch.ones(2, 1, dtype=torch.bool)
        >>> def of(*rows): return [moments("x", Tokens(torch.stack(rows), real, real.long()))]
        >>> spread(of(right, right)), spread(of(right, left))
        ({'x': 0.0}, {'x': 1.0})
    """
    totals: dict[str, Moments] = {}
    for part in parts:
        total = totals.get(part.name, Moments(part.name, 0, torch.zeros_like(part.vectors), 0.0))
        sums = total.rows + part.rows, total.vectors + part.vectors, total.squares + part.squares
        totals[part.name] = Moments(part.name, *sums)
    return {name: _relative_deviation(total) for name, total in sorted(totals.items()) if total.rows > 1}


def _relative_deviation(total: Moments) -> float:
    mean_square = total.squares / total.rows
    variance = mean_square - float((total.vectors / total.rows).square().sum())
    return 0.0 if mean_square == 0 or variance < 0 else (variance / mean_square) ** 0.5  # rounding: variance < 0


@dataclass(frozen=True)
class Evaluation:
    """The result on one split; a task without labels in the split has no entry.

    Attributes:
        loss: task -> mean over labelled units.
        skill: task -> 1 - loss / loss of the best constant predictor: 0 is no better than that, 1 is perfect.
        scores: task -> metric -> value.
        predictions: task -> sample id -> prediction, for labelled rows.
        targets: task -> sample id -> target tensors by name, for the same rows.
        spread: stream -> how much its vectors differ between rows, see ``spread``.
    """

    loss: dict[str, float]
    skill: dict[str, float]
    scores: dict[str, dict[str, float]]
    predictions: dict[str, RowsById]
    targets: dict[str, RowsById]
    spread: dict[str, float] = field(default_factory=dict)

    @property
    def mean_skill(self) -> float:
        """The mean over tasks."""
        return sum(self.skill.values()) / len(self.skill)


class _TaskPart(NamedTuple):
    """The sums and rows of one task in one batch, on the CPU."""

    task: str
    loss: float
    constant: float  # loss of the constant predictor
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
    stop_reason: Callable[[], str] = str,
) -> Evaluation:
    """Evaluate a model on a split; each process reads its share and returns the result of the whole split.

    Args:
        model: not wrapped for distribution. Put into evaluation mode, then back into the mode it had.
        batches: the share of this process; no row may be in two shares.
        device: of the model.
        without: inputs that are removed from every row, as if they were absent.
        stop_reason: returns why this process has to stop; the empty string where it does not have to.

    Raises:
        Preempted: on all processes, where one has to stop.
        IntegrityError: where a row was read twice.
        Exception: any error of reading a batch, on all processes.
    """
    training = model.training
    model.eval()
    dtype = next(model.parameters()).dtype
    parts: list[_TaskPart | Moments] = []
    try:
        for batch in _in_step(iter(batches), stop_reason):
            batch = batch.to(device, dtype)
            inputs = {name: present for name, present in batch.inputs.items() if name not in without}
            batch = Batch(batch.ids, inputs, batch.targets, batch.attributes)
            fused = model.fuse(batch)
            parts += _task_parts(model, batch, fused)
            parts += _moments(model, batch, fused)
    finally:
        model.train(training)
    return _summarise(model, gather_object(parts))


def _in_step(batches: Iterator[Batch], stop_reason: Callable[[], str]) -> Iterator[Batch]:
    """The batches of this process, one a round of all of them; they may be fewer than another's."""
    working = True
    while working:
        batch, error = None, None
        try:
            batch = next(batches, None)
        except Exception as caught:
            error = caught
        working = all_reduce_or_raise(error=error, stop=stop_reason(), working=batch is not None).working
        if batch is not None:
            yield batch


def _task_parts(model: MMBert, batch: Batch, fused: Fused) -> list[_TaskPart]:
    parts = []
    for name, target in batch.targets.items():
        task = model.tasks[name]
        labelled = fused.at(target.rows)
        output = model.output(name, labelled)
        labels = {key: tensor.cpu() for key, tensor in target.tensors.items()}
        rows = batch.ids[target.rows].cpu(), task.predict(output).cpu(), labels
        loss, constant = task.loss(output, target.tensors), task.loss(task.constant(labelled), target.tensors)
        parts.append(_TaskPart(name, float(loss), float(constant), int(task.count(target.tensors)), *rows))
    return parts


def _moments(model: MMBert, batch: Batch, fused: Fused) -> list[Moments]:
    alone = dict(fused.unimodal)
    if "text" not in alone:  # the trunk reads it together with other streams
        has = model.present(batch)["text"]
        alone["text"] = mean_token(fused.streams["text"])._replace(mask=has[:, None])
    return [moments(name, token) for name, token in alone.items()]


def _summarise(model: MMBert, parts: list[_TaskPart | Moments]) -> Evaluation:
    result = Evaluation({}, {}, {}, {}, {}, spread(part for part in parts if isinstance(part, Moments)))
    for name, task in model.tasks.items():
        task_parts = [part for part in parts if isinstance(part, _TaskPart) and part.task == name]
        if not task_parts:
            continue
        count = sum(part.units for part in task_parts)  # 0 where training has none of these labels
        loss = math.fsum(part.loss for part in task_parts)
        constant = math.fsum(part.constant for part in task_parts)
        result.loss[name] = loss / count if count else 0.0
        result.skill[name] = 1 - loss / constant if constant else 0.0
        predictions = RowsById([(part.ids, part.prediction) for part in task_parts])
        targets = RowsById([(part.ids, part.target) for part in task_parts])
        result.scores[name] = task.score(predictions.rows(), targets.rows())
        result.predictions[name], result.targets[name] = predictions, targets
        if not predictions.distinct:
            raise IntegrityError(f"task '{name}': {len(predictions)} rows were evaluated, some of them twice")
    return result
