"""The difference of a metric between two models, as groups of rows swap their predictions or are left out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from mmbert.contracts import Task
from mmbert.errors import DataError
from mmbert.types import AdditiveScore, RankedValues

Targets = Mapping[str, Tensor]
CHUNK = 2**22  # numbers of one matrix product, 32 MB
LEFT_OUT = 200  # bundles of groups that are left out in turn, where each costs a score of all rows


class Contrast(Protocol):
    """Metric of the first model minus metric of the second, in float64.

    Attributes:
        size: the larger of both metrics without a sign, by which rounding errors are judged.
        scores_rows: whether each difference costs two scores of all rows.
    """

    size: float
    scores_rows: bool

    def swapped(self, swaps: np.ndarray) -> np.ndarray:
        """The difference [draws] after swapping both models' predictions in some groups, bool [draws, groups]."""
        ...

    def left_out(self) -> np.ndarray:
        """The difference without each group in turn, or without each of at most ``LEFT_OUT`` bundles of them."""
        ...


@dataclass(frozen=True)
class ScoredRows:
    """One model's predictions of some rows, with what scores them.

    Attributes:
        task: whose ``score`` judges the predictions.
        predictions: one a row.
        targets: the target tensors of each row.
    """

    task: Task
    predictions: Sequence[Tensor]
    targets: Sequence[Targets]


