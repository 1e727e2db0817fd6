"""What a finished run writes down: its result, the files that reports and studies read, lines of the ledger."""

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
from mmbert.evaluation.results import Result, best, cached_baselines, compare, primary
from mmbert.experiment.experiment import Built
from mmbert.io.download import cache_folder
from mmbert.tracking.console import Console, count_parameters
from mmbert.tracking.ledger import Measured, Scores, append_results
from mmbert.tracking.run_folder import read_log
from mmbert.training.memory import peak
from mmbert.types import Sample
from mmbert.version import CODE_EPOCH


@dataclass(frozen=True)
class ResultTable:
    """The results of one run on the test split."""

    ours: Result
    hidden: Sequence[Result]  # without one input each
    baselines: Sequence[Result]
    compared: Mapping[str, tuple[str, dict[str, float]]]  # task -> the best baseline, the difference to it


def summary(run: Identity, best_step: int, table: ResultTable) -> dict[str, Any]:
    """What ``result.json`` holds: the same for a run that was stopped and went on."""
    return {
        "recipe": run.hash,
        "epoch": CODE_EPOCH,
        "seed": run.recipe.train.seed,
        "best_step": best_step,
        "test": table.ours.scores,
        "hidden": {one.arm: one.scores for one in table.hidden},
        "baselines": {one.arm: one.scores for one in table.baselines},
        "against_best_baseline": {name: {"baseline": other, **one} for name, (other, one) in table.compared.items()},
    }


def record(built: Built, found: Evaluation, run: Path, device: torch.device) -> dict[str, str | bytes | dict[str, Any]]:
    """The files by name, after the run in the folder ``run`` was evaluated on the test split; reads that split.

    Times and memory differ from run to run: they have a file of their own, so that the others are always the same.
    """
    return {
        PREDICTIONS_FILE: dump_predictions(found, built.groups("test")),
        "examples.jsonl": examples(built, found),
        "cost.json": cost(built, run, device),
    }


def cost(built: Built, run: Path, device: torch.device) -> dict[str, Any]:
    """What a run took, as ``cost.json`` holds it.

    ``seconds`` from its start to the last line of training or validation in its log, the time between a stop and a
    resume left out; ``parameters`` of each part: how many learn, how many there are; ``memory_mb``, in 10^6 bytes, the
    peak of the main process since it was last started: what torch had of a GPU, on CPU what was resident.
    """
    times = [line["time"] for line in read_log(run) if line["split"] != "test"]
    return {
        "seconds": times[-1] if times else 0.0,
        "parameters": count_parameters(built.model),
        "device": device.type,
        "memory_mb": round(peak(device) / 1e6, 1),
    }


def append_table(ledger: str | Path, run: Identity, arm: str, table: ResultTable) -> None:
    """Append a run's table to a ledger, where the run is called ``arm``."""
    lines: dict[str, Scores] = {
        one.arm.replace("mmbert", arm): one.scores for one in (table.ours, *table.hidden, *table.baselines)
    }
    lines[f"{arm} against the best baseline"] = {name: one for name, (_, one) in table.compared.items()}
    append_results(ledger, lines, Measured(run.recipe.name, run.recipe.train.seed, "test", run.hash, run.data))


def baselines(built: Built, console: Console) -> list[Result]:
    """What cheap models reach on the test split of a recipe's data."""
    console.say("", "baselines on the same split ...")
    splits = {split: built.good_samples(split) for split in built.splits}
    rows = built.survey.rows  # a baseline is fitted, chosen and scored
    tasks = {name: task.cpu() for name, task in built.model.tasks.items() if all(rows[one].get(name) for one in rows)}
    parts = {**built.recipe.inputs, **built.recipe.tasks}
    options = {name: part.model_dump(mode="json") for name, part in parts.items()}
    given = (splits, built.processors, built.texts, tasks, built.labels)
    return cached_baselines(cache_folder() / "baselines", *given, data=built.survey.fingerprint, options=options)


def differences(
    built: Built, ours: Result, beside: Sequence[Result], found: Evaluation
) -> dict[str, tuple[str, dict[str, float]]]:
    """For each task: the best baseline, and the difference of the primary metric to it with its 95 % interval."""
    found_differences = {}
    groups = built.groups("test")
    for name in ours.scores:
        if not any(name in one.scores for one in beside):
            continue
        task = built.model.tasks[name]
        other = best(beside, name, task)
        metric, one = primary(ours.scores[name]), compare(ours, other, name, task, found.targets[name], groups)
        found_differences[name] = (
            other.arm,
            {
                f"{metric}_difference": one.difference,
                f"{metric}_difference_low": one.low,
                f"{metric}_difference_high": one.high,
                f"{metric}_difference_p": one.p,
            },
        )
    return found_differences


MOST = 20_000  # rows
LETTERS = 200  # of a text


def examples(built: Built, found: Evaluation) -> str:
    """A line of JSON for each test row that has a label, in the order of the ids; ``found`` is the test split's.

    ``id``; ``row``, as errors name it; ``text``, the first letters of the first text input that it has, else empty;
    ``group``, or null; ``true`` and ``predicted``, by task: the raw label, and what ``Task.decode`` makes of the
    prediction. A number that is not finite is null. Of more rows than ``MOST`` those with the lowest ids are there: as
    ids are hashes, a random choice, the same in every run. ``test.safetensors`` holds all.
    """
    labelled = sorted({sample for rows in found.targets.values() for sample in rows})[:MOST]
    lines = dict.fromkeys(labelled, "")
    for source in built.splits["test"]:
        for sample in source.read({*built.texts, *found.targets}):
            if not isinstance(sample, SampleError) and sample.id in lines:
                lines[sample.id] = json.dumps(_example(built, found, sample), allow_nan=False) + "\n"
    return "".join(lines.values())


def _example(built: Built, found: Evaluation, sample: Sample) -> dict[str, Any]:
    tasks = [name for name, rows in found.predictions.items() if sample.id in rows]
    decoded = {name: built.model.tasks[name].decode(found.predictions[name][sample.id]) for name in tasks}
    text = next((sample.inputs[name] for name in built.texts if name in sample.inputs), "")
    return {
        "id": sample.id,
        "row": describe_row(sample),
        "text": (text if isinstance(text, str) else " ".join(text))[:LETTERS],
        "group": plain(sample.attributes.get("group")),
        "true": {name: plain(sample.targets[name]) for name in tasks},
        "predicted": {name: plain(value) for name, value in decoded.items()},
    }


def plain(value: Any) -> Any:
    """A raw value as one of JSON; what JSON has no word for (a date) as it reads.

    >>> plain({"size": np.float32(0.5), "tags": ("a", None), "far": float("inf")})
    {'size': 0.5, 'tags': ['a', None], 'far': None}
    """
    if isinstance(value, np.ndarray | np.generic | Tensor):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, Mapping):
        return {str(name): plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return str(value)
