"""Bootstrap standard error of a statistic of rows, by row or by group."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def standard_error(
    statistic: Callable[[np.ndarray], float], groups: Sequence[Any], *, seed: int = 0, samples: int = 200
) -> float:
    """The bootstrap standard error of a statistic. Below six groups it is an underestimate.

    Args:
        statistic: ``statistic(rows)`` on some rows, int64 [any], in which a row may occur several times.
        groups: one a row, plain values; whole groups are drawn with replacement.
        seed: of the draws.
        samples: number of draws.

    Example:
        >>> values = np.array([0.0, 1.0] * 50)
        >>> error = standard_error(lambda rows: values[rows].mean(), range(100), samples=2000)
        >>> round(error, 2)  # standard deviation / sqrt(100)
        0.05

    Reference:
        Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 6.
    """
    codes = {group: code for code, group in enumerate(dict.fromkeys(groups))}
    group_of_row = np.array([codes[group] for group in groups])
    members = np.split(np.argsort(group_of_row, kind="stable"), np.cumsum(np.bincount(group_of_row))[:-1])
    rng = np.random.default_rng(seed)
    draws = rng.integers(len(members), size=(samples, len(members)))
    return float(np.std([statistic(np.concatenate([members[code] for code in draw])) for draw in draws], ddof=1))
