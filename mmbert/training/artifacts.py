"""The files of a finished run: result, predictions, examples, cost, rows of the ledger."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmbert.checkpoint.resume import Identity
from mmbert.data.collate import describe_row
from mmbert.errors import SampleError
from mmbert.evaluation.evaluate import Evaluation
from mmbert.evaluation.predictions import PREDICTIONS_FILE, dump_predictions
from mmbert.evaluation.results import Result, best_result, cached_baselines, compare, primary_metric
from mmbert.experiment.experiment import Experiment
from mmbert.io.download import cache_folder
from mmbert.tracking.console import Console, count_parameters
from mmbert.tracking.ledger import Measured, Scores, append_results
from mmbert.tracking.run_folder import RunFolder, read_log
from mmbert.training.memory import peak
from mmbert.types import Sample
from mmbert.version import CODE_EPOCH

MOST_EXAMPLES = 20_000  # rows
MOST_LETTERS = 200  # of a text


@dataclass(frozen=True)
class ResultTable:
    """The results of one run on the test split.

    Attributes:
        ours: of the trained model.
        hidden: of the same model, without one input each.
        baselines: of the cheap models.
        differences: task -> the best baseline, and the difference to it.
    """

    ours: Result
    hidden: Sequence[Result]
    baselines: Sequence[Result]
    differences: Mapping[str, tuple[str, dict[str, float]]]


def result_summary(identity: Identity, best_step: int, table: ResultTable) -> dict[str, Any]:
    """What ``result.json`` holds: the same for a run that was stopped and resumed.

    Args:
        identity: of the run.
        best_step: of the checkpoint that was scored.
        table: its results.
    """
    return {
        "recipe": identity.hash,
        "epoch": CODE_EPOCH,
        "seed": identity.recipe.train.seed,
        "best_step": best_step,
        "test": table.ours.scores,
        "hidden": {result.arm: result.scores for result in table.hidden},
        "baselines": {result.arm: result.scores for result in table.baselines},
        "against_best_baseline": {
            task: {"baseline": baseline, **difference} for task, (baseline, difference) in table.differences.items()
        },
    }


def write_results(
    folder: RunFolder,
    identity: Identity,
    best_step: int,
    table: ResultTable,
    files: Mapping[str, str | bytes | dict[str, Any]],
) -> dict[str, Any]:
    """Write the test scores and files of a run, ``result.json`` last: its presence marks the run finished.

    Args:
        folder: of the run.
        identity: of the run.
        best_step: of the checkpoint that was scored.
        table: its results.
        files: as ``result_files`` gives them.

    Returns:
        What ``result.json`` holds.
    """
    folder.log(best_step, "test", table.ours.scores)
    for name, content in files.items():
        folder.write(name, content)
    result = result_summary(identity, best_step, table)
    folder.write("result.json", result)
    return result


def result_files(
    experiment: Experiment, evaluation: Evaluation, folder: Path, device: torch.device
) -> dict[str, str | bytes | dict[str, Any]]:
    """The files of a finished run by their names; reads the test split.

    Times and memory differ from run to run: they have a file of their own, so that the others are always the same.

    Args:
        experiment: that was trained.
        evaluation: of the test split.
        folder: of the run.
        device: that it was trained on.
    """
    return {
        PREDICTIONS_FILE: dump_predictions(evaluation, experiment.groups("test")),
        "examples.jsonl": examples(experiment, evaluation),
        "cost.json": cost(experiment, folder, device),
    }


def cost(experiment: Experiment, folder: Path, device: torch.device) -> dict[str, Any]:
    """What a run took.

    Args:
        experiment: that was trained.
        folder: of the run, whose log is read.
        device: that it was trained on.

    Returns:
        What ``cost.json`` holds. ``seconds``: from the start to the last line of training or validation in the log,
        without the time between a stop and a resume. ``parameters``: of each part, those that learn and all.
        ``memory_mb``: the peak of the main process since its last start, in 10^6 bytes; torch's on a GPU, resident on
        CPU.
    """
    times = [line["time"] for line in read_log(folder) if line["split"] != "test"]
    return {
        "seconds": times[-1] if times else 0.0,
        "parameters": count_parameters(experiment.model),
        "device": device.type,
        "memory_mb": round(peak(device) / 1e6, 1),
    }


def append_table(ledger: str | Path, identity: Identity, arm: str, table: ResultTable) -> None:
    """Append the results of a run to a ledger.

    Args:
        ledger: a CSV file.
        identity: of the run.
        arm: the run's name in the ledger.
        table: its results.
    """
    rows: dict[str, Scores] = {
        result.arm.replace("mmbert", arm): result.scores for result in (table.ours, *table.hidden, *table.baselines)
    }
    rows[f"{arm} against the best baseline"] = {task: difference for task, (_, difference) in table.differences.items()}
    run = Measured(identity.recipe.name, identity.recipe.train.seed, "test", identity.hash, identity.data)
    append_results(ledger, rows, run)


def score_baselines(experiment: Experiment, console: Console) -> list[Result]:
    """The cheap baselines of a recipe on its test split.

    Args:
        experiment: its data are read and its tasks score.
        console: what a person sees.
    """
    console.say("", "baselines on the same split ...")
    recipe, report = experiment.recipe, experiment.data_report
    splits = {split: experiment.good_samples(split) for split in experiment.splits}
    tasks = {  # a baseline is fitted, chosen and scored
        name: task.cpu()
        for name, task in experiment.model.tasks.items()
        if all(counts.get(name) for counts in report.rows.values())
    }
    parts = {**recipe.inputs, **recipe.tasks}
    return cached_baselines(
        cache_folder() / "baselines",
        splits,
        experiment.processors,
        experiment.text_inputs,
        tasks,
        data=report.fingerprint,
        options={name: part.model_dump(mode="json") for name, part in parts.items()},
    )


def compare_to_baselines(
    experiment: Experiment, ours: Result, baselines: Sequence[Result], evaluation: Evaluation
) -> dict[str, tuple[str, dict[str, float]]]:
    """Task -> the best baseline, and the difference of the primary metric to it with its 95 % interval and p.

    Args:
        experiment: that was trained.
        ours: its results on the test split.
        baselines: those of the cheap models.
        evaluation: of the test split.
    """
    differences = {}
    groups = experiment.groups("test")
    for name in ours.scores:
        if not any(name in result.scores for result in baselines):
            continue
        task = experiment.model.tasks[name]
        baseline = best_result(baselines, name, task)
        metric = primary_metric(ours.scores[name])
        difference = compare(ours, baseline, name, task, evaluation.targets[name], groups)
        differences[name] = (
            baseline.arm,
            {
                f"{metric}_difference": difference.difference,
                f"{metric}_difference_low": difference.low,
                f"{metric}_difference_high": difference.high,
                f"{metric}_difference_p": difference.p,
            },
        )
    return differences


def examples(experiment: Experiment, evaluation: Evaluation) -> str:
    """A line of JSON for each test row that has a label, in the order of the ids.

    ``id``; ``row``, as errors name it; ``text``, the first letters of the first text input that it has, else empty;
    ``group``, or null; ``true`` and ``predicted``, by task: the raw label, and what ``Task.decode`` makes of the
    prediction. A number that is not finite is null. Of more rows than ``MOST_EXAMPLES`` those with the lowest ids are
    taken: as ids are hashes, a random choice, the same in every run. ``test.safetensors`` holds all.

    Args:
        experiment: that was trained.
        evaluation: of the test split.
    """
    labelled = sorted({sample for rows in evaluation.targets.values() for sample in rows})[:MOST_EXAMPLES]
    lines = dict.fromkeys(labelled, "")
    for source in experiment.splits["test"]:
        for sample in source.read({*experiment.text_inputs, *evaluation.targets}):
            if not isinstance(sample, SampleError) and sample.id in lines:
                lines[sample.id] = json.dumps(_example(experiment, evaluation, sample), allow_nan=False) + "\n"
    return "".join(lines.values())


def _example(experiment: Experiment, evaluation: Evaluation, sample: Sample) -> dict[str, Any]:
    tasks = [name for name, rows in evaluation.predictions.items() if sample.id in rows]
    model, predictions = experiment.model, evaluation.predictions
    decoded = {name: model.tasks[name].decode(predictions[name][sample.id]) for name in tasks}
    text = next((sample.inputs[name] for name in experiment.text_inputs if name in sample.inputs), "")
    return {
        "id": sample.id,
        "row": describe_row(sample),
        "text": (text if isinstance(text, str) else " ".join(text))[:MOST_LETTERS],
        "group": to_json(sample.attributes.get("group")),
        "true": {name: to_json(sample.targets[name]) for name in tasks},
        "predicted": {name: to_json(value) for name, value in decoded.items()},
    }


def to_json(value: Any) -> Any:
    """A raw value as JSON has it; one of a type that JSON lacks (a date) as its text.

    Args:
        value: of any type.

    Example:
        >>> to_json({"size": np.float32(0.5), "tags": ("a", None), "far": float("inf")})
        {'size': 0.5, 'tags': ['a', None], 'far': None}
    """
    if isinstance(value, np.ndarray | np.generic | Tensor):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, Mapping):
        return {str(name): to_json(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(entry) for entry in value]
    return str(value)
