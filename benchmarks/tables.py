"""Rewrites the tables of README.md and docs/*.md from results/*.csv: ``make tables``.

A table stands between two comments, of which the first says what it shows:

    <!-- table molecules: melting_point/rmse logp/rmse; mmbert, names alone, boosting (descriptors) -->
    <!-- end -->

A study (a file of results/), its columns (task/metric), its rows (arms, in this order). A cell is the mean over seeds,
with the standard deviation (n - 1) where there are several; a dash where the arm has no such value.
"""

import re
import sys
from pathlib import Path

import pandas as pd

LOWER_IS_BETTER = (
    "rmse",
    "mae",
    "relative_difference",
    "relative_time",
    "megabytes",
    "seconds",
    "seconds_an_epoch",
)
ROOT = Path(__file__).parents[1]
TABLE = re.compile(
    r"(<!-- table (?P<study>[\w-]+): (?P<columns>[^;]+); (?P<arms>[^>]+?) -->\n).*?(<!-- end -->)", re.DOTALL
)


def write_tables(text: str, results: Path) -> str:
    """The text of a document with its tables rewritten.

    Args:
        text: of the document.
        results: the folder of the CSV files.

    Raises:
        ValueError: on an arm or a column without a row.
    """

    def rewrite(match: re.Match[str]) -> str:
        rows = pd.read_csv(results / f"{match['study']}.csv")
        columns = [tuple(column.split("/")) for column in match["columns"].split()]
        arms = [arm.strip() for arm in re.split(r",(?![^(]*\))", match["arms"])]
        return match[1] + markdown_table(rows, columns, arms) + match[5]

    return TABLE.sub(rewrite, text)


def markdown_table(rows: pd.DataFrame, columns: list[tuple[str, str]], arms: list[str]) -> str:
    """A Markdown table of arms by (task, metric), the best mean of each column in bold.

    Args:
        rows: of the ledger of one study.
        columns: (task, metric) of each column.
        arms: the rows of the table, in this order.

    Raises:
        ValueError: on an arm or a column without a row.
    """
    shown = pd.MultiIndex.from_frame(rows[["task", "metric"]]).isin(columns)
    rows = rows[shown & rows["arm"].isin(arms)]
    measured = {*zip(rows["task"], rows["metric"], strict=True)}
    if missing := [*({*arms} - {*rows["arm"]}), *("/".join(column) for column in columns if column not in measured)]:
        raise ValueError(f"no row of results for {', '.join(sorted(missing))}")
    cells = {arm: [_values(rows, arm, task, metric) for task, metric in columns] for arm in arms}
    best = []
    for index, (_, metric) in enumerate(columns):
        choose = min if metric in LOWER_IS_BETTER else max
        best.append(_mean(choose((row[index] for row in cells.values() if len(row[index])), key=pd.Series.mean)))
    lines = ["| | " + " | ".join(f"{task.replace('_', ' ')}, {metric}" for task, metric in columns) + " | seeds |"]
    lines.append("|---|" + "---|" * (len(columns) + 1))
    for arm, row in cells.items():
        texts = [
            f"**{_cell(values)}**" if len(values) and _mean(values) == top else _cell(values)
            for values, top in zip(row, best, strict=True)
        ]
        lines.append(f"| {arm} | {' | '.join(texts)} | {max(map(len, row))} |")
    dates, machines = sorted(set(rows["date"])), sorted(set(rows["machine"]))
    split = sorted(set(rows["split"]))
    period = f"{' to '.join(sorted({dates[0], dates[-1]}))} on {', '.join(machines)}"
    lines.append(f"\nSplit: {', '.join(split)}. Measured {period}; mean ± standard deviation over seeds.")
    return "\n".join(lines) + "\n"


def _values(rows: pd.DataFrame, arm: str, task: str, metric: str) -> pd.Series:
    """The values by seed; of a repeated run the last."""
    selected = rows[(rows["arm"] == arm) & (rows["task"] == task) & (rows["metric"] == metric)]
    return selected.groupby("seed")["value"].last()


def _cell(values: pd.Series) -> str:
    if values.empty:
        return "-"
    return f"{_mean(values)} ± {values.std():{_format(values)}}" if len(values) > 1 else _mean(values)


def _mean(values: pd.Series) -> str:
    """The mean as it is shown: arms whose means look equal are both best."""
    return f"{values.mean():{_format(values)}}"


def _format(values: pd.Series) -> str:
    size = values.abs().mean()
    return ".1f" if size >= 10 else ".0e" if 0 < size < 0.001 else ".3f"


def main() -> int:
    """Rewrite the tables of all documents."""
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = path.read_text(encoding="utf-8")
        path.write_text(write_tables(text, ROOT / "results"), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
