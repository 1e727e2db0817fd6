"""The table of a study as plain text: its columns, and one row for each arm and baseline."""

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
    n: int = 0  # number of finite values
    best: bool = False


@dataclass(frozen=True)
class TableRow:
    """One arm or one baseline."""

    name: str
    cells: tuple[Cell, ...]
    seeds: str  # how many seeds have results, in words
    mark: str = ""  # shown behind the name, such as "baseline"


@dataclass(frozen=True)
class Layout:
    """The table of a study; its names are not escaped."""

    columns: tuple[tuple[str, str], ...]  # (task, metric), the primary one first
    arms: tuple[TableRow, ...]  # the reference first
    baselines: tuple[TableRow, ...]


def make_layout(outcome: StudyOutcome) -> Layout:
    """Return the arms against the first metric of each task; the primary metric comes first.

    The best mean is marked only in the primary column, whose direction is known, and only among the arms with the
    most seeds, since means over fewer seeds vary more. The mark is no result of a test.

    Args:
        outcome: of the study.
    """
    columns = list(_columns(outcome))
    arm_values = [[_values(arm, *column) for column in columns] for arm in outcome.arms]
    baseline_values = [[_single(scores, *column) for column in columns] for scores in outcome.baselines.values()]
    places = [_places(column) for column in zip(*arm_values, *baseline_values, strict=True)]
    arms = []
    for arm, values in zip(outcome.arms, arm_values, strict=True):
        cells = tuple(_cell(numbers, digits, len(arm.scores)) for numbers, digits in zip(values, places, strict=True))
        arms.append(TableRow(arm.name, cells, _seeds(arm, outcome), _mark(arm, outcome)))
    baselines = []
    for name, values in zip(outcome.baselines, baseline_values, strict=True):
        cells = tuple(_cell(numbers, digits, 1) for numbers, digits in zip(values, places, strict=True))
        baselines.append(TableRow(name, cells, "", "baseline"))
    return Layout(tuple(columns), tuple(_with_best(arms, outcome.lower_is_better)), tuple(baselines))


def failed_runs(outcome: StudyOutcome) -> list[tuple[str, int, str]]:
    """Return (arm, seed, reason) of the failed runs.

    Args:
        outcome: of the study.
    """
    return [
        (arm.name, seed, reason)
        for arm in outcome.arms
        for seed, reason in sorted(arm.failed.items())
        if seed not in arm.scores
    ]


def _columns(outcome: StudyOutcome) -> Iterator[tuple[str, str]]:
    yield outcome.task, outcome.metric
    tasks_seen = {outcome.task}
    runs = [arm.scores[seed] for arm in outcome.arms for seed in sorted(arm.scores)]
    for scores in [*runs, *outcome.baselines.values()]:
        for task, metrics in scores.items():
            if task not in tasks_seen and metrics:
                tasks_seen.add(task)
                yield task, next(iter(metrics))


def _values(arm: ArmOutcome, task: str, metric: str) -> list[float]:
    return list(arm.values(task, metric).values())


def _single(scores: Scores, task: str, metric: str) -> list[float]:
    metrics: Mapping[str, float] = scores.get(task, {})
    return [metrics[metric]] if metric in metrics else []


def _cell(values: Sequence[float], places: int, seeds: int) -> Cell:
    """The cell of an arm with results for ``seeds`` seeds; it shows n if fewer of them have a finite value."""
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


def _places(rows: Sequence[Sequence[float]]) -> int:
    """Decimal places of a column: three to four digits of its largest value."""
    largest = max((abs(value) for values in rows for value in values if math.isfinite(value)), default=0.0)
    exponent = math.floor(math.log10(largest)) if largest else 0
    return min(max(3 - exponent if exponent >= 0 else 2 - exponent, 0), 9)


def _seeds(arm: ArmOutcome, outcome: StudyOutcome) -> str:
    failed = sum(name == arm.name for name, _, _ in failed_runs(outcome))
    done, total = len(arm.scores), len(outcome.seeds)
    text = str(done) if done == total else f"{done} of {total}"
    return f"{text}, {failed} failed" if failed else text


def _mark(arm: ArmOutcome, outcome: StudyOutcome) -> str:
    marks = ["reference"] if arm is outcome.reference and arm.name != "reference" else []
    return ", ".join([*marks, *(["masked at test"] if arm.masked and "masked at test" not in arm.name else [])])


def _with_best(rows: Sequence[TableRow], lower_is_better: bool) -> list[TableRow]:
    most = max((row.cells[0].n for row in rows), default=0)
    candidates = [row for row in rows if most and row.cells[0].n == most]
    if not candidates:
        return list(rows)
    best = (min if lower_is_better else max)(row.cells[0].mean for row in candidates)
    return [
        replace(row, cells=(replace(row.cells[0], best=True), *row.cells[1:]))
        if row in candidates and row.cells[0].mean == best
        else row
        for row in rows
    ]
