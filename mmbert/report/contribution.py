"""The section about what each input is worth, where that was measured: ``inputs.json`` of the reference's first run."""

import math
from collections.abc import Mapping
from typing import Any

from mmbert.report.blocks import Block, Fold, Gallery, Limits, Picture, Section, Words, left_out, table
from mmbert.report.curves import Curve, curves
from mmbert.report.formatting import NONE, as_number, number, plural, signed
from mmbert.report.heatmaps import heat_map
from mmbert.report.subject import Findings

CALIBRATION = ("ece", "brier", "nll")


def worth(found: Findings, limits: Limits) -> Section | None:
    """Contributions, curves of absence and exchange, subsets, the additive projection, calibration."""
    runs = [run for _, run in sorted(found.reference.runs.items()) if run.worth]
    if not runs:
        return None
    made = runs[0].worth
    metrics = {
        name: str(task["metric"])
        for name, task in _mapping(made, "tasks").items()
        if isinstance(task, dict) and "metric" in task
    }
    if not metrics:
        return None
    seed = f" of seed {runs[0].seed}" if found.is_study else ""
    rows, of = made.get("rows"), made.get("of")
    share = "rows"
    if isinstance(rows, int) and isinstance(of, int):
        share = f"{plural(rows, 'row')} of {of:,}" if rows < of else f"all {plural(rows, 'row')}"
    blocks: list[Block] = [Words([f"Measured{seed} on {share} of the {made.get('split', 'test')} split."])]
    blocks += _contributions(made, metrics, limits)
    blocks += _curves(made, metrics, limits)
    blocks += _subsets(made, metrics, limits)
    blocks += _additive(made, metrics, limits)
    blocks += _calibration(made, limits)
    notes = made.get("notes")
    if isinstance(notes, list) and notes:
        blocks.append(Words([str(note) for note in notes[: limits.rows]], listed=True))
    return Section("What each input is worth", "worth", blocks)


def _contributions(made: Mapping[str, Any], metrics: Mapping[str, str], limits: Limits) -> list[Block]:
    values = {
        (one, name): as_number(value)
        for name, metric in metrics.items()
        for one, value in _mapping(made, "contributions", name, metric).items()
    }
    names = list(dict.fromkeys(one for one, _ in values))
    if not names:
        return []
    shown = names[: limits.drawn], list(metrics.items())[:10]
    cells = {pair: (value, value < 0) for pair, value in values.items() if pair[0] in shown[0]
             and pair[1] in dict(shown[1])}  # fmt: skip
    title = "Contribution of each input to each task"
    picture = heat_map("contributions", *shown, cells, title=title, of="")
    caption = (
        "Shapley contributions: the mean of what an input adds to the score over all orders in which inputs can join; "
        "they add up to what all inputs have over the constant. Blue makes the task better, red worse, also where a "
        "score is an error."
    )
    extra = left_out(names, len(shown[0]), "input") + left_out(list(metrics), len(shown[1]), "task")
    return [Picture(picture, " ".join([caption, *extra]))]


def _curves(made: Mapping[str, Any], metrics: Mapping[str, str], limits: Limits) -> list[Block]:
    given = made.get("rates")
    rates = [as_number(rate) for rate in given] if isinstance(given, list) else []
    lines = _mapping(made, "curves")
    if not rates or not lines:
        return []
    pictures = []
    for place, (name, metric) in enumerate(list(metrics.items())[: limits.panels]):
        drawn = []
        for line in list(lines)[: limits.lines]:
            given = _mapping(lines, line).get("scores")
            points = [as_number(_mapping(one, name).get(metric)) for one in given] if isinstance(given, list) else []
            if len(points) == len(rates) and any(map(math.isfinite, points)):
                drawn.append(Curve(line, rates, points, points, points))
        level = as_number(_mapping(made, "constant", name).get(metric))
        if math.isfinite(level):
            ends = [rates[0], rates[-1]]
            drawn.append(Curve("constant", ends, [level] * 2, [level] * 2, [level] * 2))
        if drawn:
            pictures.append(Picture(curves(f"worth{place}", f"{name}: {metric}", drawn, axis="share of rows"), ""))
    rows = [[line, *(number(_mapping(lines, line, "areas").get(name)) for name in metrics)] for line in lines]
    told = (
        "Areas: the mean over the shares above 0 of what is left of the score over the constant's; 1 loses nothing. "
        f"{NONE} where the score is not better than the constant's by two standard errors"
    )
    words = ["Scores where inputs are absent at random, never all of a row, or where one is corrupted: another row's."]
    words += left_out(list(lines), limits.lines, "curve")
    made_table = table(["", *metrics], rows, limits, caption=told)
    return [Words([" ".join(words)]), Gallery(pictures), made_table] if pictures else [made_table]


def _subsets(made: Mapping[str, Any], metrics: Mapping[str, str], limits: Limits) -> list[Block]:
    rows, subsets = [], made.get("subsets")
    for one in subsets if isinstance(subsets, list) else []:
        own = _mapping(one).get("inputs")
        label = ", ".join(map(str, own)) if isinstance(own, list) else ""
        scores = [number(_mapping(one, "scores", name).get(metric)) for name, metric in metrics.items()]
        rows.append([label or "none: the constant", *scores])
    if not rows:
        return []
    head = ["inputs", *(f"{name} {metric}" for name, metric in metrics.items())]
    return [Fold("scores of every subset of inputs", [table(head, rows, limits)])]


def _additive(made: Mapping[str, Any], metrics: Mapping[str, str], limits: Limits) -> list[Block]:
    rows = []
    for name, metric in metrics.items():
        one = _mapping(made, "additive", "tasks", name)
        told = _mapping(one, "difference")
        if one:
            scores = [number(_mapping(one, which).get(metric)) for which in ("model", "additive")]
            interval = f"{signed(told.get('low'))} to {signed(told.get('high'))}"
            rows.append(
                [f"{name} {metric}", number(one.get("rows")), *scores, signed(told.get("difference")), interval]
            )
    if not rows:
        return []
    head = ["", "rows", "the model", "inputs added up", "difference", "95 % interval"]
    caption = "What is lost where inputs only add up (EMAP): the model's outputs projected on sums over inputs"
    return [table(head, rows, limits, caption=caption)]


def _calibration(made: Mapping[str, Any], limits: Limits) -> list[Block]:
    rows = []
    for name, one in _mapping(made, "calibration").items():
        before, after = _mapping(one, "before"), _mapping(one, "after")
        cells = [number(told.get(key)) for told in (before, after) for key in CALIBRATION]
        rows.append([name, *cells[:3], number(_mapping(one).get("temperature")), *cells[3:]])
    if not rows:
        return []
    names = ["ECE", "Brier", "NLL"]
    caption = "Calibration, and what the temperature that is best on the validation split makes of it"
    return [table(["", *names, "temperature", *(f"{one} with it" for one in names)], rows, limits, caption=caption)]


def _mapping(value: Any, *keys: str) -> Mapping[str, Any]:
    """What lies under some keys; empty where it is not a mapping."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}
