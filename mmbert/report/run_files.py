"""Reads a finished run from its folder; every file except ``result.json`` may be missing."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mmbert.errors import IntegrityError
from mmbert.report.formatting import as_number

MAX_EXAMPLES = 50_000  # lines of examples.jsonl

Scores = Mapping[str, Mapping[str, float]]  # task -> metric -> value


@dataclass(frozen=True)
class RunRecord:
    """The content of a run folder."""

    name: str
    seed: int
    best_step: int
    split: str  # that was scored: test, or validation where no test row has a label
    scores: Scores
    hidden: Mapping[str, Scores]  # input -> the scores with this input hidden
    baselines: Mapping[str, Scores]
    failed_baselines: Mapping[str, Mapping[str, str]]  # baseline -> task -> why it has no scores
    against_best: Mapping[str, Mapping[str, Any]]  # task -> the facts of result.json about the best baseline
    types: Mapping[str, str]  # task -> its type
    recipe: str  # the text of recipe.yaml
    log: list[dict[str, Any]]  # lines of metrics.jsonl with a finite value
    events: list[dict[str, Any]]
    bad: list[dict[str, Any]]
    rows: Mapping[str, Mapping[str, int]]  # split -> "rows", input or task -> count
    fingerprint: str
    environment: Mapping[str, Any]
    examples: list[dict[str, Any]]
    cost: Mapping[str, Any]
    contribution: Mapping[str, Any]  # inputs.json


def read_run(folder: Path) -> RunRecord:
    """Read a run folder; files other than ``result.json`` may be missing or damaged.

    Args:
        folder: of a finished run.

    Raises:
        IntegrityError: if the folder holds no finished run.
    """
    if not folder.is_dir():
        raise IntegrityError(f"expected a run folder, found no folder '{folder}'")
    if not (folder / "result.json").is_file():
        state = _json(folder / "status.json").get("state")
        content = f"a run that is {state}" if state else "no run"
        raise IntegrityError(f"'{folder}' must hold a finished run, with result.json; it holds {content}")
    result = _json(folder / "result.json")
    split = str(result.get("split", "test"))
    if not isinstance(result.get(split), dict):
        file = folder / "result.json"
        raise IntegrityError(f"'{file}' must hold the scores of a run under \"{split}\"; it does not")
    text = _text(folder / "recipe.yaml")
    recipe, data = _recipe(text), _json(folder / "data.json")
    tasks = _mapping(recipe.get("tasks"))
    hidden = _mapping(result.get("hidden"))
    return RunRecord(
        name=str(recipe.get("name") or folder.name),
        seed=result["seed"] if isinstance(result.get("seed"), int) else 0,
        best_step=result["best_step"] if isinstance(result.get("best_step"), int) else 0,
        split=split,
        scores=_scores(result[split]),
        hidden={name.removeprefix("mmbert without "): _scores(scores) for name, scores in hidden.items()},
        baselines={name: _scores(scores) for name, scores in _mapping(result.get("baselines")).items()},
        failed_baselines={
            name: {task: str(reason) for task, reason in _mapping(reasons).items()}
            for name, reasons in _mapping(result.get("failed_baselines")).items()
        },
        against_best={task: _mapping(facts) for task, facts in _mapping(result.get("against_best_baseline")).items()},
        types={str(name): str(_mapping(part).get("type", "")) for name, part in tasks.items()},
        recipe=text,
        log=[line for line in _lines(folder / "metrics.jsonl") if _is_valid(line)],
        events=_lines(folder / "events.jsonl"),
        bad=_lines(folder / "bad_samples.jsonl"),
        rows={split: _counts(counts) for split, counts in _mapping(data.get("rows")).items()},
        fingerprint=str(data.get("fingerprint", "")),
        environment=_json(folder / "env.json"),
        examples=_lines(folder / "examples.jsonl", MAX_EXAMPLES),
        cost=_json(folder / "cost.json"),
        contribution=_json(folder / "inputs.json"),
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _json(path: Path) -> dict[str, Any]:
    """The object in a file; empty if the file is missing or damaged."""
    try:
        return _mapping(json.loads(_text(path)))
    except (ValueError, RecursionError):
        return {}


def _lines(path: Path, max_lines: int | None = None) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines; a line that a killed job left unfinished is skipped."""
    objects = []
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                try:
                    objects.append(_mapping(json.loads(line)))
                except (ValueError, RecursionError):
                    continue
                if len(objects) == max_lines:
                    break
    except OSError:
        return []
    return objects


def _recipe(text: str) -> dict[str, Any]:
    try:
        return _mapping(YAML(typ="safe", pure=True).load(text))
    except (YAMLError, ValueError, RecursionError):
        return {}


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _scores(value: Any) -> dict[str, dict[str, float]]:
    return {
        task: {metric: as_number(number) for metric, number in _mapping(metrics).items()}
        for task, metrics in _mapping(value).items()
    }


def _counts(value: Any) -> dict[str, int]:
    return {name: count for name, count in _mapping(value).items() if isinstance(count, int)}


def _is_valid(line: Mapping[str, Any]) -> bool:
    has_names = all(isinstance(line.get(key), str) for key in ("split", "task", "metric"))
    return has_names and isinstance(line.get("step"), int) and math.isfinite(as_number(line.get("value")))
