"""Cheap baselines that a neural model has to beat: constant, linear, gradient boosting; on crude features.

The models are in baseline_models.py. A baseline that fails is a result without scores, with the reason.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from torch import Tensor

from mmbert.contracts import Processor, Processors, Task
from mmbert.errors import DataError, MMBertError
from mmbert.evaluation.baseline_features import Features, extract_features
from mmbert.evaluation.baseline_models import MODELS, LabelledRows, constant_outputs
from mmbert.types import Sample

MOST_LETTERS = 200  # of the reason of a failure


@dataclass(frozen=True, slots=True)
class BaselineResult:
    """The result of one baseline in one task on one split.

    Attributes:
        task: the name of the task.
        baseline: constant, linear or boosting.
        inputs: the inputs that it reads.
        split: validation or test.
        metrics: as ``Task.score`` gives them.
        predictions: sample id -> a row of ``Task.predict``, as a paired comparison needs them.
        failure: why there are none; empty where there are.
    """

    task: str
    baseline: str
    inputs: tuple[str, ...]
    split: str
    metrics: dict[str, float]
    predictions: dict[int, Tensor]
    failure: str = ""


def run_baselines(
    splits: Mapping[str, Sequence[Sample]],
    processors: Processors,
    texts: Collection[str],
    tasks: Mapping[str, Task],
    models: Collection[str] = ("linear", "boosting"),
) -> Iterator[BaselineResult]:
    """Fit and score each baseline of each task, on all inputs together and on each input alone.

    Args:
        splits: "train", "validation" (which chooses the penalty and stops boosting) and the other splits to score.
        processors: fitted on the training split.
        texts: the inputs that are text.
        tasks: on the CPU.
        models: linear, boosting or both; the constant predictor is always scored.

    Yields:
        A result as soon as it is ready, for each split with labels of the task; where a baseline fails, the reason.

    Raises:
        SampleError: where an input of a sample cannot be read, with its row.
    """
    samples = {split: list(rows) for split, rows in splits.items()}
    names = {name for rows in samples.values() for sample in rows for name in sample.inputs}
    names = [name for name in sorted(names) if name in texts or name in processors.inputs]
    values = {
        name: {split: [(sample, sample.inputs.get(name)) for sample in rows] for split, rows in samples.items()}
        for name in names
    }
    features, failures = extract_features(values, processors.inputs, texts)
    columns = sorted({*features, *failures})
    groups = [tuple(columns)] if columns else []
    if len(columns) > 1:
        groups += [(name,) for name in columns]
    for name, task in tasks.items():
        labelled = _labelled_splits(name, samples, processors.targets[name])

        constant = partial(constant_outputs, task, labelled, {*names, "text"})
        yield from _score(name, task, "constant", (), labelled, constant)
        for group in groups if task.baseline else ():
            broken = [f"{key}: {failures[key]}" for key in group if key in failures]
            inputs = [features[key] for key in group if key in features]
            for baseline in models:
                fit = partial(_fit_model, name, task, baseline, labelled, inputs, broken)
                yield from _score(name, task, baseline, group, labelled, fit)


def _fit_model(
    name: str,
    task: Task,
    baseline: str,
    labelled: Mapping[str, LabelledRows],
    inputs: Sequence[Features],
    broken: Sequence[str],
) -> dict[str, Tensor]:
    """The outputs of a fitted model; ``broken`` says which of its inputs have no features. Raises ``DataError``."""
    if broken:
        raise DataError("; ".join(broken))
    for split in ("train", "validation"):
        if split not in labelled or not task.count(labelled[split].targets):
            raise DataError(f"expected labels of the task '{name}' in the split '{split}', found none to learn from")
    return MODELS[baseline](task, labelled, inputs)


def _labelled_splits(task: str, samples: Mapping[str, Sequence[Sample]], label: Processor) -> dict[str, LabelledRows]:
    """The labelled rows of each split that has any."""
    labelled = {}
    for split, split_samples in samples.items():
        rows, items = [], []
        for row, sample in enumerate(split_samples):
            item = label(sample.targets[task]) if task in sample.targets else {}
            if item:
                rows.append(row)
                items.append(item)
        if items:
            ids = [split_samples[row].id for row in rows]
            labelled[split] = LabelledRows(np.array(rows), ids, items, label.collate(items))
    return labelled


def _score(
    name: str,
    task: Task,
    baseline: str,
    inputs: tuple[str, ...],
    labelled: Mapping[str, LabelledRows],
    fit: Callable[[], Mapping[str, Tensor]],
) -> Iterator[BaselineResult]:
    """The result on each split but training; a failure of the fit or of the score is a result too."""
    scored, outputs, failure = [split for split in labelled if split != "train"], {}, ""
    try:
        outputs = fit()
    except Exception as error:  # a baseline must not cost the run
        failure = _in_words(error)
    for split in scored:
        part = labelled[split]
        if failure:
            yield BaselineResult(name, baseline, inputs, split, {}, {}, failure)
            continue
        try:
            predictions = list(task.predict(outputs[split]))
            metrics = task.score(predictions, part.items)
            if wrong := [metric for metric, value in metrics.items() if not math.isfinite(value)]:
                raise DataError(f"{wrong[0]} is not finite")
        except Exception as error:
            yield BaselineResult(name, baseline, inputs, split, {}, {}, _in_words(error))
        else:
            by_id = dict(zip(part.ids, predictions, strict=True))
            yield BaselineResult(name, baseline, inputs, split, metrics, by_id)


def _in_words(error: Exception) -> str:
    text = " ".join(str(error).split())[:MOST_LETTERS]
    return text if text and isinstance(error, MMBertError) else f"{type(error).__name__}: {text}".removesuffix(": ")
