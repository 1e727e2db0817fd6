"""The outcome of a study: the values from which tables, figures and the report are made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

Scores = Mapping[str, Mapping[str, float]]  # task -> metric -> value


def scored(baselines: Mapping[str, Scores]) -> dict[str, Scores]:
    """The baselines that have scores: those that failed have none."""
    return {name: scores for name, scores in baselines.items() if scores}


@dataclass(frozen=True)
class ArmOutcome:
    """The results of one variant of the recipe, over its seeds."""

    name: str
    changes: Sequence[str] = ()  # in words, a key each: "fusion.type: joint -> concat"; none for the reference
    scores: Mapping[int, Scores] = field(default_factory=dict)  # seed -> scores
    runs: Mapping[int, Path] = field(default_factory=dict)  # seed -> run folder, where it still exists
    failed: Mapping[int, str] = field(default_factory=dict)  # seed -> why there is no result
    masked: bool = False  # not trained: the reference's runs, with an input hidden at test time

    def values(self, task: str, metric: str) -> dict[int, float]:
        """The values of one metric by seed, in the order of the seeds.

        Args:
            task: whose metric it is.
            metric: its name.
        """
        return {
            seed: scores[task][metric] for seed, scores in sorted(self.scores.items()) if metric in scores.get(task, {})
        }


@dataclass(frozen=True)
class StudyOutcome:
    """The outcome of a study, finished or not."""

    name: str
    task: str  # of the primary metric
    metric: str
    lower_is_better: bool  # of the primary metric
    seeds: Sequence[int]
    arms: Sequence[ArmOutcome]  # the reference first
    planned: Sequence[tuple[str, str]] = ()  # (arm, reference) of the comparisons that were planned
    baselines: Mapping[str, Scores] = field(default_factory=dict)  # name -> scores; the same for all seeds
    split: str = "test"  # that was scored: validation where no test row has a label

    @property
    def reference(self) -> ArmOutcome:
        """The arm that the others are compared with."""
        return self.arms[0]

    def arm(self, name: str) -> ArmOutcome:
        """The arm of a name."""
        return next(arm for arm in self.arms if arm.name == name)
