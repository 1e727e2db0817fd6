"""Statistics over seeds: paired differences, their t interval, the exact sign-flip test, Holm's adjustment."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.stats

LEVEL = 0.05  # significance level, over all planned comparisons together
ENUMERATED = 20  # up to this many pairs all sign flips are enumerated, in 4 MB
CHUNKS, CHUNK = 100, 1000  # of random flips, for more pairs
ROUNDING = 1e-12  # relative to the largest value: what the order of additions can change


@dataclass(frozen=True)
class PairedDifference:
    """How much ``a`` exceeds ``b`` over the same seeds, in the unit of the values."""

    n: int  # pairs
    difference: float  # mean of a - b; nan without pairs
    sd: float  # of the differences, ddof 1; nan below two pairs
    low: float  # 95 % t interval of the mean difference; nan below two pairs
    high: float
    p: float  # two-sided sign-flip test; 1 below two pairs
    effect: float  # difference / sd (Cohen's d_z); nan where the differences do not vary


def compare_paired(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> PairedDifference:
    """Compare the values of two arms.

    Differences and deviations of at most 1e-12 of the largest value are rounding errors and count as 0.

    Args:
        a: one value for each seed.
        b: the same for the other arm, in the same order of seeds.

    Raises:
        ValueError: if the lengths differ or a value is not finite. The caller must leave out diverged runs, and say so.

    Example:
        >>> comparison = compare_paired([0.9, 0.8, 0.7], [0.8, 0.7, 0.5])
        >>> round(comparison.difference, 6), comparison.p
        (0.133333, 0.25)
    """
    first, second = _finite("a", a), _finite("b", b)
    if first.shape != second.shape:
        raise ValueError(f"a and b must have as many values, found {first.size} and {second.size}")
    n, nan = first.size, float("nan")
    if not n:
        return PairedDifference(0, nan, nan, nan, nan, 1.0, nan)
    differences = first - second
    rounding = ROUNDING * float(max(np.abs(first).max(), np.abs(second).max()))
    differences[np.abs(differences) <= rounding] = 0.0
    mean, p = float(differences.mean()), sign_flip_p_value(differences, rounding=rounding)
    if n == 1:
        return PairedDifference(1, mean, nan, nan, nan, p, nan)
    sd = float(differences.std(ddof=1))
    sd = sd if sd > rounding else 0.0
    half = float(scipy.stats.t.ppf(1 - LEVEL / 2, n - 1)) * sd / n**0.5
    return PairedDifference(n, mean, sd, mean - half, mean + half, p, mean / sd if sd else nan)


def sign_flip_p_value(differences: np.ndarray, *, rounding: float = 0.0) -> float:
    """Return the two-sided p of the hypothesis that each difference could as well have the opposite sign.

    p is the share of all 2^n choices of signs whose mean is at least as far from 0 as the observed one. It is exact up
    to 20 pairs. For more pairs it is the share among the observed choice and 100,000 random ones, always the same: it
    is never 0.

    Args:
        differences: one for each seed, [pairs].
        rounding: means that differ by at most this, or by 1e-12 of the mean size, are ties.

    Example:
        >>> sign_flip_p_value(np.array([1.0, 2.0, 3.0]))
        0.25

    Reference:
        Fisher, The Design of Experiments, section 21, 1935; Phipson and Smyth, Permutation p-values should never be
        zero, 2010.
    """
    n = len(differences)
    least = abs(differences.sum()) - rounding * n - ROUNDING * np.abs(differences).sum()
    if n > ENUMERATED:
        rng = np.random.default_rng(0)
        draws = [rng.choice([-1.0, 1.0], size=(CHUNK, n)) @ differences for _ in range(CHUNKS)]
        return float((1 + (np.abs(np.concatenate(draws)) >= least).sum()) / (1 + CHUNK * CHUNKS))
    sums = np.zeros(1)
    for index, difference in enumerate(differences):  # the first sign is fixed: the other half is the mirror image
        sums = np.concatenate([sums + difference, sums - difference]) if index else sums + difference
    return float((np.abs(sums) >= least).mean())


def holm_adjust(p: Sequence[float]) -> list[float]:
    """Return the p of all planned comparisons, adjusted so that the level holds for all of them together.

    Args:
        p: of each planned comparison; 1 for a comparison without a result.

    Example:
        >>> [round(p, 3) for p in holm_adjust([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]

    Reference:
        Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    # not from statsmodels, whose import takes a second, and which collects all garbage at each call
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * np.arange(len(p), 0, -1)), 1)
    return adjusted.tolist()


def smallest_p(n: int) -> float:
    """Return the smallest p that the sign-flip test can give: all differences have the same sign.

    Args:
        n: number of pairs.

    Raises:
        ValueError: if ``n`` is negative.

    Example:
        >>> [smallest_p(n) for n in (0, 1, 6)]
        [1.0, 1.0, 0.03125]
    """
    if n < 0:
        raise ValueError(f"expected a number of pairs, found {n}")
    exact = 2.0 ** min(1 - n, 0)
    return max(exact, 1 / (1 + CHUNK * CHUNKS)) if n > ENUMERATED else exact


def seeds_needed(comparisons: int) -> int:
    """Return the smallest number of seeds that can decide k planned comparisons: 1 + log2(k / .05), rounded up.

    Args:
        comparisons: k.

    Raises:
        ValueError: if it is below 1 or above 5000.

    Example:
        >>> [seeds_needed(k) for k in (1, 3, 10)]
        [6, 7, 9]
    """
    if not 1 <= comparisons <= LEVEL * CHUNK * CHUNKS:
        raise ValueError(f"expected 1 to {LEVEL * CHUNK * CHUNKS:.0f} comparisons, found {comparisons}")
    n = 1
    while comparisons * smallest_p(n) > LEVEL:
        n += 1
    return n


def can_decide(pairs: Sequence[int]) -> list[bool]:
    """Return for each planned comparison whether its adjusted p can be below .05 at all.

    Holm's adjustment increases with every p, so it is smallest if every p is the smallest possible.

    Args:
        pairs: the number of pairs of each planned comparison.

    Example:
        >>> can_decide([7, 7, 7]), can_decide([6, 6, 6])
        ([True, True, True], [False, False, False])
    """
    return [p < LEVEL for p in holm_adjust([smallest_p(n) for n in pairs])]


def _finite(name: str, values: Sequence[float] | np.ndarray) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name} must be a list of numbers, however: {array.shape=}")
    wrong = np.flatnonzero(~np.isfinite(array))
    if wrong.size:
        listed = ", ".join(f"{array[index]} at index {index}" for index in wrong)
        raise ValueError(f"expected finite values, found {listed} of {name}")
    return array
