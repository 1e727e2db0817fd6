"""The subject of a page, a single run or a study, in one form: arms with their seeds, scores and run folders."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from mmbert.errors import IntegrityError, RecipeError
from mmbert.report.figures import ArmDifference
from mmbert.report.formatting import as_number, mean
from mmbert.report.run_files import RunRecord, Scores, read_run
from mmbert.tracking.outcome import StudyOutcome
from tasks import TASKS


@dataclass(frozen=True)
class ArmRecord:
    """One variant of the recipe, over its seeds."""

    name: str
    scores: Mapping[int, Scores]
    runs: Mapping[int, RunRecord] = field(default_factory=dict)
    changes: Sequence[str] = ()
    failed: Mapping[int, str] = field(default_factory=dict)
    masked: bool = False

    def values(self, task: str, metric: str) -> dict[int, float]:
        """Return the values of one metric by seed.

        Args:
            task: the name of the task.
            metric: one of its metrics.
        """
        return {
            seed: as_number(scores[task][metric])
            for seed, scores in sorted(self.scores.items())
            if metric in scores.get(task, {})
        }

    @property
    def first_run(self) -> RunRecord | None:
        """The run of the lowest seed; None if no run folder exists."""
        return self.runs[min(self.runs)] if self.runs else None


@dataclass(frozen=True)
class Subject:
    """Everything that a page shows; the reference is the first arm."""

    name: str
    arms: Sequence[ArmRecord]
    baselines: Mapping[str, Scores]
    differences: Sequence[ArmDifference]
    sentences: Sequence[str] = ()
    primary: tuple[str, str] | None = None  # (task, metric) of a study
    directions: Mapping[tuple[str, str], bool] = field(default_factory=dict)  # (task, metric) -> lower is better
    seeds: Sequence[int] = ()
    split: str = "test"  # that was scored

    @property
    def reference(self) -> ArmRecord:
        """The first arm."""
        return self.arms[0]

    @property
    def is_study(self) -> bool:
        """Whether the page is about a study, not a single run."""
        return self.primary is not None

    def tasks(self) -> dict[str, list[str]]:
        """Return the metrics of each task, the primary one first, over arms and baselines; a study's own task first."""
        tasks: dict[str, dict[str, None]] = {self.primary[0]: {self.primary[1]: None}} if self.primary else {}
        for scores in [scores for arm in self.arms for scores in arm.scores.values()] + list(self.baselines.values()):
            for task, metrics in scores.items():
                tasks.setdefault(task, {}).update(dict.fromkeys(metrics))
        return {task: list(metrics) for task, metrics in tasks.items() if metrics}

    def lower_is_better(self, task: str, metric: str) -> bool | None:
        """Return the direction of a metric; None if it is unknown.

        Args:
            task: the name of the task.
            metric: one of its metrics.
        """
        if (task, metric) in self.directions:
            return self.directions[task, metric]
        types = [arm.first_run.types.get(task, "") for arm in self.arms if arm.first_run]
        errors = _error_metrics(types[0]) if types else None
        return None if errors is None else metric in errors

    def best(self, values: Mapping[str, float], task: str, metric: str) -> str | None:
        """Return the name with the best value; None if there is no value, or the direction is unknown.

        Args:
            values: name -> value of the metric; nan is left out.
            task: the name of the task.
            metric: one of its metrics.
        """
        lower = self.lower_is_better(task, metric)
        numbers = {name: value for name, value in values.items() if not math.isnan(value)}
        if lower is None or not numbers:
            return None
        return (min if lower else max)(numbers, key=lambda name: numbers[name])

    def baseline_values(self, task: str, metric: str) -> dict[str, float]:
        """Return the value of one metric for each baseline that has it.

        Args:
            task: the name of the task.
            metric: one of its metrics.
        """
        return {
            name: as_number(scores[task][metric])
            for name, scores in self.baselines.items()
            if metric in scores.get(task, {})
        }

    def means(self, task: str, metric: str) -> dict[str, float]:
        """Return the mean over seeds of one metric for each arm.

        Args:
            task: the name of the task.
            metric: one of its metrics.
        """
        return {arm.name: mean(list(arm.values(task, metric).values())) for arm in self.arms}


@cache
def _error_metrics(task_type: str) -> frozenset[str] | None:
    """The metrics of a type of task that are errors; None if the type is not registered in this process."""
    try:
        return getattr(TASKS.get(task_type), "lower_is_better", None)
    except (RecipeError, ImportError):
        return None


def subject_of_run(record: RunRecord) -> Subject:
    """Return a single run, compared with the best baseline of each task.

    Args:
        record: of a finished run.
    """
    arm = ArmRecord(record.name, {record.seed: record.scores}, {record.seed: record})
    subject = Subject(record.name, [arm], record.baselines, [], seeds=[record.seed])
    differences = []
    for task, facts in record.against_best.items():
        metric = next((key.removesuffix("_difference") for key in facts if key.endswith("_difference")), "")
        key = f"{metric}_difference"
        difference, low, high, p = [as_number(facts.get(f"{key}{suffix}")) for suffix in ("", "_low", "_high", "_p")]
        differences.append(
            ArmDifference(
                record.name,
                str(facts.get("baseline", "best baseline")),
                task,
                metric,
                difference,
                low,
                high,
                p=None if math.isnan(p) else p,
                lower_is_better=subject.lower_is_better(task, metric),
            )
        )
    return Subject(record.name, [arm], record.baselines, differences, seeds=[record.seed], split=record.split)


def subject_of_study(outcome: StudyOutcome, differences: Sequence[ArmDifference], sentences: Sequence[str]) -> Subject:
    """Return a study as far as it has run; run folders that are gone or unfinished are skipped.

    Args:
        outcome: of the study.
        differences: between its arms.
        sentences: about these differences.
    """
    arms = []
    for arm in outcome.arms:
        runs = {}
        for seed, path in arm.runs.items():
            try:
                runs[seed] = read_run(path)
            except IntegrityError:
                continue
        arms.append(ArmRecord(arm.name, arm.scores, runs, arm.changes, arm.failed, arm.masked))
    primary = (outcome.task, outcome.metric)
    directions = {primary: outcome.lower_is_better}
    seeds, split = list(outcome.seeds), outcome.split
    return Subject(outcome.name, arms, outcome.baselines, differences, sentences, primary, directions, seeds, split)
