"""Do two arms differ over seeds? Paired differences, their interval, and the exact sign-flip test with Holm."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.stats

LEVEL = 0.05  # of the error of the first kind, over all planned comparisons together
ENUMERATED = 20  # up to so many pairs all sign flips are counted, in 4 MB
CHUNKS, CHUNK = 100, 1000  # of random flips, where there are more pairs
ROUNDING = 1e-12  # of the largest value: what the order of additions may change


@dataclass(frozen=True)
class Paired:
    """How much ``a`` exceeds ``b`` over the same seeds, in the unit of the values."""

    n: int  # pairs
    difference: float  # mean of a - b; nan without pairs
    sd: float  # of the differences, ddof 1; nan below two pairs
    low: float  # 95 % t interval of the mean difference; nan below two pairs
    high: float
    p: float  # two-sided sign-flip test; 1 below two pairs
    effect: float  # difference / sd (Cohen's d_z); nan where the differences do not vary


def paired(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> Paired:
    """Compare values of two arms, in the same order of seeds.

    Differences and spreads of at most 1e-12 of the largest value count as none, as they are rounding. Raises
    ``ValueError`` where the lengths differ or a value is not finite: a diverged run has no difference, and leaving it
    out is the caller's to say.

    >>> paired([0.9, 0.8, 0.7], [0.8, 0.7, 0.5]).difference.__round__(6)
    0.133333
    >>> paired([0.9, 0.8, 0.7], [0.8, 0.7, 0.5]).p
    0.25
    """
    first, second = _finite("a", a), _finite("b", b)
    if first.shape != second.shape:
        raise ValueError(f"a and b must have as many values, found {first.size} and {second.size}")
    n, nan = first.size, float("nan")
    if not n:
        return Paired(0, nan, nan, nan, nan, 1.0, nan)
    differences = first - second
    rounding = ROUNDING * float(max(np.abs(first).max(), np.abs(second).max()))
    differences[np.abs(differences) <= rounding] = 0.0
    mean, p = float(differences.mean()), sign_flip(differences, rounding=rounding)
    if n == 1:
        return Paired(1, mean, nan, nan, nan, p, nan)
    sd = float(differences.std(ddof=1))
    sd = sd if sd > rounding else 0.0
    half = float(scipy.stats.t.ppf(1 - LEVEL / 2, n - 1)) * sd / n**0.5
    return Paired(n, mean, sd, mean - half, mean + half, p, mean / sd if sd else nan)


def sign_flip(differences: np.ndarray, *, rounding: float = 0.0) -> float:
    """The p of the hypothesis that each of ``differences`` [pairs] could as well have the other sign, two-sided.

    The share of all 2^n choices of signs whose mean is at least as far from 0 as the one seen (Fisher 1935, section
    21); means that differ by at most ``rounding``, or by 1e-12 of the mean size, are ties. Exact up to 20 pairs.
    Beyond, the share among the one seen and 100,000 random choices, always the same ones: it is never 0 (Phipson and
    Smyth 2010).

    >>> sign_flip(np.array([1.0, 2.0, 3.0]))
    0.25
    """
    n = len(differences)
    least = abs(differences.sum()) - rounding * n - ROUNDING * np.abs(differences).sum()
    if n > ENUMERATED:
        rng = np.random.default_rng(0)
        draws = [rng.choice([-1.0, 1.0], size=(CHUNK, n)) @ differences for _ in range(CHUNKS)]
        return float((1 + (np.abs(np.concatenate(draws)) >= least).sum()) / (1 + CHUNK * CHUNKS))
    sums = np.zeros(1)
    for place, one in enumerate(differences):  # the first sign stays: the other half is the mirror image
        sums = np.concatenate([sums + one, sums - one]) if place else sums + one
    return float((np.abs(sums) >= least).mean())


def holm(p: Sequence[float]) -> list[float]:
    """Adjust the p of all planned comparisons, so that any false finding among them is as rare as the level says.

    Holm 1979. A comparison that has no result belongs in the list, with p = 1.

    >>> [round(one, 3) for one in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    # own: statsmodels has it, for a second of import and a collection of all garbage at each call
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * np.arange(len(p), 0, -1)), 1)
    return adjusted.tolist()


def smallest_p(n: int) -> float:
    """The least p that the sign-flip test can give with ``n`` pairs: all differences have one sign.

    >>> [smallest_p(n) for n in (0, 1, 6)]
    [1.0, 1.0, 0.03125]
    """
    if n < 0:
        raise ValueError(f"expected a number of pairs, found {n}")
    exact = 2.0 ** min(1 - n, 0)
    return max(exact, 1 / (1 + CHUNK * CHUNKS)) if n > ENUMERATED else exact


def seeds_needed(comparisons: int) -> int:
    """The least number of seeds with which ``comparisons`` planned ones can be decided: 1 + log2(k / .05), rounded up.

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
    """For each planned comparison whether its number of pairs lets its adjusted p fall below .05 at all.

    Holm's adjustment grows with every p, so it is least where all are least.

    >>> can_decide([7, 7, 7]), can_decide([6, 6, 6])
    ([True, True, True], [False, False, False])
    """
    return [one < LEVEL for one in holm([smallest_p(n) for n in pairs])]


def _finite(name: str, values: Sequence[float] | np.ndarray) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name} must be a list of numbers, however: {array.shape=}")
    wrong = np.flatnonzero(~np.isfinite(array))
    if wrong.size:
        found = ", ".join(f"{array[place]} at place {place}" for place in wrong)
        raise ValueError(f"expected finite values, found {found} of {name}")
    return array
