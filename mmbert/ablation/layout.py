"""What stands in the table of a study: its columns, and a row for each arm and baseline, as plain text."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mmbert.tracking.outcome import ArmOutcome, Scores, StudyOutcome


@dataclass(frozen=True)
class Cell:
    """The values of one metric over the seeds of an arm."""

    text: str
    mean: float = math.nan  # over the finite values; nan without any
    n: int = 0  # of these
    best: bool = False


@dataclass(frozen=True)
class TableRow:
    """One arm or one baseline."""

    name: str
    cells: tuple[Cell, ...]
    seeds: str  # how many have results, in words
    mark: str = ""  # what else is to be known about it


@dataclass(frozen=True)
class Layout:
    """The table of a study; names in it are as people wrote them, to be escaped."""

    columns: tuple[tuple[str, str], ...]  # (task, metric), the primary one first
    arms: tuple[TableRow, ...]  # the reference first
    baselines: tuple[TableRow, ...]


def layout(outcome: StudyOutcome) -> Layout:
    """Arms x the first metric of each task; of the primary task the primary metric, which comes first.

    The best mean is marked in the primary column alone, the one whose direction is known, among those arms that have
    the most seeds there: fewer seeds have more luck. It is what is best, not what was tested.
    """
    columns = list(_columns(outcome))
    of_arms = [[_values(arm, *column) for column in columns] for arm in outcome.arms]
    of_baselines = [[_single(scores, *column) for column in columns] for scores in outcome.baselines.values()]
    places = [_places(column) for column in zip(*of_arms, *of_baselines, strict=True)]
    arms = []
    for arm, values in zip(outcome.arms, of_arms, strict=True):
        cells = tuple(_cell(one, digits, len(arm.scores)) for one, digits in zip(values, places, strict=True))
        arms.append(TableRow(arm.name, cells, _seeds(arm, outcome), _mark(arm, outcome)))
    baselines = [
        TableRow(name, tuple(_cell(one, digits, 1) for one, digits in zip(values, places, strict=True)), "", "baseline")
        for name, values in zip(outcome.baselines, of_baselines, strict=True)
    ]
    return Layout(tuple(columns), tuple(_with_best(arms, outcome.lower_is_better)), tuple(baselines))


def failures(outcome: StudyOutcome) -> list[tuple[str, int, str]]:
    """(arm, seed, why) of the runs that have no result."""
    return [
        (arm.name, seed, why)
        for arm in outcome.arms
        for seed, why in sorted(arm.failed.items())
        if seed not in arm.scores
    ]


def _columns(outcome: StudyOutcome) -> Iterator[tuple[str, str]]:
    yield outcome.task, outcome.metric
    seen = {outcome.task}
    runs = [arm.scores[seed] for arm in outcome.arms for seed in sorted(arm.scores)]
    for scores in [*runs, *outcome.baselines.values()]:
        for task, metrics in scores.items():
            if task not in seen and metrics:
                seen.add(task)
                yield task, next(iter(metrics))


def _values(arm: ArmOutcome, task: str, metric: str) -> list[float]:
    return list(arm.values(task, metric).values())


def _single(scores: Scores, task: str, metric: str) -> list[float]:
    own: Mapping[str, float] = scores.get(task, {})
    return [own[metric]] if metric in own else []


def _cell(values: Sequence[float], places: int, seeds: int) -> Cell:
    """``seeds``: how many results the arm has; where fewer of them give this metric as a number, it is said."""
    if not values:
        return Cell("")
    finite = np.array([value for value in values if math.isfinite(value)])
    if not finite.size:
        return Cell("not finite")
    mean = float(finite.mean())
    text = f"{mean:z.{places}f}"
    if finite.size > 1:
        text += f" ± {finite.std(ddof=1):.{places}f}"
    if finite.size < seeds:
        text += f" (n = {finite.size})"
    return Cell(text, mean, finite.size)


def _places(of_rows: Sequence[Sequence[float]]) -> int:
    """Decimal places of a column: three to four digits of its largest value."""
    largest = max((abs(value) for values in of_rows for value in values if math.isfinite(value)), default=0.0)
    exponent = math.floor(math.log10(largest)) if largest else 0
    return min(max(3 - exponent if exponent >= 0 else 2 - exponent, 0), 9)


def _seeds(arm: ArmOutcome, outcome: StudyOutcome) -> str:
    failed = sum(name == arm.name for name, _, _ in failures(outcome))
    having, total = len(arm.scores), len(outcome.seeds)
    text = str(having) if having == total else f"{having} of {total}"
    return f"{text}, {failed} failed" if failed else text


def _mark(arm: ArmOutcome, outcome: StudyOutcome) -> str:
    marks = ["reference"] if arm is outcome.reference and arm.name != "reference" else []
    return ", ".join([*marks, *(["masked at test"] if arm.masked else [])])


def _with_best(rows: Sequence[TableRow], lower_is_better: bool) -> list[TableRow]:
    most = max((row.cells[0].n for row in rows), default=0)
    able = [row for row in rows if most and row.cells[0].n == most]
    if not able:
        return list(rows)
    best = (min if lower_is_better else max)(row.cells[0].mean for row in able)
    return [
        replace(row, cells=(replace(row.cells[0], best=True), *row.cells[1:]))
        if row in able and row.cells[0].mean == best
        else row
        for row in rows
    ]
