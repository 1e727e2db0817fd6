"""The tables of a study as files: CSV for programs, Markdown and LaTeX for people.

They hold no dates and no paths: a study gives the same bytes no matter how often it was interrupted.
"""

import csv
import io
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from mmbert.ablation.compare import Comparison, comparisons, sentence
from mmbert.ablation.layout import Cell, Layout, TableRow, failed_runs, make_layout
from mmbert.ablation.markup import escape_latex, escape_markdown
from mmbert.errors import IntegrityError
from mmbert.io.atomic import write_atomically
from mmbert.io.ownership import is_marked, mark
from mmbert.tracking.ledger import as_text
from mmbert.tracking.outcome import StudyOutcome

LONG = ("study", "arm", "seed", "task", "metric", "value")
COMPARED = (
    *("study", "arm", "reference", "task", "metric", "planned", "seeds", "difference", "better", "low", "high"),
    *("sd", "effect_size", "p", "holm", "missing", "in_words"),
)
NOTE = "Mean ± standard deviation over the seeds that have a result, on the {split} split."
MAX_REASON = 200  # letters of the reason of a failure
LATIN = 0x17F  # the last letter that pdflatex can set without further packages


def write_tables(outcome: StudyOutcome, folder: Path) -> list[Path]:
    """Write all tables into a folder, each atomically, and return their paths.

    Args:
        outcome: of the study.
        folder: created if it does not exist.
    """
    texts = {
        "table.csv": table_csv(outcome),
        "table.md": table_md(outcome),
        "table.tex": table_tex(outcome),
        "comparisons.csv": comparisons_csv(outcome),
    }
    for name, text in texts.items():
        write_atomically(folder / name, text.encode("utf-8", "replace"))  # an unpaired surrogate becomes "?"
    return [folder / name for name in texts]


def adopt_study(folder: Path) -> None:
    """Mark a folder with the tables of a study as that of a study: earlier versions wrote no marker.

    Args:
        folder: of the study.

    Raises:
        IntegrityError: if it holds no such tables.
    """
    if is_marked(folder, "study"):
        return
    path = folder / "table.csv"
    header = path.read_text(encoding="utf-8", errors="replace").partition("\n")[0] if path.is_file() else ""
    if header != ",".join(LONG):
        raise IntegrityError(f"--adopt: '{folder}' holds no table.csv of a study of mmbert: it is left as it is")
    mark(folder, "study")


def table_csv(outcome: StudyOutcome) -> str:
    """Return one line for each value, with all its digits; baselines have no seed, failed runs have no line.

    Args:
        outcome: of the study.
    """
    runs = [(arm.name, seed, arm.scores[seed]) for arm in outcome.arms for seed in sorted(arm.scores)]
    fixed = [(name, "", scores) for name, scores in outcome.baselines.items()]
    lines = [
        (outcome.name, name, seed, task, metric, float(value))
        for name, seed, scores in [*runs, *fixed]
        for task, metrics in scores.items()
        for metric, value in metrics.items()
    ]
    return _csv(LONG, lines)


def comparisons_csv(outcome: StudyOutcome) -> str:
    """Return all comparisons, the planned ones first; only these have an adjusted p.

    Args:
        outcome: of the study.
    """
    return _csv(COMPARED, [_comparison_row(outcome, comparison) for comparison in comparisons(outcome)])


def table_md(outcome: StudyOutcome) -> str:
    """Return the mean ± standard deviation over seeds of the first metric of each task, as a Markdown table.

    Args:
        outcome: of the study.
    """
    table = make_layout(outcome)
    arrow = "↓" if outcome.lower_is_better else "↑"
    rows = [_headers(table, arrow, escape=escape_markdown), ["---", *["---:"] * len(table.columns), "---"]]
    for row in (*table.arms, *table.baselines):
        cells = [f"**{cell.text}**" if cell.best else cell.text for cell in row.cells]
        rows.append([escape_markdown(_label(row)), *cells, row.seeds])
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines += [
        "",
        f"{NOTE.format(split=outcome.split)} Bold: the best mean among the arms with the most seeds, without a test.",
    ]
    failed = [
        f"* seed {seed} of {escape_markdown(arm)}: {escape_markdown(_shorten(reason))}"
        for arm, seed, reason in failed_runs(outcome)
    ]
    lines += ["", "Failed runs:", "", *failed] if failed else []
    return "\n".join(lines) + "\n"


def table_tex(outcome: StudyOutcome) -> str:
    r"""Return the same table for LaTeX with the package booktabs, to be included by ``\input``.

    Args:
        outcome: of the study.
    """
    table = make_layout(outcome)
    arrow = r"$\downarrow$" if outcome.lower_is_better else r"$\uparrow$"
    lines = [rf"\begin{{tabular}}{{l{'r' * len(table.columns)}l}}", r"\toprule"]
    lines.append(_tex_row(_headers(table, arrow, escape=escape_latex)))
    for rows in (table.arms, table.baselines):
        lines += [r"\midrule"] if rows else []
        lines += [_tex_row([escape_latex(_label(row)), *map(_tex_cell, row.cells), row.seeds]) for row in rows]
    lines += [r"\bottomrule", r"\end{tabular}"]
    comments = [r"% needs \usepackage{booktabs}", f"% {_plus_minus(NOTE.format(split=outcome.split))}"]
    if any(ord(letter) > LATIN for line in lines for letter in line):
        comments.append("% needs lualatex or xelatex, and fonts that have all characters of the names")
    return "\n".join([*comments, *lines]) + "\n"


def _headers(table: Layout, arrow: str, *, escape: Callable[[str], str]) -> list[str]:
    primary, *others = [escape(f"{task}/{metric}") for task, metric in table.columns]
    return ["arm", f"{primary} {arrow}", *others, "seeds"]


def _label(row: TableRow) -> str:
    return f"{row.name} ({row.mark})" if row.mark else row.name


def _shorten(reason: str) -> str:
    return reason if len(reason) <= MAX_REASON else f"{reason[:MAX_REASON]} ..."


def _tex_row(cells: Iterable[str]) -> str:
    return rf"{' & '.join(cells)} \\"


def _tex_cell(cell: Cell) -> str:
    text = _plus_minus(cell.text)
    return rf"\textbf{{{text}}}" if cell.best else text


def _plus_minus(text: str) -> str:
    return text.replace("±", r"$\pm$")


def _comparison_row(outcome: StudyOutcome, comparison: Comparison) -> list[str | float]:
    paired = comparison.paired
    return [
        outcome.name,
        comparison.arm,
        comparison.reference,
        comparison.task,
        comparison.metric,
        "yes" if comparison.planned else "no",
        paired.n,
        _number(paired.difference),
        comparison.better,
        _number(paired.low),
        _number(paired.high),
        _number(paired.sd),
        _number(paired.effect),
        _number(paired.p),
        "" if comparison.holm is None else _number(comparison.holm),
        "; ".join(comparison.missing),
        sentence(comparison, base=outcome.reference.name),
    ]


def _number(value: float) -> float | str:
    """The value with all its digits; empty for nan."""
    return "" if math.isnan(value) else float(value)


def _csv(columns: Sequence[str], lines: Iterable[Sequence[str | float]]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([as_text(cell) for cell in line] for line in lines)
    return file.getvalue()
