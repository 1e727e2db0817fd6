"""A finished run as the report reads it: the files of its folder, of which all but one may be missing."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mmbert.errors import IntegrityError
from mmbert.report.formatting import as_number

MOST_LINES = 50_000  # of examples.jsonl

Scores = Mapping[str, Mapping[str, float]]  # task -> metric -> value


@dataclass(frozen=True)
class RunRecord:
    """What a run folder holds."""

    name: str
    seed: int
    best_step: int
    test: Scores
    hidden: Mapping[str, Scores]  # input -> the scores without it
    baselines: Mapping[str, Scores]
    against_best: Mapping[str, Mapping[str, Any]]  # task -> what result.json says of the best baseline
    types: Mapping[str, str]  # task -> its type
    recipe: str  # as it is written
    log: list[dict[str, Any]]  # of metrics.jsonl, those with a finite value
    events: list[dict[str, Any]]
    bad: list[dict[str, Any]]
    rows: Mapping[str, Mapping[str, int]]  # split -> "rows", input or task -> how many
    fingerprint: str
    environment: Mapping[str, Any]
    examples: list[dict[str, Any]]
    cost: Mapping[str, Any]
    worth: Mapping[str, Any]  # of inputs.json


def read_run(run: Path) -> RunRecord:
    """Read a run folder. Raises ``IntegrityError`` where it holds no finished run."""
    if not run.is_dir():
        raise IntegrityError(f"expected a run folder, found no folder '{run}'")
    if not (run / "result.json").is_file():
        state = _json(run / "status.json").get("state")
        told = f"a run that is {state}" if state else "no run"
        raise IntegrityError(f"'{run}' must hold a finished run, with result.json; it holds {told}")
    result = _json(run / "result.json")
    if not isinstance(result.get("test"), dict):
        raise IntegrityError(f"'{run / 'result.json'}' must hold the scores of a run under \"test\"; it does not")
    text = _text(run / "recipe.yaml")
    recipe, data = _recipe(text), _json(run / "data.json")
    tasks = _mapping(recipe.get("tasks"))
    hidden = _mapping(result.get("hidden"))
    return RunRecord(
        name=str(recipe.get("name") or run.name),
        seed=result["seed"] if isinstance(result.get("seed"), int) else 0,
        best_step=result["best_step"] if isinstance(result.get("best_step"), int) else 0,
        test=_scores(result["test"]),
        hidden={name.removeprefix("mmbert without "): _scores(found) for name, found in hidden.items()},
        baselines={name: _scores(found) for name, found in _mapping(result.get("baselines")).items()},
        against_best={name: _mapping(one) for name, one in _mapping(result.get("against_best_baseline")).items()},
        types={str(name): str(_mapping(part).get("type", "")) for name, part in tasks.items()},
        recipe=text,
        log=[line for line in _lines(run / "metrics.jsonl") if _is_measured(line)],
        events=_lines(run / "events.jsonl"),
        bad=_lines(run / "bad_samples.jsonl"),
        rows={split: _counts(found) for split, found in _mapping(data.get("rows")).items()},
        fingerprint=str(data.get("fingerprint", "")),
        environment=_json(run / "env.json"),
        examples=_lines(run / "examples.jsonl", MOST_LINES),
        cost=_json(run / "cost.json"),
        worth=_json(run / "inputs.json"),
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _json(path: Path) -> dict[str, Any]:
    """The object in a file; nothing where there is none, or it is damaged."""
    try:
        return _mapping(json.loads(_text(path)))
    except (ValueError, RecursionError):
        return {}


def _lines(path: Path, most: int | None = None) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines; a line that a killed job left unfinished is not there."""
    found = []
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                try:
                    found.append(_mapping(json.loads(line)))
                except (ValueError, RecursionError):
                    continue
                if len(found) == most:
                    break
    except OSError:
        return []
    return found


def _recipe(text: str) -> dict[str, Any]:
    try:
        return _mapping(YAML(typ="safe", pure=True).load(text))
    except (YAMLError, ValueError, RecursionError):
        return {}


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _scores(value: Any) -> dict[str, dict[str, float]]:
    return {
        task: {metric: as_number(one) for metric, one in _mapping(metrics).items()}
        for task, metrics in _mapping(value).items()
    }


def _counts(value: Any) -> dict[str, int]:
    return {name: one for name, one in _mapping(value).items() if isinstance(one, int)}


def _is_measured(line: Mapping[str, Any]) -> bool:
    named = all(isinstance(line.get(key), str) for key in ("split", "task", "metric"))
    value = as_number(line.get("value"))
    return named and isinstance(line.get("step"), int) and value - value == 0  # finite
