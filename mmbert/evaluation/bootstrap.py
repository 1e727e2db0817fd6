"""Paired bootstrap: is one model better than another on the same rows? By row or by group."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

LEVEL = 0.95  # of intervals


class Difference(NamedTuple):
    """How much metric(a) exceeds metric(b).

    Attributes:
        difference: on all rows.
        low: lower end of the 95 % percentile interval.
        high: upper end.
        p: two-sided; 1 where both models are always equal.
    """

    difference: float
    low: float
    high: float
    p: float


def paired_bootstrap(
    metric: Callable[[Any, Any], float],
    targets: Any,
    predictions_a: Any,
    predictions_b: Any,
    groups: Sequence[Any] | None = None,
    *,
    seed: int = 0,
    samples: int = 2000,
) -> Difference:
    """The difference of a metric between two models, with an interval and a p value.

    Rows are drawn with replacement, the same ones for both models. Targets and predictions are arrays or tensors whose
    first axis is rows (much the faster), or sequences with one entry a row.

    Args:
        metric: ``metric(predictions, targets)`` gives a number.
        targets: of all rows.
        predictions_a: of the first model.
        predictions_b: of the second model.
        groups: the group of each row; whole groups are drawn. Where rows of one group resemble each other (one
            molecule, one speaker), intervals without groups are too narrow.
        seed: of the draws.
        samples: number of draws.

    Raises:
        ValueError: where the lengths differ or there is no row.

    Example:
        >>> accuracy = lambda predicted, true: (predicted == true).mean()
        >>> true, a, b = np.ones(50), np.ones(50), np.zeros(50)
        >>> paired_bootstrap(accuracy, true, a, b, samples=100)[:3]
        (1.0, 1.0, 1.0)

    Reference:
        Efron and Tibshirani 1993, chapters 13 and 15.
    """
    size = len(targets)
    keys: list[Any] = list(range(size)) if groups is None else np.asarray(groups).tolist()  # plain values can be hashed
    if not size or {len(predictions_a), len(predictions_b), len(keys)} != {size}:
        lengths = [size, len(predictions_a), len(predictions_b), len(keys)]
        raise ValueError(f"targets, both predictions and groups must have as many rows, at least one; found {lengths}")

    def difference(rows: np.ndarray) -> float:
        true = _take(targets, rows)
        return float(metric(_take(predictions_a, rows), true)) - float(metric(_take(predictions_b, rows), true))

    return bootstrap(difference, keys, seed=seed, samples=samples)


def bootstrap(
    difference: Callable[[np.ndarray], float], groups: Sequence[Any], *, seed: int = 0, samples: int = 2000
) -> Difference:
    """The bootstrap of any difference, such as one of means over several models.

    Args:
        difference: ``difference(rows)`` on some rows, int64 [any], in which a row may occur several times.
        groups: one a row, plain values; whole groups are drawn.
        seed: of the draws.
        samples: number of draws.

    Example:
        >>> values = np.array([1.0, 2.0, 3.0])
        >>> bootstrap(lambda rows: values[rows].mean(), ["a", "b", "b"], samples=100)[:3]
        (2.0, 1.0, 2.5)
    """
    statistics = _resample(difference, groups, seed, samples)
    low, high = np.quantile(statistics, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    # 1 is added, as the observed data are one possible draw: p is never 0
    tail = 1 + min((statistics <= 0).sum(), (statistics >= 0).sum())
    p = min(1.0, 2 * float(tail) / (samples + 1))
    return Difference(float(difference(np.arange(len(groups)))), float(low), float(high), p)


def standard_error(
    statistic: Callable[[np.ndarray], float], groups: Sequence[Any], *, seed: int = 0, samples: int = 200
) -> float:
    """The bootstrap standard error of a statistic.

    Args:
        statistic: ``statistic(rows)`` on some rows, int64 [any], in which a row may occur several times.
        groups: one a row, plain values; whole groups are drawn.
        seed: of the draws.
        samples: number of draws.

    Example:
        >>> values = np.array([0.0, 1.0] * 50)
        >>> error = standard_error(lambda rows: values[rows].mean(), range(100), samples=2000)
        >>> round(error, 2)  # standard deviation / sqrt(100)
        0.05
    """
    return float(np.std(_resample(statistic, groups, seed, samples), ddof=1))


def _resample(statistic: Callable[[np.ndarray], float], groups: Sequence[Any], seed: int, samples: int) -> np.ndarray:
    """The statistic [samples] on rows of groups that are drawn with replacement."""
    codes = {group: code for code, group in enumerate(dict.fromkeys(groups))}
    group_of_row = np.array([codes[group] for group in groups])
    members = np.split(np.argsort(group_of_row, kind="stable"), np.cumsum(np.bincount(group_of_row))[:-1])
    rng = np.random.default_rng(seed)
    draws = rng.integers(len(members), size=(samples, len(members)))
    return np.array([statistic(np.concatenate([members[code] for code in draw])) for draw in draws])


def _take(values: Any, rows: np.ndarray) -> Any:
    if isinstance(values, torch.Tensor):
        return values[torch.from_numpy(rows)]
    return values[rows] if isinstance(values, np.ndarray) else [values[row] for row in rows]
