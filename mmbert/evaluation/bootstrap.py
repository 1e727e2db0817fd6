"""Is one model better than another on the same rows? The paired bootstrap, by row or by group."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch


class Difference(NamedTuple):
    """How much metric(a) exceeds metric(b)."""

    difference: float  # on all rows
    low: float  # percentile interval
    high: float
    p: float  # two-sided; 1 where both arms are always equal


def paired_bootstrap(
    metric: Callable[[Any, Any], float],
    targets: Any,
    predictions_a: Any,
    predictions_b: Any,
    groups: Sequence[Any] | None = None,
    *,
    seed: int = 0,
    samples: int = 2000,
    level: float = 0.95,
) -> Difference:
    """Resample the rows (whole ``groups``, where given) with replacement, the same ones for both models.

    ``metric(predictions, targets)`` gives a number. Targets and predictions are arrays or tensors, whose first axis is
    rows (much the faster), or sequences with one entry a row. Where rows of one group resemble each other (one
    molecule, one speaker) intervals without ``groups`` are too narrow. Efron and Tibshirani 1993, chapters 13 and 15.
    Raises ``ValueError`` where the lengths differ or there is no row.

    >>> accuracy = lambda predicted, true: (predicted == true).mean()
    >>> true, a, b = np.ones(50), np.ones(50), np.zeros(50)
    >>> paired_bootstrap(accuracy, true, a, b, samples=100)[:3]
    (1.0, 1.0, 1.0)
    """
    size = len(targets)
    keys: list[Any] = list(range(size)) if groups is None else np.asarray(groups).tolist()  # plain, to be hashed
    if not size or {len(predictions_a), len(predictions_b), len(keys)} != {size}:
        lengths = [size, len(predictions_a), len(predictions_b), len(keys)]
        raise ValueError(f"targets, both predictions and groups must have as many rows, at least one; found {lengths}")

    def difference(rows: np.ndarray) -> float:
        true = _take(targets, rows)
        return float(metric(_take(predictions_a, rows), true)) - float(metric(_take(predictions_b, rows), true))

    return bootstrap(difference, keys, seed=seed, samples=samples, level=level)


def bootstrap(
    difference: Callable[[np.ndarray], float],
    groups: Sequence[Any],
    *,
    seed: int = 0,
    samples: int = 2000,
    level: float = 0.95,
) -> Difference:
    """The same where a difference is more than that of two predictions, as one of means over several models.

    ``difference(rows)`` is that on some rows, int64 [any], of which some may be there several times. ``groups`` are
    plain values, one a row.

    >>> values = np.array([1.0, 2.0, 3.0])
    >>> bootstrap(lambda rows: values[rows].mean(), ["a", "b", "b"], samples=100)[:3]
    (2.0, 1.0, 2.5)
    """
    drawn = _drawn(difference, groups, seed, samples)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    # one is added, as the observed data are one possible draw: p is never 0
    tail = 1 + min((drawn <= 0).sum(), (drawn >= 0).sum())
    p = min(1.0, 2 * float(tail) / (samples + 1))
    return Difference(float(difference(np.arange(len(groups)))), float(low), float(high), p)


def standard_error(
    statistic: Callable[[np.ndarray], float], groups: Sequence[Any], *, seed: int = 0, samples: int = 200
) -> float:
    """How far ``statistic(rows)`` is likely to lie from what other rows would have given; arguments as above.

    >>> values = np.array([0.0, 1.0] * 50)
    >>> round(standard_error(lambda rows: values[rows].mean(), range(100), samples=2000), 2)  # deviation / sqrt(100)
    0.05
    """
    return float(np.std(_drawn(statistic, groups, seed, samples), ddof=1))


def _drawn(statistic: Callable[[np.ndarray], float], groups: Sequence[Any], seed: int, samples: int) -> np.ndarray:
    """The statistic on the rows of groups that are drawn with replacement: [samples]."""
    codes = {group: code for code, group in enumerate(dict.fromkeys(groups))}
    of_row = np.array([codes[group] for group in groups])
    members = np.split(np.argsort(of_row, kind="stable"), np.cumsum(np.bincount(of_row))[:-1])
    rng = np.random.default_rng(seed)
    draws = rng.integers(len(members), size=(samples, len(members)))
    return np.array([statistic(np.concatenate([members[code] for code in draw])) for draw in draws])


def _take(values: Any, rows: np.ndarray) -> Any:
    if isinstance(values, torch.Tensor):
        return values[torch.from_numpy(rows)]
    return values[rows] if isinstance(values, np.ndarray) else [values[row] for row in rows]
