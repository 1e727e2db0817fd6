"""Results of models and of the cheap baselines on the test split, and the comparison of two."""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmbert.contracts import Processors, Task
from mmbert.data.fingerprint import Fingerprint
from mmbert.evaluation.baselines import BaselineResult, run_baselines
from mmbert.evaluation.contrasts import ScoredRows
from mmbert.evaluation.evaluate import Evaluation, RowsById
from mmbert.evaluation.permutation import Difference, compare_predictions
from mmbert.io.atomic import write_atomically
from mmbert.types import Sample
from mmbert.version import CODE_EPOCH


@dataclass(frozen=True)
class Result:
    """One row of the result table.

    Attributes:
        arm: the name of the model in tables.
        scores: task -> metric -> value.
        predictions: task -> sample id -> prediction.
        failures: task -> why the model has no scores in it.
    """

    arm: str
    scores: dict[str, dict[str, float]]
    predictions: Mapping[str, Mapping[int, Tensor]]
    failures: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class BaselineComparison:
    """A model against the best baseline of one task.

    Attributes:
        baseline: the name of the best baseline.
        metric: the primary metric of the task.
        difference: of the metric; None where it could not be computed.
        failure: why not.
    """

    baseline: str
    metric: str
    difference: Difference | None
    failure: str = ""

    def facts(self) -> dict[str, Any]:
        """The comparison as ``result.json`` holds it."""
        facts: dict[str, Any] = {"baseline": self.baseline}
        if self.difference is None:
            return facts | {"failure": self.failure}
        difference, *others = self.difference._asdict().items()
        facts[f"{self.metric}_difference"] = difference[1]
        return facts | {f"{self.metric}_difference_{name}": value for name, value in others}


def from_evaluation(arm: str, evaluation: Evaluation) -> Result:
    """The result row of an evaluation.

    Args:
        arm: the name of the model in tables.
        evaluation: of the model.
    """
    return Result(arm, evaluation.scores, evaluation.predictions)


def cached_baselines(
    cache: Path,
    splits: Mapping[str, Sequence[Sample]],
    processors: Processors,
    texts: Iterable[str],
    tasks: Mapping[str, Task],
    *,
    data: str,
    options: Mapping[str, Any],
    split: str = "test",
) -> list[Result]:
    """The baselines on one split, constant first; computed once for the same data.

    The key of the cache also covers what the processors have learned. Where memory or the disk gave out, the results
    are not cached.

    Args:
        cache: the folder of the cache.
        splits: as for ``run_baselines``.
        processors: fitted on the training split.
        texts: the inputs that are text.
        tasks: on the CPU.
        data: the fingerprint of the splits.
        options: the options of all inputs and tasks, as JSON values.
        split: that is scored.
    """
    states = {name: processor.__getstate__() for name, processor in {**processors.inputs, **processors.targets}.items()}
    content = f"{CODE_EPOCH}{data}{json.dumps(options, sort_keys=True)}{states}{split.removeprefix('test')}"
    key = hashlib.blake2b(content.encode("utf-8", "replace"), digest_size=12).hexdigest()
    path = cache / f"{key}.json"
    if path.exists():
        return _from_json(json.loads(path.read_text()))
    results = [result for result in run_baselines(splits, processors, list(texts), tasks) if result.split == split]
    entries = [_as_json(result) for result in results]
    if not any(result.failure.startswith(("MemoryError", "OSError")) for result in results):
        with suppress(OSError):  # a full disk costs the cache, not the run
            write_atomically(path, json.dumps(entries))
    return _from_json(entries)


def _from_json(entries: Iterable[Mapping[str, Any]]) -> list[Result]:
    by_arm: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, str]]] = {}
    for entry in entries:
        scores, predictions, failures = by_arm.setdefault(entry["arm"], ({}, {}, {}))
        task = entry["task"]
        if failure := entry.get("failure"):
            failures[task] = failure
            continue
        scores[task] = entry["metrics"]
        predictions[task] = _rows_by_id(entry["predictions"])
    return [Result(arm, *parts) for arm, parts in by_arm.items()]


def _rows_by_id(predictions: Mapping[str, Any]) -> RowsById:
    """Predictions as a tensor for each shape: a tensor for each row would take a hundred times the memory."""
    blocks: dict[tuple[int, ...], tuple[list[int], list[Tensor]]] = {}
    for sample, value in predictions.items():
        tensor = torch.tensor(value)
        ids, tensors = blocks.setdefault(tuple(tensor.shape), ([], []))
        ids.append(int(sample))
        tensors.append(tensor)
    return RowsById([(torch.tensor(ids), torch.stack(tensors)) for ids, tensors in blocks.values()])


def _arm_name(result: BaselineResult) -> str:
    """The name of a baseline in tables: linear (all inputs)."""
    inputs = "all inputs" if len(result.inputs) > 1 else "".join(result.inputs)
    return f"{result.baseline} ({inputs})" if inputs else result.baseline


def _as_json(result: BaselineResult) -> dict[str, Any]:
    predictions = {str(sample): prediction.tolist() for sample, prediction in result.predictions.items()}
    entry = {"arm": _arm_name(result), "task": result.task, "metrics": result.metrics, "predictions": predictions}
    return entry | ({"failure": result.failure} if result.failure else {})


def fingerprint(splits: Mapping[str, Iterable[Sample]], files: Collection[str] = ()) -> str:
    """A hash of all raw values of all splits.

    Args:
        splits: split -> samples.
        files: the inputs whose values are paths: of these, name and size of the file are hashed.
    """
    digest = Fingerprint(files)
    for split, samples in splits.items():
        for sample in samples:
            digest.add(split, sample)
    return digest.hexdigest()


def compare(
    ours: Result,
    theirs: Result,
    name: str,
    task: Task,
    targets: Mapping[int, dict[str, Tensor]],
    groups: Mapping[int, Any],
) -> Difference:
    """Our primary metric of one task minus theirs, by a paired permutation test over the same rows.

    Args:
        ours: the first result.
        theirs: the second result.
        name: the name of the task.
        task: the task, which scores.
        targets: sample id -> target tensors, of the rows that count.
        groups: sample id -> group; the predictions of a group are swapped together.
    """
    ids = sorted(targets)
    true = [targets[sample] for sample in ids]
    ours_by_row, theirs_by_row = (
        ScoredRows(task, [result.predictions[name][sample] for sample in ids], true) for result in (ours, theirs)
    )
    # a row without a group is one by itself; its key is a number, so that no group can be named like it
    keys = [groups.get(sample, sample) for sample in ids]
    return compare_predictions([ours_by_row], [theirs_by_row], primary_metric(ours.scores[name]), keys)


def best_result(results: Iterable[Result], name: str, task: Task) -> Result:
    """The result with the best primary metric of one task.

    Args:
        results: results without the task are skipped.
        name: the name of the task.
        task: the task, which says whether lower is better.
    """
    candidates = [result for result in results if name in result.scores]
    metric = primary_metric(candidates[0].scores[name])
    choose = min if metric in task.lower_is_better else max
    return choose(candidates, key=lambda result: result.scores[name][metric])


def primary_metric(scores: Mapping[str, float]) -> str:
    """The name of the first metric of a task's scores."""
    return next(iter(scores))
