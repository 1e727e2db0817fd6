"""The files of a finished run: result, predictions, examples, cost."""

import json
import math
import shlex
from collections.abc import Callable, Mapping
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
from mmbert.experiment.experiment import Experiment
from mmbert.tracking.console import count_parameters
from mmbert.tracking.run_folder import RunFolder, read_log
from mmbert.training.comparison import ResultTable
from mmbert.training.memory import peak
from mmbert.types import Sample
from mmbert.version import CODE_EPOCH

MOST_EXAMPLES = 20_000  # rows
MOST_LETTERS = 200  # of a text


def result_summary(identity: Identity, best_step: int, table: ResultTable) -> dict[str, Any]:
    """What ``result.json`` holds: the same for a run that was stopped and resumed.

    ``split`` says which split was scored: ``hidden``, ``baselines`` and ``against_best_baseline`` are of it. Where it
    is validation, ``test`` is empty and ``validation`` holds the scores.

    Args:
        identity: of the run.
        best_step: of the checkpoint that was scored.
        table: its results.
    """
    on_test = table.split == "test"
    return {
        "recipe": identity.hash,
        "epoch": CODE_EPOCH,
        "seed": identity.recipe.train.seed,
        "best_step": best_step,
        "split": table.split,
        "test": table.ours.scores if on_test else {},
        **({} if on_test else {table.split: table.ours.scores}),
        "hidden": {result.arm: result.scores for result in table.without_one_input},
        "baselines": {result.arm: result.scores for result in table.baselines},
        "failed_baselines": {result.arm: dict(result.failures) for result in table.baselines if result.failures},
        "against_best_baseline": {task: comparison.facts() for task, comparison in table.comparisons.items()},
    }


def write_results(
    folder: RunFolder,
    identity: Identity,
    best_step: int,
    table: ResultTable,
    files: Mapping[str, str | bytes | dict[str, Any]],
) -> dict[str, Any]:
    """Write the scores and files of a run, ``result.json`` last: its presence marks the run finished.

    Args:
        folder: of the run.
        identity: of the run.
        best_step: of the checkpoint that was scored.
        table: its results.
        files: as ``result_files`` gives them.

    Returns:
        What ``result.json`` holds.
    """
    if table.split == "test":  # the log has those of validation already
        folder.log(best_step, "test", table.ours.scores)
    for name, content in files.items():
        folder.write(name, content)
    result = result_summary(identity, best_step, table)
    folder.write("result.json", result)
    return result


def result_files(
    experiment: Experiment, evaluation: Evaluation, folder: Path, device: torch.device, warn: Callable[[str], None]
) -> dict[str, str | bytes | dict[str, Any]]:
    """The files of a finished run by their names; reads the scored split. A file that fails is left out.

    Times and memory differ from run to run: they have a file of their own, so that the others are always the same.

    Args:
        experiment: that was trained.
        evaluation: of the scored split.
        folder: of the run.
        device: that it was trained on.
        warn: takes the reason of each failure.
    """
    split, files = experiment.scored_split, {}
    makers: dict[str, Callable[[], str | bytes | dict[str, Any]]] = {
        PREDICTIONS_FILE: lambda: dump_predictions(evaluation, experiment.groups(split)),
        "examples.jsonl": lambda: examples(experiment, evaluation),
        "cost.json": lambda: cost(experiment, folder, device),
    }
    for name, make in makers.items():
        try:
            files[name] = make()
        except Exception as error:  # must not cost the result of the run
            warn(f"{name} is not written: {type(error).__name__}: {error}")
    return files


def next_command(folder: Path, experiment: Experiment) -> str:
    """The command that predicts the test rows of a run, or the scored ones where there are no test rows.

    Args:
        folder: of the run.
        experiment: that was trained.
    """
    split = "test" if any(map(len, experiment.splits["test"])) else experiment.scored_split
    return f"python -m mmbert predict {shlex.quote(str(folder))} --split {split} --output predictions.jsonl"


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


def examples(experiment: Experiment, evaluation: Evaluation) -> str:
    """A line of JSON for each scored row that has a label, in the order of the ids.

    ``id``; ``row``, as errors name it; ``text``, the first letters of the first text input that it has, else empty;
    ``group``, or null; ``true`` and ``predicted``, by task: the raw label, and what ``Task.decode`` makes of the
    prediction. A number that is not finite is null. Of more rows than ``MOST_EXAMPLES`` those with the lowest ids are
    taken: as ids are hashes, a random choice, the same in every run. ``test.safetensors`` holds all.

    Args:
        experiment: that was trained.
        evaluation: of the scored split.
    """
    labelled = sorted({sample for rows in evaluation.targets.values() for sample in rows})[:MOST_EXAMPLES]
    lines = dict.fromkeys(labelled, "")
    for source in experiment.splits[experiment.scored_split]:
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
