"""The section about what each input contributes, from ``inputs.json`` of the reference's first run that has it."""

import math
from collections.abc import Mapping
from typing import Any

from mmbert.report.blocks import Block, Fold, Gallery, Limits, Picture, Section, Words, limited_table, omission_note
from mmbert.report.curves import Curve, draw_curves
from mmbert.report.formatting import NONE, as_number, number, plural, signed
from mmbert.report.heatmaps import draw_heat_map
from mmbert.report.subject import Subject

CALIBRATION = ("ece", "brier", "nll")
MAX_TASKS = 10  # columns of the heat map


def contribution_section(subject: Subject, limits: Limits) -> Section | None:
    """Return Shapley contributions, robustness curves, scores of subsets, EMAP and calibration.

    Args:
        subject: of the page.
        limits: of the page.
    """
    runs = [run for _, run in sorted(subject.reference.runs.items()) if run.contribution]
    if not runs:
        return None
    content = runs[0].contribution
    metrics = {
        name: str(task["metric"])
        for name, task in _mapping(content, "tasks").items()
        if isinstance(task, dict) and "metric" in task
    }
    if not metrics:
        return None
    seed = f" with seed {runs[0].seed}" if subject.is_study else ""
    rows, total = content.get("rows"), content.get("of")
    share = "rows"
    if isinstance(rows, int) and isinstance(total, int):
        share = f"{rows:,} of {plural(total, 'row')}" if rows < total else f"all {plural(rows, 'row')}"
    blocks: list[Block] = [Words([f"Measured{seed} on {share} of the {content.get('split', 'test')} split."])]
    blocks += _contributions(content, metrics, limits)
    blocks += _curves(content, metrics, limits)
    blocks += _subsets(content, metrics, limits)
    blocks += _additive(content, metrics, limits)
    blocks += _calibration(content, limits)
    notes = content.get("notes")
    if isinstance(notes, list) and notes:
        blocks.append(Words([str(note) for note in notes[: limits.rows]], listed=True))
    return Section("What each input contributes", "contribution", blocks)


def _contributions(content: Mapping[str, Any], metrics: Mapping[str, str], limits: Limits) -> list[Block]:
    values = {
        (name, task): as_number(value)
        for task, metric in metrics.items()
        for name, value in _mapping(content, "contributions", task, metric).items()
    }
    inputs = list(dict.fromkeys(name for name, _ in values))
    if not inputs:
        return []
    shown, tasks = inputs[: limits.drawn], list(metrics.items())[:MAX_TASKS]
    cells = {
        (name, task): (value, value < 0)
        for (name, task), value in values.items()
        if name in shown and task in dict(tasks)
    }
    title = "Contribution of each input to each task"
    picture = draw_heat_map("contributions", shown, tasks, cells, title=title, suffix="")
    caption = (
        "Shapley contributions: how much an input improves the score, as the mean over all orders in which the inputs "
        "can be added. They sum to the improvement of all inputs over the constant. Blue improves the task, "
        "red makes it worse; a positive number is an improvement, also where the score is an error."
    )
    notes = omission_note(inputs, len(shown), "input") + omission_note(list(metrics), len(tasks), "task")
    return [Picture(picture, " ".join([caption, *notes]))]


def _curves(content: Mapping[str, Any], metrics: Mapping[str, str], limits: Limits) -> list[Block]:
    rates = content.get("rates")
    shares = [as_number(rate) for rate in rates] if isinstance(rates, list) else []
    lines = _mapping(content, "curves")
    if not shares or not lines:
        return []
    pictures = []
    for position, (task, metric) in enumerate(list(metrics.items())[: limits.panels]):
        curves = []
        for line in list(lines)[: limits.lines]:
            scores = _mapping(lines, line).get("scores")
            scores = scores if isinstance(scores, list) else []
            points = [as_number(_mapping(score, task).get(metric)) for score in scores]
            if len(points) == len(shares) and any(map(math.isfinite, points)):
                curves.append(Curve(line, shares, points, points, points))
        level = as_number(_mapping(content, "constant", task).get(metric))
        if math.isfinite(level):
            ends = [shares[0], shares[-1]]
            curves.append(Curve("constant", ends, [level] * 2, [level] * 2, [level] * 2))
        if curves:
            figure = draw_curves(f"contribution{position}", f"{task}: {metric}", curves, axis="share of rows")
            pictures.append(Picture(figure, ""))
    rows = [[line, *(number(_mapping(lines, line, "areas").get(task)) for task in metrics)] for line in lines]
    caption = (
        "Areas: the mean share of the score above the constant that is retained, over all shares of rows above 0; 1 is "
        f"no loss. {NONE} where the score is not better than the constant by two standard errors"
    )
    sentences = [
        "Scores where inputs are absent at random, but never all inputs of a row, or where one input is corrupted: "
        "replaced by that of another row.",
        *omission_note(list(lines), limits.lines, "curve"),
    ]
    areas = limited_table(["", *metrics], rows, limits, caption=caption)
    return [Words([" ".join(sentences)]), Gallery(pictures), areas] if pictures else [areas]


def _subsets(content: Mapping[str, Any], metrics: Mapping[str, str], limits: Limits) -> list[Block]:
    rows, subsets = [], content.get("subsets")
    for subset in subsets if isinstance(subsets, list) else []:
        inputs = _mapping(subset).get("inputs")
        label = ", ".join(map(str, inputs)) if isinstance(inputs, list) else ""
        scores = [number(_mapping(subset, "scores", task).get(metric)) for task, metric in metrics.items()]
        rows.append([label or "none: the constant", *scores])
    if not rows:
        return []
    head = ["inputs", *(f"{task} {metric}" for task, metric in metrics.items())]
    return [Fold("Scores of every subset of the inputs", [limited_table(head, rows, limits)])]


def _additive(content: Mapping[str, Any], metrics: Mapping[str, str], limits: Limits) -> list[Block]:
    rows = []
    for task, metric in metrics.items():
        facts = _mapping(content, "additive", "tasks", task)
        difference = _mapping(facts, "difference")
        if facts:
            scores = [number(_mapping(facts, which).get(metric)) for which in ("model", "additive")]
            ends = difference.get("low"), difference.get("high")
            interval = NONE if None in ends else " to ".join(map(signed, ends))
            amount = signed(difference.get("difference"))
            rows.append([f"{task} {metric}", number(facts.get("rows")), *scores, amount, interval])
    if not rows:
        return []
    head = ["", "rows", "the model", "additive projection", "difference", "95 % interval"]
    caption = (
        "EMAP: the model against its additive projection, the nearest sum of functions of one input each. The "
        "difference is what the model gains by interactions between inputs"
    )
    return [limited_table(head, rows, limits, caption=caption)]


def _calibration(content: Mapping[str, Any], limits: Limits) -> list[Block]:
    rows = []
    for task, facts in _mapping(content, "calibration").items():
        before, after = (
            [number(_mapping(facts, when).get(key)) for key in CALIBRATION] for when in ("before", "after")
        )
        rows.append([task, *before, number(_mapping(facts).get("temperature")), *after])
    if not rows:
        return []
    names = ["ECE", "Brier", "NLL"]
    head = ["", *names, "temperature", *(f"{name} with it" for name in names)]
    caption = "Calibration, before and after scaling by the temperature that is best on the validation split"
    return [limited_table(head, rows, limits, caption=caption)]


def _mapping(value: Any, *keys: str) -> Mapping[str, Any]:
    """The mapping under nested keys; empty if there is none."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}
