"""Prints and writes the findings of a study: its table, comparisons over seeds and over examples, its report."""

import importlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from rich.console import Console as Terminal
from rich.table import Table
from rich.text import Text

from mmbert.ablation.by_example import ExampleComparison, compare_by_example
from mmbert.ablation.compare import Comparison, comparisons, sentence
from mmbert.ablation.layout import make_layout
from mmbert.contracts import Task
from mmbert.errors import MMBertError
from mmbert.evaluation.permutation import Difference
from mmbert.inference.predict import open_run
from mmbert.io.atomic import write_atomically
from mmbert.tracking.console import Console
from mmbert.tracking.outcome import StudyOutcome
from mmbert.tracking.run_folder import read_json

BY_EXAMPLE_FILE = "by_example.json"
TEST = "permutation"  # of cached comparisons; those of before had a bootstrap, whose p is too small with few rows


def report_findings(outcome: StudyOutcome, folder: Path, console: Console) -> None:
    """Print the table and the comparisons of a study, and write ``by_example.json`` and ``report.html``.

    Args:
        outcome: of the study.
        folder: of the study.
        console: for messages.
    """
    terminal = Terminal(highlight=False)
    terminal.print()
    terminal.print(_table(outcome))
    compared = comparisons(outcome)
    lines = [sentence(comparison, base=outcome.reference.name) for comparison in compared]
    lines += _compare_examples(outcome, [comparison for comparison in compared if comparison.planned], folder, console)
    for line in lines:
        terminal.print(Text(line))
    if report := _report(outcome, compared, lines):
        write_atomically(folder / "report.html", report)
        console.say("", f"report: {folder / 'report.html'}")
    else:
        console.say("", "no report: install it with pip install 'mmbert[report]'")
    console.say(f"tables: {folder}")


def _table(outcome: StudyOutcome) -> Table:
    layout = make_layout(outcome)
    table = Table("arm", title=Text(f"{outcome.name}: mean ± standard deviation over seeds, {outcome.split} split"))
    for task, metric in layout.columns:
        table.add_column(Text(f"{task}/{metric}"), justify="right")
    table.add_column("seeds")
    for row in (*layout.arms, *layout.baselines):
        name = Text(f"{row.name} ({row.mark})" if row.mark else row.name)
        cells = [Text(cell.text, style="bold" if cell.best else "") for cell in row.cells]
        table.add_row(name, *cells, Text(row.seeds), end_section=row is layout.arms[-1])
    return table


def _compare_examples(
    outcome: StudyOutcome, planned: Sequence[Comparison], folder: Path, console: Console
) -> list[str]:
    """A sentence for each planned comparison with run folders; results are cached in ``by_example.json``."""
    cached, results, lines = read_json(folder / BY_EXAMPLE_FILE), {}, []

    @cache
    def open_task(run: Path) -> Task:
        return open_run(run).model.tasks[outcome.task]

    for comparison in planned:
        arm, reference = outcome.arm(comparison.arm), outcome.arm(comparison.reference)
        if arm.masked or reference.masked:
            continue  # runs save their predictions only with all inputs
        seeds = sorted(arm.runs.keys() & reference.runs.keys())
        key = f"{comparison.arm} against {comparison.reference}"
        runs = {str(seed): [arm.runs[seed].name, reference.runs[seed].name] for seed in seeds}
        if not seeds:
            continue
        if (cached.get(key, {}).get("runs"), cached.get(key, {}).get("test")) == (runs, TEST):
            results[key] = cached[key]
        else:
            console.say(f"comparing {key} on the test examples ...")
            runs_of_arm, runs_of_reference = ({seed: side.runs[seed] for seed in seeds} for side in (arm, reference))
            try:
                compared = compare_by_example(runs_of_arm, runs_of_reference, outcome.task, outcome.metric, open_task)
            except (MMBertError, OSError) as error:  # such as checkpoints that were removed
                console.warn(f"{key}: not compared on examples: {error}")
                continue
            results[key] = {"runs": runs, "test": TEST, **_as_json(compared)}
        lines.append(_example_sentence(key, outcome, results[key]))
    if results:
        write_atomically(folder / BY_EXAMPLE_FILE, json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    return lines


def _as_json(compared: ExampleComparison) -> dict[str, Any]:
    return {
        "rows": compared.rows,
        "groups": compared.groups,
        **compared.difference._asdict(),
        "mcnemar": {str(seed): p for seed, p in compared.mcnemar.items()},
    }


def _example_sentence(key: str, outcome: StudyOutcome, result: Mapping[str, Any]) -> str:
    """What other rows could change, with the same seeds."""
    text = (
        f"{key}, on {result['rows']} {outcome.split} rows: {outcome.metric} "
        f"{Difference(*(result[name] for name in Difference._fields)).in_words()}"
    )
    if result["mcnemar"]:
        text += f"; McNemar's p of each seed: {', '.join(f'{p:.3g}' for p in result['mcnemar'].values())}"
    return text


def _report(outcome: StudyOutcome, compared: Sequence[Comparison], lines: Sequence[str]) -> str:
    """The page; empty if the libraries of the extra ``report`` are not installed."""
    try:
        page = importlib.import_module("mmbert.report.page")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("jinja2", "markupsafe", "matplotlib"):
            return ""
        raise
    figures = importlib.import_module("mmbert.report.figures")
    differences = []
    for comparison in compared:
        values, reference_values = (
            outcome.arm(name).values(comparison.task, comparison.metric)
            for name in (comparison.arm, comparison.reference)
        )
        differences.append(
            figures.ArmDifference(
                arm=comparison.arm,
                reference=comparison.reference,
                task=comparison.task,
                metric=comparison.metric,
                difference=comparison.paired.difference,
                low=comparison.paired.low,
                high=comparison.paired.high,
                p=comparison.holm,
                by_seed={
                    seed: value - reference_values[seed] for seed, value in values.items() if seed in reference_values
                },
                planned=bool(comparison.planned),
                lower_is_better=comparison.lower_is_better,
            )
        )
    return page.study_report(outcome, differences=differences, sentences=lines)
