"""Tables of ``mmbert evaluate RUN --inputs``: contributions of inputs, robustness, additive projection, calibration."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from mmbert.tracking.console import Console

MAX_SUBSETS = 16  # of more subsets, only those with one input or all but one are shown
CALIBRATION = ("ece", "brier", "nll")

Cells = Sequence[str]


def print_contributions(report: Mapping[str, Any], console: Console) -> None:
    """Print the content of ``inputs.json``, in the first metric of each task.

    Args:
        report: the content of the file.
        console: that prints.
    """
    metrics = {name: task["metric"] for name, task in report["tasks"].items()}
    total = f" of {report['of']}" if report["rows"] < report["of"] else ""
    console.say("", f"{report['rows']}{total} rows of the {report['split']} split")
    if report["subsets"]:
        _print_by_task(console, "scores with these inputs only", metrics, _subset_rows(report, metrics))
        title = "contribution of each input (Shapley value; above 0: it helps)"
        _print_by_task(console, title, metrics, _contribution_rows(report, metrics))
    for name, metric in metrics.items():
        rates = [f"{rate:.0%}" for rate in report["rates"]]
        rows = [(title, _curve_cells(curve, name, metric)) for title, curve in report["curves"].items()]
        title = (
            f"{name}: {metric} with inputs absent, or one input corrupted (taken from another row), by share of rows;\n"
            "area: mean share of the performance above chance that is retained"
        )
        _print_table(console, title, [*rates, "area"], rows)
    if report["additive"]:
        tasks = report["additive"]["tasks"].items()
        rows = [(f"{name} {metrics[name]}", _additive_cells(task, metrics[name])) for name, task in tasks]
        title = "loss of performance where inputs only add up (EMAP)"
        _print_table(console, title, ["rows", "model", "additive", "difference", "95 % interval"], rows)
    if report["calibration"]:
        measures = ["ECE", "Brier", "NLL"]
        rows = [(name, _calibration_cells(task)) for name, task in report["calibration"].items()]
        title = "calibration, without and with the temperature that is best on validation"
        _print_table(console, title, [*measures, "temperature", *measures], rows)
    for note in report["notes"]:
        console.say(f"note: {note}")


def _subset_rows(report: Mapping[str, Any], metrics: Mapping[str, str]) -> list[tuple[str, Cells]]:
    count, all_shown = len(report["inputs"]), len(report["subsets"]) <= MAX_SUBSETS
    rows = []
    for subset in report["subsets"]:
        inputs = subset["inputs"]
        if all_shown or len(inputs) in (0, 1, count - 1, count):
            label = "no input (constant)" if not inputs else "all inputs" if len(inputs) == count else ", ".join(inputs)
            rows.append((label, [_number(subset["scores"][name][metric]) for name, metric in metrics.items()]))
    return rows


def _contribution_rows(report: Mapping[str, Any], metrics: Mapping[str, str]) -> list[tuple[str, Cells]]:
    values = {name: report["contributions"][name][metric] for name, metric in metrics.items()}
    rows = [(key, [_signed(values[name][key]) for name in metrics]) for key in report["inputs"]]
    return [*rows, ("all inputs over none", [_signed(math.fsum(values[name].values())) for name in metrics])]


def _curve_cells(curve: Mapping[str, Any], name: str, metric: str) -> Cells:
    return [*(_number(scores[name][metric]) for scores in curve["scores"]), _number(curve["areas"].get(name))]


def _additive_cells(task: Mapping[str, Any], metric: str) -> Cells:
    difference = task["difference"]
    ends = difference["low"], difference["high"]
    interval = "none" if None in ends else " to ".join(map(_signed, ends))
    scores = [_number(task[model][metric]) for model in ("model", "additive")]
    return [str(task["rows"]), *scores, _signed(difference["difference"]), interval]


def _calibration_cells(task: Mapping[str, Any]) -> Cells:
    before = [_number(task["before"][measure]) for measure in CALIBRATION]
    if "after" not in task:
        return [*before, "", "", "", ""]
    limit = " (at its bound)" if task.get("at_bound") else ""
    after = [_number(task["after"][measure]) for measure in CALIBRATION]
    return [*before, f"{task['temperature']:.4g}{limit}", *after]


def _print_by_task(console: Console, title: str, metrics: Mapping[str, str], rows: Sequence[tuple[str, Cells]]) -> None:
    _print_table(console, title, [f"{name}\n{metric}" for name, metric in metrics.items()], rows)


def _print_table(console: Console, title: str, head: Sequence[str], rows: Sequence[tuple[str, Cells]]) -> None:
    table = Table(box=None, header_style="bold")
    table.add_column("", vertical="bottom")
    for column in head:
        table.add_column(Text(column), justify="right", no_wrap=True)
    for label, cells in rows:
        table.add_row(Text(label), *map(Text, cells))
    console.rich.print("", Text(title, style="bold"), table, sep="\n")


def _signed(value: float) -> str:
    return f"{'-' if _number(value).startswith('-') else '+'}{_number(abs(value))}"


def _number(value: float | None) -> str:
    """Four significant digits, zeros at the end included, so that columns line up."""
    return "" if value is None else f"{round(value, 12) + 0.0:#.4g}".rstrip(".")
