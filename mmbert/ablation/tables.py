"""The tables of a study as files: CSV for programs, Markdown and LaTeX for people.

They hold no date and no place, so that a study gives the same bytes however often it was interrupted.
"""

import csv
import io
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from mmbert.ablation.compare import Comparison, comparisons, sentence
from mmbert.ablation.layout import Cell, Layout, TableRow, failures, layout
from mmbert.ablation.markup import latex, markdown
from mmbert.io.atomic import write_atomically
from mmbert.tracking.ledger import as_text
from mmbert.tracking.outcome import StudyOutcome

LONG = ("study", "arm", "seed", "task", "metric", "value")
COMPARED = (
    *("study", "arm", "reference", "task", "metric", "planned", "seeds", "difference", "better", "low", "high"),
    *("sd", "effect_size", "p", "holm", "missing", "in_words"),
)
NOTE = "Mean ± standard deviation over the seeds that have a result, on the test split."
LONGEST = 200  # of the reason of a failure
LATIN = 0x17F  # the last letter that pdflatex knows without more


def write_tables(outcome: StudyOutcome, folder: Path) -> list[Path]:
    """Write all tables into ``folder``, each as a whole: a reader sees the old content or the new. Their paths."""
    texts = {
        "table.csv": table_csv(outcome),
        "table.md": table_md(outcome),
        "table.tex": table_tex(outcome),
        "comparisons.csv": comparisons_csv(outcome),
    }
    for name, text in texts.items():
        write_atomically(folder / name, text.encode("utf-8", "replace"))  # half a surrogate pair becomes "?"
    return [folder / name for name in texts]


def table_csv(outcome: StudyOutcome) -> str:
    """Every value on a line, with all its digits; baselines have no seed, runs that failed no line."""
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
    """All comparisons, the planned ones first; an adjusted p for these alone, and each in plain words."""
    return _csv(COMPARED, [_compared(outcome, one) for one in comparisons(outcome)])


def table_md(outcome: StudyOutcome) -> str:
    """Arms and baselines x the first metric of each task: mean ± sd over seeds, as a table of Markdown."""
    table = layout(outcome)
    arrow = "↓" if outcome.lower_is_better else "↑"
    rows = [_headers(table, arrow, escape=markdown), ["---", *["---:"] * len(table.columns), "---"]]
    for row in (*table.arms, *table.baselines):
        cells = [f"**{cell.text}**" if cell.best else cell.text for cell in row.cells]
        rows.append([markdown(_named(row)), *cells, row.seeds])
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines += ["", f"{NOTE} Bold: the best mean among the arms with the most seeds, which is not a test."]
    failed = [f"* seed {seed} of {markdown(arm)}: {markdown(_short(why))}" for arm, seed, why in failures(outcome)]
    lines += ["", "Failed runs:", "", *failed] if failed else []
    return "\n".join(lines) + "\n"


def table_tex(outcome: StudyOutcome) -> str:
    """The same table for LaTeX with the package booktabs, to be read by ``\\input``."""
    table = layout(outcome)
    arrow = r"$\downarrow$" if outcome.lower_is_better else r"$\uparrow$"
    lines = [rf"\begin{{tabular}}{{l{'r' * len(table.columns)}l}}", r"\toprule"]
    lines.append(_tex_row(_headers(table, arrow, escape=latex)))
    for rows in (table.arms, table.baselines):
        lines += [r"\midrule"] if rows else []
        lines += [_tex_row([latex(_named(row)), *map(_tex_cell, row.cells), row.seeds]) for row in rows]
    lines += [r"\bottomrule", r"\end{tabular}"]
    heads = [r"% needs \usepackage{booktabs}", f"% {_plus_minus(NOTE)}"]
    if any(ord(one) > LATIN for line in lines for one in line):
        heads.append("% needs lualatex or xelatex, and fonts that have all characters of the names")
    return "\n".join([*heads, *lines]) + "\n"


def _headers(table: Layout, arrow: str, *, escape: Callable[[str], str]) -> list[str]:
    primary, *others = [escape(f"{task}/{metric}") for task, metric in table.columns]
    return ["arm", f"{primary} {arrow}", *others, "seeds"]


def _named(row: TableRow) -> str:
    return f"{row.name} ({row.mark})" if row.mark else row.name


def _short(reason: str) -> str:
    return reason if len(reason) <= LONGEST else f"{reason[:LONGEST]} ..."


def _tex_row(cells: Iterable[str]) -> str:
    return rf"{' & '.join(cells)} \\"


def _tex_cell(cell: Cell) -> str:
    text = _plus_minus(cell.text)
    return rf"\textbf{{{text}}}" if cell.best else text


def _plus_minus(text: str) -> str:
    return text.replace("±", r"$\pm$")


def _compared(outcome: StudyOutcome, one: Comparison) -> list[str | float]:
    found = one.found
    return [
        *(outcome.name, one.arm, one.reference, one.task, one.metric, "yes" if one.planned else "no", found.n),
        *(_number(found.difference), one.better, _number(found.low), _number(found.high), _number(found.sd)),
        *(_number(found.effect), _number(found.p), "" if one.holm is None else _number(one.holm)),
        *("; ".join(one.missing), sentence(one, base=outcome.reference.name)),
    ]


def _number(value: float) -> float | str:
    """All digits; nothing where there is no number."""
    return "" if math.isnan(value) else float(value)


def _csv(columns: Sequence[str], lines: Iterable[Sequence[str | float]]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([as_text(cell) for cell in line] for line in lines)
    return file.getvalue()
