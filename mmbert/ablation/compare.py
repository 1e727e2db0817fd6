"""The comparisons of a study: the planned ones are tested, all other arms are only described."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mmbert.ablation.statistics import LEVEL, PairedDifference, can_decide, compare_paired, holm_adjust, seeds_needed
from mmbert.tracking.outcome import ArmOutcome, StudyOutcome


@dataclass(frozen=True)
class Comparison:
    """An arm minus another arm, in the primary metric, over the seeds that both have."""

    arm: str
    reference: str
    task: str
    metric: str
    lower_is_better: bool
    paired: PairedDifference
    missing: tuple[str, ...] = ()  # seeds without a value, in words: "seeds 3, 5-7 of without text (failed)"
    planned: int = 0  # how many comparisons the study planned; 0 if this one was not planned
    holm: float | None = None  # p adjusted over the planned comparisons; None if this one was not planned
    decidable: bool = False  # whether the number of seeds allows an adjusted p below .05

    @property
    def significant(self) -> bool:
        """Whether the adjusted p of a planned comparison is below .05; always false for others."""
        return self.holm is not None and self.holm < LEVEL

    @property
    def detected(self) -> bool:
        """Whether the arms differ: by the adjusted p if planned, else by an interval that does not contain 0."""
        return self.significant if self.holm is not None else self.paired.low * self.paired.high > 0

    @property
    def better(self) -> str:
        """``better`` or ``worse``, by the mean of the arm; empty if the means are equal or unknown."""
        difference = self.paired.difference
        if not difference or math.isnan(difference):
            return ""
        return "better" if (difference < 0) == self.lower_is_better else "worse"


def comparisons(outcome: StudyOutcome) -> list[Comparison]:
    """Return the planned comparisons in their order, then every other arm against the reference.

    Seeds that only one of two arms has are left out and named in ``missing``, as are values that are not finite.
    A planned comparison without any pair still counts in Holm's adjustment, with p = 1.

    Args:
        outcome: of the study.
    """
    tested = [_pair_up(outcome, arm, reference) for arm, reference in outcome.planned]
    decidable = can_decide([paired.n for paired, _ in tested])
    adjusted = holm_adjust([paired.p for paired, _ in tested])
    metric = (outcome.task, outcome.metric, outcome.lower_is_better)
    planned = [
        Comparison(*names, *metric, *pair, len(tested), p, can)
        for names, pair, p, can in zip(outcome.planned, tested, adjusted, decidable, strict=True)
    ]
    reference = outcome.reference.name
    others = [arm.name for arm in outcome.arms[1:] if (arm.name, reference) not in outcome.planned]
    return planned + [Comparison(name, reference, *metric, *_pair_up(outcome, name, reference)) for name in others]


def sentence(comparison: Comparison, *, base: str = "reference") -> str:
    """Return a comparison in plain words.

    The word "significant" occurs only if the adjusted p is below .05, and in no other form.

    Args:
        comparison: of two arms.
        base: the reference of the study; another reference is named in the sentence.
    """
    versus = "" if comparison.reference == base else f" against {comparison.reference}"
    if comparison.paired.n:
        facts = f"{_size(comparison)} ({', '.join(_facts(comparison))})"
    else:
        facts = f"no seed has {comparison.metric} of both arms"
    missing = f"; missing: {'; '.join(comparison.missing)}" if comparison.missing else ""
    return f"{comparison.arm}{versus}: {facts}: {_verdict(comparison)}{missing}"


def _pair_up(outcome: StudyOutcome, arm: str, reference: str) -> tuple[PairedDifference, tuple[str, ...]]:
    arms = [outcome.arm(arm), outcome.arm(reference)]
    values = [_finite(arm, outcome) for arm in arms]
    seeds = [seed for seed in values[0] if seed in values[1]]
    missing = [
        text for arm, by_seed in zip(arms, values, strict=True) for text in _missing_seeds(arm, by_seed, outcome)
    ]
    first, second = (np.array([by_seed[seed] for seed in seeds]) for by_seed in values)
    return compare_paired(first, second), tuple(missing)


def _finite(arm: ArmOutcome, outcome: StudyOutcome) -> dict[int, float]:
    return {seed: value for seed, value in arm.values(outcome.task, outcome.metric).items() if math.isfinite(value)}


def _missing_seeds(arm: ArmOutcome, values: dict[int, float], outcome: StudyOutcome) -> Iterator[str]:
    """The seeds of the study without a value, in words, grouped by the reason."""
    by_reason: dict[str, list[int]] = {}
    for seed in sorted(set(outcome.seeds) - set(values)):
        if seed in arm.scores:
            has_metric = outcome.metric in arm.scores[seed].get(outcome.task, {})
            reason = f"{outcome.metric} is not finite" if has_metric else f"without {outcome.metric}"
        else:
            reason = "failed" if seed in arm.failed else "not run"
        by_reason.setdefault(reason, []).append(seed)
    for reason, seeds in by_reason.items():
        yield f"{'seeds' if len(seeds) > 1 else 'seed'} {_ranges(seeds)} of {arm.name} ({reason})"


def _ranges(seeds: Sequence[int]) -> str:
    """``3, 5-7`` for 3, 5, 6 and 7."""
    ranges: list[list[int]] = []
    for seed in seeds:
        if ranges and seed == ranges[-1][-1] + 1:
            ranges[-1].append(seed)
        else:
            ranges.append([seed])
    return ", ".join(f"{seeds[0]}-{seeds[-1]}" if len(seeds) > 1 else str(seeds[0]) for seeds in ranges)


def _size(comparison: Comparison) -> str:
    paired = comparison.paired
    amount = f"{abs(paired.difference):.{_places(paired)}f}"
    if not float(amount):
        return f"{comparison.metric} {'nearly ' if paired.difference else ''}the same on average"
    direction = f", {comparison.better}" if comparison.detected else ""
    return f"{comparison.metric} {'higher' if paired.difference > 0 else 'lower'} by {amount}{direction}"


def _facts(comparison: Comparison) -> Iterator[str]:
    paired = comparison.paired
    if paired.n > 1:
        places = _places(paired)
        sign = -1 if paired.difference < 0 else 1
        ends = sorted((sign * paired.low, sign * paired.high))
        texts = [f"{abs(end):.{places}f}" for end in ends]
        if ends[0] < 0 < ends[1]:  # the ends lie on both sides of 0: name their directions
            directions = ("lower", "higher") if sign > 0 else ("higher", "lower")
            texts = [f"{text} {direction}" for text, direction in zip(texts, directions, strict=True)]
        yield f"95 % interval {' to '.join(texts)}"
    yield _count_seeds(paired.n)
    if comparison.holm is not None:
        yield f"p = {paired.p:.3g}"
        yield f"p (Holm) = {comparison.holm:.3g}"


def _verdict(comparison: Comparison) -> str:
    if comparison.holm is None:
        return "not planned, only described"
    if not comparison.decidable:
        count = comparison.planned
        what = f"{count} planned comparisons" if count > 1 else "this comparison"
        return f"{_count_seeds(comparison.paired.n)} cannot decide {what}; {seeds_needed(count)} are needed"
    return "significant" if comparison.significant else "no detectable difference"


def _count_seeds(seeds: int) -> str:
    return "1 seed" if seeds == 1 else f"{seeds} seeds"


def _places(paired: PairedDifference) -> int:
    """Decimal places: two digits of the interval's half width, or three of the difference if it has no width."""
    half = (paired.high - paired.low) / 2
    size, digits = (half, 2) if half > 0 else (abs(paired.difference), 3)
    return min(max(digits - 1 - math.floor(math.log10(size)), 0), 9) if size else 0
