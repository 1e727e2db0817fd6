"""Results of models and of the cheap baselines on the test split, and the comparison of two."""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmbert.contracts import Processors, Task
from mmbert.data.fingerprint import Fingerprint
from mmbert.evaluation.baselines import BaselineResult, run_baselines
from mmbert.evaluation.bootstrap import Difference, paired_bootstrap
from mmbert.evaluation.evaluate import Evaluation
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
    """

    arm: str
    scores: dict[str, dict[str, float]]
    predictions: Mapping[str, Mapping[int, Tensor]]


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
) -> list[Result]:
    """The baselines on the test split, constant first; computed once for the same data.

    The key of the cache also covers what the processors have learned.

    Args:
        cache: the folder of the cache.
        splits: as for ``run_baselines``.
        processors: fitted on the training split.
        texts: the inputs that are text.
        tasks: on the CPU.
        data: the fingerprint of the splits.
        options: the options of all inputs and tasks, as JSON values.
    """
    states = {name: processor.__getstate__() for name, processor in {**processors.inputs, **processors.targets}.items()}
    content = f"{CODE_EPOCH}{data}{json.dumps(options, sort_keys=True)}{states}"
    key = hashlib.blake2b(content.encode("utf-8", "replace"), digest_size=12).hexdigest()
    path = cache / f"{key}.json"
    if not path.exists():
        results = run_baselines(splits, processors, list(texts), tasks)
        write_atomically(path, json.dumps([_as_json(result) for result in results if result.split == "test"]))
    by_arm: dict[str, Result] = {}
    predictions: dict[str, dict[str, dict[int, Tensor]]] = {}
    for entry in json.loads(path.read_text()):
        arm, task = entry["arm"], entry["task"]
        by_task = predictions.setdefault(arm, {})
        result = by_arm.setdefault(arm, Result(arm, {}, by_task))
        result.scores[task] = entry["metrics"]
        by_task[task] = {int(sample): torch.tensor(value) for sample, value in entry["predictions"].items()}
    return list(by_arm.values())


def _arm_name(result: BaselineResult) -> str:
    """The name of a baseline in tables: linear (all inputs)."""
    inputs = "all inputs" if len(result.inputs) > 1 else "".join(result.inputs)
    return f"{result.baseline} ({inputs})" if inputs else result.baseline


def _as_json(result: BaselineResult) -> dict[str, Any]:
    predictions = {str(sample): prediction.tolist() for sample, prediction in result.predictions.items()}
    return {"arm": _arm_name(result), "task": result.task, "metrics": result.metrics, "predictions": predictions}


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
    groups: Mapping[int, str],
) -> Difference:
    """Our primary metric of one task minus theirs, by paired bootstrap over the same rows.

    Args:
        ours: the first result.
        theirs: the second result.
        name: the name of the task.
        task: the task, which scores.
        targets: sample id -> target tensors, of the rows that count.
        groups: sample id -> group; rows of one group are drawn together.
    """
    ids = sorted(targets)
    metric = primary_metric(ours.scores[name])
    return paired_bootstrap(
        lambda predictions, true: task.score(predictions, true)[metric],
        [targets[sample] for sample in ids],
        [ours.predictions[name][sample] for sample in ids],
        [theirs.predictions[name][sample] for sample in ids],
        [groups.get(sample, str(sample)) for sample in ids],
        samples=1000,
    )


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
