"""Two arms of a study compared on the examples of the test split: permutation of predictions, and McNemar's test."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest
from torch import Tensor

from mmbert.contracts import Task
from mmbert.errors import DataError, IntegrityError, RecipeError, nearest
from mmbert.evaluation.contrasts import ScoredRows
from mmbert.evaluation.permutation import DRAWS, Difference, compare_predictions
from mmbert.evaluation.predictions import PREDICTIONS_FILE, load_groups, load_predictions


@dataclass(frozen=True)
class ExampleComparison:
    """How much an arm exceeds its reference on the same test rows, with the same seeds."""

    rows: int
    groups: int  # of rows whose predictions are swapped together
    difference: Difference  # of the metric's mean over seeds: arm minus reference
    mcnemar: Mapping[int, float]  # seed -> p, two-sided; empty if the task is no classification


def compare_by_example(
    arm: Mapping[int, Path],
    reference: Mapping[int, Path],
    task: str,
    metric: str,
    open_task: Callable[[Path], Task],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> ExampleComparison:
    """Compare the runs of two arms by one metric of one task.

    The paired permutation test swaps the predictions of both arms in groups of test rows, the same groups for all
    seeds. The interval shows what other test rows could change; it does not include what other seeds could change.
    Every run is scored by its own task, since an arm may scale or number its labels in its own way.

    Args:
        arm: the run folder of each seed.
        reference: the same for the other arm.
        task: the name of the task.
        metric: one of its metrics.
        open_task: returns the task of a run folder.
        draws: of random swaps, where there are more than 12 groups.
        seed: of the draws.

    Raises:
        RecipeError: if the seeds differ, or the task has no such metric.
        DataError: if the test rows or their labels differ, or the metric is of classes that one arm does not have.
        IntegrityError: if a folder holds no finished run, or no such task.
    """
    if not arm or arm.keys() != reference.keys():
        raise RecipeError(f"both arms must have the same seeds, at least one; found {[*arm]} and {[*reference]}")
    seeds = sorted(arm)
    arm_runs, reference_runs = (
        [_Predictions(folders[seed], task, open_task) for seed in seeds] for folders in (arm, reference)
    )
    ids = reference_runs[0].ids
    for run in (*arm_runs, *reference_runs):
        _check_same(run, reference_runs[0], task)
    for run in (*arm_runs, *reference_runs):
        if metric not in (metrics := run.task.metrics):
            raise RecipeError(f"the task '{task}' has no metric '{metric}'. {nearest(metric, metrics)}")
    group_of = load_groups(reference[seeds[0]] / PREDICTIONS_FILE)
    groups = [group_of.get(sample, sample) for sample in ids]
    p_values = {}
    for run_seed, run, reference_run in zip(seeds, arm_runs, reference_runs, strict=True):
        correct, reference_correct = run.correct(), reference_run.correct()
        if correct is not None and reference_correct is not None:
            p_values[run_seed] = mcnemar(correct, reference_correct)
    sides = [[run.scored() for run in runs] for runs in (arm_runs, reference_runs)]
    difference = compare_predictions(sides[0], sides[1], metric, groups, seed=seed, draws=draws)
    return ExampleComparison(len(ids), difference.groups, difference, p_values)


def mcnemar(a: np.ndarray, b: np.ndarray) -> float:
    """Return the two-sided p of McNemar's exact test; 1 if no row is right in only one of the models.

    Under the hypothesis, of the rows that exactly one model got right either model is as likely to be that one. Rows
    count as independent.

    Args:
        a: which rows one model got right, bool [rows].
        b: which rows the other model got right, bool [rows].

    Example:
        >>> mcnemar(np.array([True] * 6), np.array([False] * 6))
        0.03125

    Reference:
        McNemar, Note on the sampling error of the difference between correlated proportions, 1947.
    """
    gained, lost = int((a & ~b).sum()), int((b & ~a).sum())
    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


class _Predictions:
    """The predictions of one run for the test rows of one task, in the order of their ids."""

    def __init__(self, folder: Path, task: str, open_task: Callable[[Path], Task]):
        tasks = load_predictions(folder / PREDICTIONS_FILE)
        if task not in tasks:
            raise IntegrityError(f"'{folder}' holds no predictions of a task '{task}'. {nearest(task, tasks)}")
        self.folder, self.task = folder, open_task(folder)
        self.labels = _labels(folder, task)
        self.ids = list(tasks[task].predictions)
        self.predictions: list[Tensor] = tasks[task].predictions.rows()
        self.targets: list[dict[str, Tensor]] = tasks[task].targets.rows()

    def scored(self) -> ScoredRows:
        return ScoredRows(self.task, self.predictions, self.targets)

    def correct(self) -> np.ndarray | None:
        """Which rows are right, bool [rows]; None if the task is no classification."""
        if self.task.baseline != "classification":
            return None
        pairs = zip(self.predictions, self.targets, strict=True)
        return np.array([int(prediction.argmax()) == int(target["target"]) for prediction, target in pairs])


def _check_same(run: _Predictions, first: _Predictions, task: str) -> None:
    """Raise ``DataError`` if two runs were not tested on the same rows with the same labels."""
    both = f"task '{task}': '{run.folder}' and '{first.folder}'"
    if run.ids != first.ids:
        only_run, only_first = len({*run.ids} - {*first.ids}), len({*first.ids} - {*run.ids})
        raise DataError(
            f"{both} must be tested on the same rows, however: {only_run} only in the former, {only_first} only in the "
            "latter"
        )
    labels, expected = run.labels, first.labels
    if different := [sample for sample in labels.keys() & expected.keys() if labels[sample] != expected[sample]]:
        sample = min(different)
        count = len(different)
        raise DataError(
            f"{both} must be tested on the same labels, however: {count} {'differs' if count == 1 else 'differ'}; "
            f"sample {sample} is {labels[sample]!r} in the former and {expected[sample]!r} in the latter"
        )


def _labels(folder: Path, task: str) -> dict[int, Any]:
    """Sample id -> raw label, of the rows in ``examples.jsonl``."""
    try:
        lines = (folder / "examples.jsonl").read_text(encoding="utf-8").splitlines()
        examples = [json.loads(line) for line in lines]
    except (OSError, ValueError) as error:
        raise IntegrityError(f"'{folder}' cannot be read: {error}") from error
    return {example["id"]: example["true"][task] for example in examples if task in example["true"]}
