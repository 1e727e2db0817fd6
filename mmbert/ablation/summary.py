"""What a study found, told and written down: its table, its comparisons over seeds and over examples, its report."""

import importlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from rich.console import Console as Terminal
from rich.table import Table
from rich.text import Text

from mmbert.ablation.by_example import by_example
from mmbert.ablation.compare import Comparison, comparisons, sentence
from mmbert.ablation.layout import layout
from mmbert.contracts import Task
from mmbert.errors import MMBertError
from mmbert.inference.predict import open_run
from mmbert.io.atomic import write_atomically
from mmbert.tracking.console import Console
from mmbert.tracking.outcome import StudyOutcome
from mmbert.tracking.run_folder import read_json

BY_EXAMPLE = "by_example.json"


def report_findings(outcome: StudyOutcome, folder: Path, console: Console) -> None:
    """Print the table and the comparisons of a study, and write ``by_example.json`` and ``report.html``."""
    terminal = Terminal(highlight=False)
    terminal.print()
    terminal.print(_table(outcome))
    found = comparisons(outcome)
    lines = [sentence(one, base=outcome.reference.name) for one in found]
    lines += _on_examples(outcome, [one for one in found if one.planned], folder, console)
    for line in lines:
        terminal.print(Text(line))
    if report := _report(outcome, found, lines):
        write_atomically(folder / "report.html", report)
        console.say("", f"report: {folder / 'report.html'}")
    else:
        console.say("", "no report: pip install 'mmbert[report]'")
    console.say(f"tables: {folder}")


def _table(outcome: StudyOutcome) -> Table:
    found = layout(outcome)
    table = Table("arm", title=Text(f"{outcome.name}: mean ± standard deviation over seeds, test split"))
    for task, metric in found.columns:
        table.add_column(Text(f"{task}/{metric}"), justify="right")
    table.add_column("seeds")
    for row in (*found.arms, *found.baselines):
        name = Text(f"{row.name} ({row.mark})" if row.mark else row.name)
        cells = [Text(cell.text, style="bold" if cell.best else "") for cell in row.cells]
        table.add_row(name, *cells, Text(row.seeds), end_section=row is found.arms[-1])
    return table


def _on_examples(outcome: StudyOutcome, planned: list[Comparison], folder: Path, console: Console) -> list[str]:
    """A sentence for each planned comparison whose runs are there; results are kept for the next time."""
    before, kept, lines = read_json(folder / BY_EXAMPLE), {}, []

    @cache
    def open_task(run: Path) -> Task:
        return open_run(run).model.tasks[outcome.task]

    for one in planned:
        arm, other = outcome.arm(one.arm), outcome.arm(one.reference)
        if arm.masked or other.masked:
            continue  # predictions are kept of whole inputs alone
        seeds = sorted(arm.runs.keys() & other.runs.keys())
        key = f"{one.arm} against {one.reference}"
        runs = {str(seed): [arm.runs[seed].name, other.runs[seed].name] for seed in seeds}
        if not seeds:
            continue
        if before.get(key, {}).get("runs") != runs:
            console.say(f"comparing {key} on the test examples ...")
            try:
                found = by_example(
                    {seed: arm.runs[seed] for seed in seeds}, {seed: other.runs[seed] for seed in seeds},
                    outcome.task, outcome.metric, open_task,
                )  # fmt: skip
            except (MMBertError, OSError) as error:  # such as checkpoints that were removed
                console.warn(f"{key}: not compared on examples: {error}")
                continue
            kept[key] = {
                "runs": runs, "rows": found.rows, "groups": found.groups, **found.difference._asdict(),
                "mcnemar": {str(seed): p for seed, p in found.mcnemar.items()},
            }  # fmt: skip
        else:
            kept[key] = before[key]
        lines.append(_by_example(key, outcome.metric, kept[key]))
    if kept:
        write_atomically(folder / BY_EXAMPLE, json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    return lines


def _by_example(key: str, metric: str, found: Mapping[str, Any]) -> str:
    """What other test rows, the seeds the same, would have given."""
    text = (
        f"{key}, on {found['rows']} test rows in {found['groups']} groups: {metric} {found['difference']:+.4g} "
        f"(paired bootstrap, 95 % interval {found['low']:+.4g} to {found['high']:+.4g})"
    )
    if found["mcnemar"]:
        text += f"; McNemar's p by seed: {', '.join(f'{p:.3g}' for p in found['mcnemar'].values())}"
    return text


def _report(outcome: StudyOutcome, found: list[Comparison], lines: list[str]) -> str:
    """The page; empty where what it is made with is not installed."""
    try:
        page = importlib.import_module("mmbert.report.page")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("jinja2", "markupsafe", "matplotlib"):
            return ""
        raise
    figures = importlib.import_module("mmbert.report.figures")
    differences = []
    for one in found:
        arm, other = (outcome.arm(name).values(one.task, one.metric) for name in (one.arm, one.reference))
        by_seed = {seed: arm[seed] - other[seed] for seed in arm if seed in other}
        differences.append(
            figures.ArmDifference(
                arm=one.arm,
                reference=one.reference,
                task=one.task,
                metric=one.metric,
                difference=one.found.difference,
                low=one.found.low,
                high=one.found.high,
                p=one.holm,
                by_seed=by_seed,
                planned=bool(one.planned),
                lower_is_better=one.lower_is_better,
            )
        )
    return page.study_report(outcome, differences=differences, sentences=lines)
