"""A run's results beside the cheap baselines': rows for the table, the result file and the ledger."""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmbert.contracts import Processor, Task
from mmbert.data.fingerprint import Fingerprint
from mmbert.evaluation.baselines import BaselineResult, run_baselines
from mmbert.evaluation.bootstrap import Difference, paired_bootstrap
from mmbert.evaluation.evaluate import Evaluation
from mmbert.io.atomic import write_atomically
from mmbert.types import Sample
from mmbert.version import CODE_EPOCH


@dataclass(frozen=True)
class Result:
    """One line of the result table."""

    arm: str
    scores: dict[str, dict[str, float]]  # task -> metric -> value
    predictions: Mapping[str, Mapping[int, Tensor]]  # task -> sample id -> prediction


def from_evaluation(arm: str, found: Evaluation) -> Result:
    return Result(arm, found.scores, found.predictions)


def cached_baselines(
    cache: Path,
    splits: Mapping[str, Sequence[Sample]],
    processors: Mapping[str, Processor],
    texts: Iterable[str],
    tasks: Mapping[str, Task],
    labels: Mapping[str, Processor],
    *,
    data: str,
    options: Mapping[str, Any],
) -> list[Result]:
    """The baselines on the test split, constant first; computed once for the same data.

    ``data`` is the fingerprint of the splits, ``options`` are those of all inputs and tasks, in JSON. The cache also
    depends on what the processors have learned.
    """
    states = {name: processor.__getstate__() for name, processor in {**processors, **labels}.items()}
    content = f"{CODE_EPOCH}{data}{json.dumps(options, sort_keys=True)}{states}"
    key = hashlib.blake2b(content.encode("utf-8", "replace"), digest_size=12).hexdigest()
    path = cache / f"{key}.json"
    if not path.exists():
        rows = [row for row in run_baselines(splits, processors, list(texts), tasks, labels) if row.split == "test"]
        write_atomically(path, json.dumps([_plain(row) for row in rows]))
    by_arm: dict[str, Result] = {}
    predictions: dict[str, dict[str, dict[int, Tensor]]] = {}
    for row in json.loads(path.read_text()):
        own = predictions.setdefault(row["arm"], {})
        one = by_arm.setdefault(row["arm"], Result(row["arm"], {}, own))
        one.scores[row["task"]] = row["metrics"]
        own[row["task"]] = {int(key): torch.tensor(value) for key, value in row["predictions"].items()}
    return list(by_arm.values())


def _arm_of(row: BaselineResult) -> str:
    """What tables call a baseline: linear (all inputs)."""
    inputs = "all inputs" if len(row.inputs) > 1 else "".join(row.inputs)
    return f"{row.baseline} ({inputs})" if inputs else row.baseline


def _plain(row: BaselineResult) -> dict[str, Any]:
    predictions = {str(sample): prediction.tolist() for sample, prediction in row.predictions.items()}
    return {"arm": _arm_of(row), "task": row.task, "metrics": row.metrics, "predictions": predictions}


def fingerprint(splits: Mapping[str, Iterable[Sample]], files: Collection[str] = ()) -> str:
    """A hash of all raw values of all splits; of the inputs in ``files`` a path counts by its file's name and size."""
    seen = Fingerprint(files)
    for split, samples in splits.items():
        for sample in samples:
            seen.add(split, sample)
    return seen.hexdigest()


def compare(
    ours: Result,
    other: Result,
    name: str,
    task: Task,
    targets: Mapping[int, dict[str, Tensor]],
    groups: Mapping[int, str],
) -> Difference:
    """Our primary metric of one task minus another's, by paired bootstrap over the rows of ``targets``.

    ``groups`` are those of the samples, by their ids: rows of one group are drawn together.
    """
    ids = sorted(targets)
    metric = primary(ours.scores[name])
    return paired_bootstrap(
        lambda predictions, true: task.score(predictions, true)[metric],
        [targets[sample] for sample in ids],
        [ours.predictions[name][sample] for sample in ids],
        [other.predictions[name][sample] for sample in ids],
        [groups.get(sample, str(sample)) for sample in ids],
        samples=1000,
    )


def best(results: Iterable[Result], name: str, task: Task) -> Result:
    """The result with the best primary metric of one task."""
    having = [result for result in results if name in result.scores]
    metric = primary(having[0].scores[name])
    choose = min if metric in task.lower_is_better else max
    return choose(having, key=lambda result: result.scores[name][metric])


def primary(scores: Mapping[str, float]) -> str:
    """The name of the first metric."""
    return next(iter(scores))
