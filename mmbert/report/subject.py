"""What a page is about, a single run or a study, in one form: arms with their seeds, scores and run folders."""

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
    """One variant, over its seeds."""

    name: str
    scores: Mapping[int, Scores]
    runs: Mapping[int, RunRecord] = field(default_factory=dict)
    changes: Sequence[str] = ()
    failed: Mapping[int, str] = field(default_factory=dict)
    masked: bool = False

    def values(self, task: str, metric: str) -> dict[int, float]:
        """The values of one metric by seed."""
        return {seed: as_number(one[task][metric]) for seed, one in sorted(self.scores.items())
                if metric in one.get(task, {})}  # fmt: skip

    @property
    def first_run(self) -> RunRecord | None:
        return self.runs[min(self.runs)] if self.runs else None


@dataclass(frozen=True)
class Findings:
    """All that a page is made of; the reference is the first arm."""

    name: str
    arms: Sequence[ArmRecord]
    baselines: Mapping[str, Scores]
    differences: Sequence[ArmDifference]
    sentences: Sequence[str] = ()
    primary: tuple[str, str] | None = None  # (task, metric) of a study
    directions: Mapping[tuple[str, str], bool] = field(default_factory=dict)  # known ones: whether lower is better
    seeds: Sequence[int] = ()

    @property
    def reference(self) -> ArmRecord:
        return self.arms[0]

    @property
    def is_study(self) -> bool:
        return self.primary is not None

    def tasks(self) -> dict[str, list[str]]:
        """Task -> its metrics, the first of which counts, over arms and baselines; the study's own task first."""
        found: dict[str, dict[str, None]] = {self.primary[0]: {self.primary[1]: None}} if self.primary else {}
        for scores in [one for arm in self.arms for one in arm.scores.values()] + list(self.baselines.values()):
            for task, metrics in scores.items():
                found.setdefault(task, {}).update(dict.fromkeys(metrics))
        return {task: list(metrics) for task, metrics in found.items() if metrics}

    def lower_is_better(self, task: str, metric: str) -> bool | None:
        """None where it is not known."""
        if (task, metric) in self.directions:
            return self.directions[task, metric]
        types = [arm.first_run.types.get(task, "") for arm in self.arms if arm.first_run]
        errors = _errors(types[0]) if types else None
        return None if errors is None else metric in errors

    def best(self, named: Mapping[str, float], task: str, metric: str) -> str | None:
        """Which name has the best value; None where there is none, or the direction is not known."""
        lower = self.lower_is_better(task, metric)
        finite = {name: value for name, value in named.items() if value == value}
        if lower is None or not finite:
            return None
        return (min if lower else max)(finite, key=lambda name: finite[name])

    def of_baselines(self, task: str, metric: str) -> dict[str, float]:
        """Baseline -> its value of one metric, where it has one."""
        return {name: as_number(scores[task][metric]) for name, scores in self.baselines.items()
                if metric in scores.get(task, {})}  # fmt: skip

    def means(self, task: str, metric: str) -> dict[str, float]:
        """ArmRecord -> the mean over its seeds."""
        return {arm.name: mean(list(arm.values(task, metric).values())) for arm in self.arms}


@cache
def _errors(task_type: str) -> frozenset[str] | None:
    """The metrics of a type of task that are errors; None for a type that is not installed here."""
    try:
        return getattr(TASKS.get(task_type), "lower_is_better", None)
    except (RecipeError, ImportError):
        return None


def of_run(record: RunRecord) -> Findings:
    """A single run beside its baselines."""
    arm = ArmRecord(record.name, {record.seed: record.test}, {record.seed: record})
    found = Findings(record.name, [arm], record.baselines, [], seeds=[record.seed])
    differences = []
    for task, told in record.against_best.items():
        metric = next((key.removesuffix("_difference") for key in told if key.endswith("_difference")), "")
        key = f"{metric}_difference"
        values = [as_number(told.get(f"{key}{end}")) for end in ("", "_low", "_high", "_p")]
        differences.append(
            ArmDifference(
                record.name, str(told.get("baseline", "best baseline")), task, metric, *values[:3],
                p=values[3] if values[3] == values[3] else None, lower_is_better=found.lower_is_better(task, metric),
            )
        )  # fmt: skip
    return Findings(record.name, [arm], record.baselines, differences, seeds=[record.seed])


def of_study(outcome: StudyOutcome, differences: Sequence[ArmDifference], sentences: Sequence[str]) -> Findings:
    """A study as far as it has got; a run folder that is gone, or was never finished, is passed over."""
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
    return Findings(
        outcome.name, arms, outcome.baselines, differences, sentences, primary, directions, list(outcome.seeds)
    )
