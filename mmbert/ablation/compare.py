"""The comparisons of a study: the planned ones, which are tested, and all other arms, which are only described."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mmbert.ablation.statistics import LEVEL, Paired, can_decide, holm, paired, seeds_needed
from mmbert.tracking.outcome import ArmOutcome, StudyOutcome


@dataclass(frozen=True)
class Comparison:
    """An arm minus another, in the primary metric, over the seeds that both have."""

    arm: str
    reference: str
    task: str
    metric: str
    lower_is_better: bool
    found: Paired
    missing: tuple[str, ...] = ()  # in words, of the study's seeds: "seeds 3, 5-7 of without text (failed)"
    planned: int = 0  # how many comparisons were planned; 0 for one that was not
    holm: float | None = None  # p adjusted over the planned ones; none for one that was not
    decidable: bool = False  # whether so many seeds could bring it below .05

    @property
    def significant(self) -> bool:
        """Whether the adjusted p of a planned comparison is below .05; of any other never."""
        return self.holm is not None and self.holm < LEVEL

    @property
    def better(self) -> str:
        """``better`` or ``worse``: the arm beside its reference; empty where they do not differ or are not known."""
        difference = self.found.difference
        if not difference or math.isnan(difference):
            return ""
        return "better" if (difference < 0) == self.lower_is_better else "worse"


def comparisons(outcome: StudyOutcome) -> list[Comparison]:
    """All comparisons of a study: the planned ones in their order, then each other arm against the reference.

    Seeds that only one of two arms has are left out and named in ``missing``, as are values that are not finite.
    A planned comparison without any pair still counts in Holm's adjustment, with p = 1.
    """
    tested = [_pair(outcome, arm, other) for arm, other in outcome.planned]
    able = can_decide([found.n for found, _ in tested])
    adjusted = holm([found.p for found, _ in tested])
    planned = [
        Comparison(*names, outcome.task, outcome.metric, outcome.lower_is_better, *pair, len(tested), p, decidable)
        for names, pair, p, decidable in zip(outcome.planned, tested, adjusted, able, strict=True)
    ]
    reference = outcome.reference.name
    others = [arm.name for arm in outcome.arms[1:] if (arm.name, reference) not in outcome.planned]
    described = [
        Comparison(
            name, reference, outcome.task, outcome.metric, outcome.lower_is_better, *_pair(outcome, name, reference)
        )
        for name in others
    ]
    return planned + described


def sentence(one: Comparison, *, base: str = "reference") -> str:
    """A comparison in plain words; the other arm is named unless it is ``base``, the reference of the study.

    The word "significant" is there only where the adjusted p is below .05, in no other form and nowhere else.
    """
    found = one.found
    versus = "" if one.reference == base else f" against {one.reference}"
    if found.n:
        facts = f"{_size(one)} ({', '.join(_facts(one))})"
    else:
        facts = f"{one.metric} is known for both on no seed"
    missing = f"; missing: {'; '.join(one.missing)}" if one.missing else ""
    return f"{one.arm}{versus}: {facts}: {_verdict(one)}{missing}"


def _pair(outcome: StudyOutcome, arm: str, other: str) -> tuple[Paired, tuple[str, ...]]:
    both = [outcome.arm(arm), outcome.arm(other)]
    values = [_finite(one, outcome) for one in both]
    seeds = [seed for seed in values[0] if seed in values[1]]
    missing = [why for one, own in zip(both, values, strict=True) for why in _missing(one, own, outcome)]
    return paired(*(np.array([own[seed] for seed in seeds]) for own in values)), tuple(missing)


def _finite(arm: ArmOutcome, outcome: StudyOutcome) -> dict[int, float]:
    return {seed: value for seed, value in arm.values(outcome.task, outcome.metric).items() if math.isfinite(value)}


def _missing(arm: ArmOutcome, having: dict[int, float], outcome: StudyOutcome) -> Iterator[str]:
    """The seeds of the study that give no number, in words, those of one reason together."""
    by_reason: dict[str, list[int]] = {}
    for seed in sorted(set(outcome.seeds) - set(having)):
        if seed in arm.scores:
            known = outcome.metric in arm.scores[seed].get(outcome.task, {})
            why = f"{outcome.metric} is not finite" if known else f"without {outcome.metric}"
        else:
            why = "failed" if seed in arm.failed else "not run"
        by_reason.setdefault(why, []).append(seed)
    for why, seeds in by_reason.items():
        yield f"{'seeds' if len(seeds) > 1 else 'seed'} {_ranges(seeds)} of {arm.name} ({why})"


def _ranges(seeds: Sequence[int]) -> str:
    """``3, 5-7`` for 3, 5, 6 and 7."""
    runs: list[list[int]] = []
    for seed in seeds:
        if runs and seed == runs[-1][-1] + 1:
            runs[-1].append(seed)
        else:
            runs.append([seed])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _size(one: Comparison) -> str:
    found = one.found
    amount = f"{abs(found.difference):.{_places(found)}f}"
    if not float(amount):
        return f"{one.metric} {'nearly ' if found.difference else ''}the same on average"
    return f"{one.metric} {'higher' if found.difference > 0 else 'lower'} by {amount}, {one.better}"


def _facts(one: Comparison) -> Iterator[str]:
    found = one.found
    if found.n > 1:
        places = _places(found)
        sign = -1 if found.difference < 0 else 1
        ends = sorted((sign * found.low, sign * found.high))
        words = [f"{abs(end):.{places}f}" for end in ends]
        if ends[0] < 0 < ends[1]:  # ends on either side of no difference need their directions
            names = ("lower", "higher") if sign > 0 else ("higher", "lower")
            words = [f"{word} {name}" for word, name in zip(words, names, strict=True)]
        yield f"95 % interval {' to '.join(words)}"
    yield _count(found.n)
    if one.holm is not None:
        yield f"p = {found.p:.3g}"
        yield f"Holm {one.holm:.3g}"


def _verdict(one: Comparison) -> str:
    if one.holm is None:
        return "not planned, only described"
    if not one.decidable:
        among = f"between {one.planned} planned comparisons" if one.planned > 1 else "this comparison"
        return f"{_count(one.found.n)} cannot decide {among}; {seeds_needed(one.planned)} needed"
    return "significant" if one.significant else "this may be chance"


def _count(seeds: int) -> str:
    return "1 seed" if seeds == 1 else f"{seeds} seeds"


def _places(found: Paired) -> int:
    """Decimal places: two digits of the interval's half width, or three of the difference where it has none."""
    half = (found.high - found.low) / 2
    size, digits = (half, 2) if half > 0 else (abs(found.difference), 3)
    return min(max(digits - 1 - math.floor(math.log10(size)), 0), 9) if size else 0
