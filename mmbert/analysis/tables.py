"""The tables in which ``mmbert evaluate RUN --inputs`` tells what each input is worth."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from mmbert.tracking.console import Console

MOST = 16  # subsets that are all shown; of more, those with one input or all but one

Cells = Sequence[str]


def tell(found: Mapping[str, Any], console: Console) -> None:
    """Print what ``inputs.json`` holds, in the first metric of each task."""
    metrics = {name: task["metric"] for name, task in found["tasks"].items()}
    less = f" of {found['of']}" if found["rows"] < found["of"] else ""
    console.say("", f"{found['rows']}{less} rows of the {found['split']} split")
    if found["subsets"]:
        _show(console, "with these inputs alone", metrics, _subsets(found, metrics))
        _show(console, "what each contributes (Shapley; above 0: it helps)", metrics, _contributions(found, metrics))
    for name, metric in metrics.items():
        head = [f"{rate:.0%}" for rate in found["rates"]]
        rows = [(curve, [_number(scores[name][metric]) for scores in one["scores"]] +
                 [_number(one["areas"].get(name))]) for curve, one in found["curves"].items()]  # fmt: skip
        title = f"{name}: {metric} with inputs absent, or one corrupted: another row's, in a share of the rows;\n"
        _table(console, title + "area: the mean of what is left of it over chance", [*head, "area"], rows)
    if found["additive"]:
        rows = [(f"{name} {metrics[name]}", _additive(one, metrics[name]))
                for name, one in found["additive"]["tasks"].items()]  # fmt: skip
        title = "what is lost where inputs only add up (EMAP)"
        _table(console, title, ["rows", "model", "additive", "difference", "95 % interval"], rows)
    if found["calibration"]:
        head = ["ECE", "Brier", "NLL", "temperature", "ECE", "Brier", "NLL"]
        rows = [(name, _calibration(one)) for name, one in found["calibration"].items()]
        _table(console, "calibration, then with the temperature that is best on validation", head, rows)
    for note in found["notes"]:
        console.say(f"note: {note}")


def _subsets(found: Mapping[str, Any], metrics: Mapping[str, str]) -> list[tuple[str, Cells]]:
    count, few = len(found["inputs"]), len(found["subsets"]) <= MOST
    shown = [one for one in found["subsets"] if few or len(one["inputs"]) in (0, 1, count - 1, count)]
    rows = []
    for one in shown:
        own = one["inputs"]
        label = "no input (constant)" if not own else "all inputs" if len(own) == count else ", ".join(own)
        rows.append((label, [_number(one["scores"][name][metric]) for name, metric in metrics.items()]))
    return rows


def _contributions(found: Mapping[str, Any], metrics: Mapping[str, str]) -> list[tuple[str, Cells]]:
    values = {name: found["contributions"][name][metric] for name, metric in metrics.items()}
    rows = [(one, [_signed(values[name][one]) for name in metrics]) for one in found["inputs"]]
    return [*rows, ("all inputs over none", [_signed(math.fsum(values[name].values())) for name in metrics])]


def _additive(one: Mapping[str, Any], metric: str) -> Cells:
    told = one["difference"]
    interval = f"{_signed(told['low'])} to {_signed(told['high'])}"
    scores = [_number(one[which][metric]) for which in ("model", "additive")]
    return [str(one["rows"]), *scores, _signed(told["difference"]), interval]


def _calibration(one: Mapping[str, Any]) -> Cells:
    before = [_number(one["before"][name]) for name in ("ece", "brier", "nll")]
    if "after" not in one:
        return [*before, "", "", "", ""]
    limit = " (at its bound)" if one.get("at_bound") else ""
    after = [_number(one["after"][name]) for name in ("ece", "brier", "nll")]
    return [*before, f"{one['temperature']:.4g}{limit}", *after]


def _show(console: Console, title: str, metrics: Mapping[str, str], rows: Sequence[tuple[str, Cells]]) -> None:
    _table(console, title, [f"{name}\n{metric}" for name, metric in metrics.items()], rows)


def _table(console: Console, title: str, head: Sequence[str], rows: Sequence[tuple[str, Cells]]) -> None:
    table = Table(box=None, header_style="bold")
    table.add_column("", vertical="bottom")
    for one in head:
        table.add_column(Text(one), justify="right", no_wrap=True)
    for label, cells in rows:
        table.add_row(Text(label), *map(Text, cells))
    console.rich.print("", Text(title, style="bold"), table, sep="\n")


def _signed(value: float) -> str:
    return f"{'-' if _number(value).startswith('-') else '+'}{_number(abs(value))}"


def _number(value: float | None) -> str:
    """With four significant digits, zeros at the end included, so that columns line up."""
    return "" if value is None else f"{round(value, 12) + 0.0:#.4g}".rstrip(".")