class AdditiveContrast:
    """Of a metric of sums: any swap is one product of a matrix of zeros and ones with the sums of the groups.

    Args:
        first: sums of each group of the first model.
        second: the same of the second model, with as many sums.
    """

    scores_rows = False

    def __init__(self, first: AdditiveScore, second: AdditiveScore):
        self._sums = first.sums.double().numpy(), second.sums.double().numpy()
        self._values = first.value, second.value
        self._totals = self._sums[0].sum(0), self._sums[1].sum(0)
        self.size = max(abs(float(value[0])) for value in self._scores(*(total[None] for total in self._totals)))

    def swapped(self, swaps: np.ndarray) -> np.ndarray:
        """See ``Contrast``."""
        moves = self._sums[1] - self._sums[0]
        step = max(CHUNK // len(moves), 1)
        parts = []
        for start in range(0, len(swaps), step):
            moved = swaps[start : start + step].astype(np.float64) @ moves
            parts.append(self._difference(self._totals[0] + moved, self._totals[1] - moved))
        return np.concatenate(parts)

    def left_out(self) -> np.ndarray:
        """See ``Contrast``."""
        return self._difference(*(total - sums for total, sums in zip(self._totals, self._sums, strict=True)))

    def _difference(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        scores = self._scores(first, second)
        return scores[0] - scores[1]

    def _scores(self, *sums: np.ndarray) -> list[np.ndarray]:
        return [value(torch.from_numpy(part)).numpy() for value, part in zip(self._values, sums, strict=True)]


class RankContrast:
    """Of average precision: the values of both models are sorted once, together.

    Args:
        first: the ranked values of the first model.
        second: those of the second, of the same rows.
        groups: int64 [rows], the group of each row, numbered from 0.
    """

    scores_rows = False

    def __init__(self, first: RankedValues, second: RankedValues, groups: np.ndarray):
        pair = (first, second)
        values = np.concatenate([ranked.values.double().numpy() for ranked in pair])
        order = np.argsort(-values, kind="stable")
        model = np.repeat([False, True], [len(ranked.values) for ranked in pair])
        self._is_second = model[order]
        self._group = groups[np.concatenate([ranked.rows.numpy() for ranked in pair])[order]]
        relevant = np.flatnonzero(np.concatenate([ranked.relevant.numpy() for ranked in pair])[order])
        last_of_tie = np.searchsorted(-values[order], -values[order], side="right") - 1
        self._relevant, self._end = relevant, last_of_tie[relevant]  # precision is that at the end of a tie
        self._relevant_at_end = np.searchsorted(relevant, self._end, side="right") - 1
        count = int(groups.max()) + 1
        self._missed = np.array([np.bincount(groups, ranked.missed.numpy(), count) for ranked in pair])
        self.size = 1.0

    def swapped(self, swaps: np.ndarray) -> np.ndarray:
        """See ``Contrast``."""
        every = np.ones(swaps.shape[1], bool)
        return np.array([self._difference(swap, every) for swap in swaps])

    def left_out(self) -> np.ndarray:
        """See ``Contrast``."""
        groups = np.arange(self._missed.shape[1])
        bundles = groups % LEFT_OUT
        none = np.zeros(len(groups), bool)
        return np.array([self._difference(none, bundles != bundle) for bundle in np.unique(bundles)])

    def _difference(self, swap: np.ndarray, included: np.ndarray) -> float:
        in_second = self._is_second ^ swap[self._group]
        present = included[self._group]
        missed = np.where(swap, self._missed[::-1], self._missed) @ included
        return self._precision(~in_second & present, missed[0]) - self._precision(in_second & present, missed[1])

    def _precision(self, chosen: np.ndarray, missed: float) -> float:
        """The average precision of the chosen values."""
        hits = chosen[self._relevant]
        if not (hit_count := int(hits.sum())):
            return 0.0
        retrieved, relevant = np.cumsum(chosen, dtype=np.int32)[self._end], np.cumsum(hits)[self._relevant_at_end]
        return float((relevant[hits] / retrieved[hits]).sum() / (hit_count + missed))


class RowContrast:
    """Of any metric: each swap scores all rows again.

    Args:
        metric: predictions and targets, one a row each -> the metric.
        first: predictions of the first model.
        second: predictions of the second model.
        targets: the target tensors of each row.
        groups: int64 [rows], the group of each row, numbered from 0.
    """

    scores_rows = True

    def __init__(
        self,
        metric: Callable[[Sequence[Tensor], Sequence[Targets]], float],
        first: Sequence[Tensor],
        second: Sequence[Tensor],
        targets: Sequence[Targets],
        groups: np.ndarray,
    ):
        self._metric, self._models, self._targets, self._groups = metric, (list(first), list(second)), targets, groups
        self.size = max(abs(metric(model, targets)) for model in self._models)

    def swapped(self, swaps: np.ndarray) -> np.ndarray:
        """See ``Contrast``."""
        differences = []
        for swap in swaps:
            pairs = zip(*self._models, swap[self._groups].tolist(), strict=True)
            mixed = [(second, first) if is_swapped else (first, second) for first, second, is_swapped in pairs]
            first, second = zip(*mixed, strict=True)
            differences.append(self._metric(first, self._targets) - self._metric(second, self._targets))
        return np.array(differences)

    def left_out(self) -> np.ndarray:
        """See ``Contrast``."""
        bundles = self._groups % LEFT_OUT
        return np.array([self._of_rows(np.flatnonzero(bundles != bundle)) for bundle in np.unique(bundles)])

    def _of_rows(self, rows: np.ndarray) -> float:
        targets = [self._targets[row] for row in rows]
        first, second = (self._metric([model[row] for row in rows], targets) for model in self._models)
        return first - second


class MeanContrast:
    """The mean of several contrasts, such as one a seed, whose groups swap together.

    Args:
        contrasts: at least one.
    """

    def __init__(self, contrasts: Sequence[Contrast]):
        self._contrasts = contrasts
        self.size = max(contrast.size for contrast in contrasts)
        self.scores_rows = any(contrast.scores_rows for contrast in contrasts)

    def swapped(self, swaps: np.ndarray) -> np.ndarray:
        """See ``Contrast``."""
        return np.mean([contrast.swapped(swaps) for contrast in self._contrasts], axis=0)

    def left_out(self) -> np.ndarray:
        """See ``Contrast``."""
        return np.mean([contrast.left_out() for contrast in self._contrasts], axis=0)


def contrast(first: ScoredRows, second: ScoredRows, metric: str, groups: np.ndarray) -> Contrast:
    """The contrast of two models in one metric, by sums where the metric has them.

    Args:
        first: of the first model.
        second: of the second model, for the same rows.
        metric: of both tasks.
        groups: int64 [rows], the group of each row, numbered from 0.

    Raises:
        DataError: where the metric needs all predictions on one scale, and the two tasks number their labels
            in different ways.
    """
    numbered = torch.from_numpy(groups)
    sums = [side.task.additive(metric, side.predictions, side.targets, numbered) for side in (first, second)]
    if sums[0] is not None and sums[1] is not None and sums[0].classes == sums[1].classes:
        return AdditiveContrast(sums[0], sums[1])
    if any(sums) or any(_differ(*pair) for pair in zip(first.targets, second.targets, strict=True)):
        raise DataError(f"{metric} cannot be compared row by row: the two models were trained on different labels")
    ranked = [side.task.ranked(metric, side.predictions, side.targets) for side in (first, second)]
    if ranked[0] is not None and ranked[1] is not None:
        return RankContrast(ranked[0], ranked[1], groups)
    predictions = first.predictions, second.predictions
    return RowContrast(lambda *rows: first.task.score(*rows)[metric], *predictions, first.targets, groups)


def _differ(first: Targets, second: Targets) -> bool:
    return first.keys() != second.keys() or any(not torch.equal(first[name], second[name]) for name in first)


def bundled(groups: Sequence[object], most: int, seed: int) -> tuple[np.ndarray, int]:
    """The number of each row's group, and how many groups there are; of too many groups, bundles are numbered.

    Args:
        groups: one a row, values that can be hashed.
        most: the most numbers; more groups are joined at random into as many bundles of about the same size.
        seed: of the bundles.

    Example:
        >>> numbers, count = bundled(["a", "b", "a", "c"], most=10, seed=0)
        >>> numbers.tolist(), count
        ([0, 1, 0, 2], 3)
    """
    codes = {group: code for code, group in enumerate(dict.fromkeys(groups))}
    numbers = np.fromiter((codes[group] for group in groups), np.int64, len(groups))
    if len(codes) > most:
        numbers = (np.random.default_rng(seed).permutation(len(codes)) % most)[numbers]
    return numbers, len(codes)


def random_swaps(rng: np.random.Generator, draws: int, groups: int, *, chunk: int) -> Iterator[np.ndarray]:
    """Random swaps, bool [up to chunk, groups] at a time: a fair coin for each group.

    Args:
        rng: which is advanced.
        draws: of all chunks together.
        groups: how many may swap.
        chunk: draws at a time.
    """
    width = -(-groups // 8)
    for start in range(0, draws, chunk):
        count = min(chunk, draws - start)
        coins = np.frombuffer(rng.bytes(count * width), np.uint8).reshape(count, width)
        yield np.unpackbits(coins, axis=1, count=groups).astype(bool)
