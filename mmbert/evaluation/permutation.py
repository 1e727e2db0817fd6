"""Paired permutation test: is one model better than another on the same rows? By row or by group.

If two models are equally good, their predictions of a group of rows could as well be swapped. p is the share of all
swaps after which the models differ at least as much as they do; it holds at every number of groups, down to one, where
it is 1. A bootstrap does not: without any difference, p < .05 came in 48 % of samples of two rows and in 17 % of five.

What is done to be fast: the metrics that depend on sums over rows (``Task.additive``) are computed from the sums of
each group, without a look at the rows; more than 4,096 groups swap in that many random bundles. Average precision sorts
the values of both models once (``Task.ranked``) and counts along that order for each swap. Other metrics score all rows
again: of them there are fewer draws the more rows there are, down to 999, and drawing ends as soon as p is clearly
large (after 100 swaps with at least the observed difference, p = 100 / draws).

Reference:
    Fisher, The Design of Experiments, 1935, section 21; Pitman, Significance tests which may be applied to samples from
    any populations, 1937. Phipson and Smyth, Permutation p-values should never be zero, 2010: (b + 1) / (B + 1).
    Besag and Clifford, Sequential Monte Carlo p-values, 1991. Efron and Tibshirani, An Introduction to the Bootstrap,
    1993, chapters 11 and 15: the jackknife, permutation tests.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mmbert.evaluation.contrasts import Contrast, MeanContrast, ScoredRows, bundled, contrast, random_swaps

LEVEL = 0.95  # of intervals
EXACT = 12  # groups: up to so many, all swaps are enumerated
DRAWS = 10_000  # of random swaps, for more groups
FEWEST_GROUPS = 6  # with an interval
BUNDLES = 4096  # more groups swap in so many bundles
ROW_SCORES = 2_000_000  # rows that are scored at most, where each draw scores all of them
FEWEST_DRAWS = 999  # even so
ENOUGH = 100  # swaps with at least the observed difference, after which drawing may end
ROUNDING = 1e-12  # relative to the metrics: what the order of additions can change


class Difference(NamedTuple):
    """How much metric(a) exceeds metric(b).

    Attributes:
        difference: on all rows.
        low: lower end of the 95 % jackknife-t interval; None below six groups, and where no group changes anything.
        high: upper end.
        p: of the permutation test, two-sided; 1 where both models are always equal.
        groups: how many there are; rows without a group count as one each.
    """

    difference: float
    low: float | None
    high: float | None
    p: float
    groups: int

    def in_words(self) -> str:
        """The difference, the test and the interval, or why there is none.

        Example:
            >>> Difference(0.5, 0.25, 0.75, 0.0123, 40).in_words()
            '+0.5 (paired permutation of 40 groups of rows: p = 0.0123; 95 % interval +0.25 to +0.75)'
            >>> Difference(0.5, None, None, 0.5, 2).in_words()
            '+0.5 (paired permutation of 2 groups of rows: p = 0.5; no interval, which needs 6 groups)'
        """
        if self.low is not None and self.high is not None:
            interval = f"95 % interval {self.low:+.4g} to {self.high:+.4g}"
        elif self.groups < FEWEST_GROUPS:
            interval = f"no interval, which needs {FEWEST_GROUPS} groups"
        else:
            interval = "no interval, as no group changes anything"
        groups = f"{self.groups} group{'' if self.groups == 1 else 's'} of rows"
        return f"{self.difference:+.4g} (paired permutation of {groups}: p = {self.p:.3g}; {interval})"


def compare_predictions(
    first: Sequence[ScoredRows],
    second: Sequence[ScoredRows],
    metric: str,
    groups: Sequence[Any],
    *,
    seed: int = 0,
    draws: int = DRAWS,
) -> Difference:
    """The difference of a metric between two models, or between the means over several models each.

    Args:
        first: the first model's predictions; of several models (seeds), the metric's mean is compared.
        second: as many of the second.
        metric: a metric of their task.
        groups: the group of each row; whole groups swap. Where rows of one group resemble each other (one molecule, one
            speaker), a test without groups takes chance for a difference.
        seed: of the draws.
        draws: of random swaps.

    Raises:
        ValueError: where the numbers of rows differ or there is no row.
    """
    sizes = {len(groups), *(len(rows) for side in (*first, *second) for rows in (side.predictions, side.targets))}
    if len(sizes) > 1 or not len(groups):
        raise ValueError(f"predictions, targets and groups must have as many rows, at least one; found {sorted(sizes)}")
    numbers, count = bundled(groups, BUNDLES, seed)
    contrasts = [contrast(ours, theirs, metric, numbers) for ours, theirs in zip(first, second, strict=True)]
    most = draws
    if any(part.scores_rows for part in contrasts):
        most = min(draws, max(FEWEST_DRAWS, ROW_SCORES // (len(groups) * len(contrasts))))
    return compare_groups(MeanContrast(contrasts), count, seed=seed, draws=most)


def compare_groups(pair: Contrast, groups: int, *, seed: int = 0, draws: int = DRAWS) -> Difference:
    """The difference of a contrast, its interval and p.

    Args:
        pair: of two models.
        groups: how many groups there are.
        seed: of the draws.
        draws: of random swaps.
    """
    units = min(groups, BUNDLES)
    observed = float(pair.swapped(np.zeros((1, units), bool))[0])
    low, high = _interval(pair, observed, units)
    return Difference(observed, low, high, _permutation_p(pair, observed, units, seed, draws), groups)


def _permutation_p(pair: Contrast, observed: float, units: int, seed: int, draws: int) -> float:
    least = abs(observed) * (1 - 1e-9) - ROUNDING * pair.size  # differences that are equal but for rounding are ties
    if units <= EXACT:  # the first group stays: swapping all the others instead changes the sign only
        codes = np.arange(2 ** (units - 1))
        swaps = np.hstack([np.zeros((len(codes), 1), bool), (codes[:, None] >> np.arange(units - 1) & 1).astype(bool)])
        return float((np.abs(pair.swapped(swaps)) >= least).mean())
    rng, reached, done = np.random.default_rng(seed), 0, 0
    for swaps in random_swaps(rng, draws, units, chunk=100 if pair.scores_rows else draws):
        hits = np.abs(pair.swapped(swaps)) >= least
        if pair.scores_rows and reached + hits.sum() >= ENOUGH:
            return ENOUGH / (done + 1 + int(np.flatnonzero(hits)[ENOUGH - reached - 1]))
        reached, done = reached + int(hits.sum()), done + len(swaps)
    return (reached + 1) / (done + 1)


def _interval(pair: Contrast, observed: float, units: int) -> tuple[float | None, float | None]:
    """The jackknife-t interval; for the mean over groups of one size it is the t interval of the group means."""
    if units < FEWEST_GROUPS:
        return None, None
    from scipy.stats import t  # slow to import

    left_out = pair.left_out()
    count = len(left_out)
    error = ((count - 1) / count * np.square(left_out - left_out.mean()).sum()) ** 0.5
    if not error > ROUNDING * pair.size * count:
        return None, None
    half = float(t.ppf((1 + LEVEL) / 2, count - 1)) * float(error)
    return observed - half, observed + half
