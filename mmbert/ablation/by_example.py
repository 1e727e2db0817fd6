"""Two arms of a study compared on the examples of the test split: paired bootstrap over seeds, and McNemar's test."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from scipy.stats import binomtest
from torch import Tensor

from mmbert.contracts import Task
from mmbert.errors import DataError, IntegrityError, RecipeError, nearest
from mmbert.evaluation.bootstrap import Difference, bootstrap
from mmbert.evaluation.predictions import PREDICTIONS_FILE, load_groups, load_predictions


@dataclass(frozen=True)
class ByExample:
    """How much an arm exceeds its reference on the same test rows, with the same seeds."""

    rows: int
    groups: int  # drawn together
    difference: Difference  # of the metric's mean over seeds: arm minus reference
    mcnemar: Mapping[int, float]  # seed -> p, two-sided; empty where the task is not a classification


def by_example(
    arm: Mapping[int, Path],
    reference: Mapping[int, Path],
    task: str,
    metric: str,
    open_task: Callable[[Path], Task],
    *,
    samples: int = 1000,
    seed: int = 0,
) -> ByExample:
    """Compare the run folders of two arms, seed -> folder each, by one metric of one task.

    Each draw takes groups of test rows with replacement, the same ones for all runs, so that the interval says what
    other test rows would change; what other seeds would change is not in it. Every run is scored by its own task, which
    ``open_task`` gives for a run folder, as an arm may scale or number its labels in its own way.

    Raises ``RecipeError`` where the seeds differ or there is no such metric, ``DataError`` where the test rows or their
    labels differ, ``IntegrityError`` where a folder holds no finished run or no such task.
    """
    if not arm or arm.keys() != reference.keys():
        raise RecipeError(f"both arms must have the same seeds, at least one; found {[*arm]} and {[*reference]}")
    seeds = sorted(arm)
    ours, theirs = ([_Run(folders[one], task, open_task) for one in seeds] for folders in (arm, reference))
    ids = theirs[0].ids
    for run in (*ours, *theirs):
        _check_same(run, theirs[0], task)
    for run in (*ours, *theirs):
        if metric not in (found := run.scores(range(len(ids)))):
            raise RecipeError(f"the task '{task}' has no metric '{metric}'. {nearest(metric, found)}")

    def difference(rows: np.ndarray) -> float:
        mean = [fmean(run.scores(rows)[metric] for run in runs) for runs in (ours, theirs)]
        return mean[0] - mean[1]

    of_row = load_groups(reference[seeds[0]] / PREDICTIONS_FILE)
    groups = [of_row.get(sample, sample) for sample in ids]
    pairs = {one: (run.right(), other.right()) for one, run, other in zip(seeds, ours, theirs, strict=True)}
    return ByExample(
        len(ids),
        len({*groups}),
        bootstrap(difference, groups, seed=seed, samples=samples),
        {one: mcnemar(mine, other) for one, (mine, other) in pairs.items() if mine is not None and other is not None},
    )


def mcnemar(right: np.ndarray, other: np.ndarray) -> float:
    """The two-sided p of McNemar's exact test; ``right`` and ``other``, bool [rows], say what each model got right.

    Of the rows that exactly one of the two got right, either is as likely to be the one under the hypothesis (McNemar
    1947); rows count as independent. Without such a row p is 1.

    >>> mcnemar(np.array([True] * 6), np.array([False] * 6))
    0.03125
    """
    gained, lost = int((right & ~other).sum()), int((other & ~right).sum())
    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


class _Run:
    """What one run predicted for the test rows of one task, in the order of their ids."""

    def __init__(self, folder: Path, task: str, open_task: Callable[[Path], Task]):
        found = load_predictions(folder / PREDICTIONS_FILE)
        if task not in found:
            raise IntegrityError(f"'{folder}' holds no predictions of a task '{task}'. {nearest(task, found)}")
        self.folder, self.task = folder, open_task(folder)
        self.labels = _labels(folder, task)
        self.ids = list(found[task].predictions)
        self.predictions: list[Tensor] = found[task].predictions.rows()
        self.targets: list[dict[str, Tensor]] = found[task].targets.rows()

    def scores(self, rows: Sequence[int] | np.ndarray) -> dict[str, float]:
        return self.task.score([self.predictions[row] for row in rows], [self.targets[row] for row in rows])

    def right(self) -> np.ndarray | None:
        """For a classification bool [rows]: whether the likeliest class is the true one."""
        if getattr(self.task, "baseline", None) != "classification":
            return None
        pairs = zip(self.predictions, self.targets, strict=True)
        return np.array([int(prediction.argmax()) == int(target["target"]) for prediction, target in pairs])


def _check_same(run: _Run, first: _Run, task: str) -> None:
    """Raise ``DataError`` where two runs were not tested on the same rows with the same labels."""
    both = f"task '{task}': '{run.folder}' and '{first.folder}'"
    if run.ids != first.ids:
        mine, theirs = len({*run.ids} - {*first.ids}), len({*first.ids} - {*run.ids})
        raise DataError(f"{both} must be tested on the same rows, however {mine} are in the former alone, {theirs} in "
                        "the latter alone")  # fmt: skip
    true, expected = run.labels, first.labels
    if differ := [sample for sample in true.keys() & expected.keys() if true[sample] != expected[sample]]:
        one = min(differ)
        raise DataError(f"{both} must be tested on the same labels, however {len(differ)} differ: that of the sample "
                        f"{one} is {true[one]!r} in the former, {expected[one]!r} in the latter")  # fmt: skip


def _labels(folder: Path, task: str) -> dict[int, Any]:
    """Sample id -> raw label, of the rows in ``examples.jsonl``."""
    try:
        lines = (folder / "examples.jsonl").read_text(encoding="utf-8").splitlines()
        examples = [json.loads(line) for line in lines]
    except (OSError, ValueError) as error:
        raise IntegrityError(f"'{folder}' cannot be read: {error}") from error
    return {example["id"]: example["true"][task] for example in examples if task in example["true"]}
