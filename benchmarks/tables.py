"""Writes the tables of README.md and docs/*.md again from results/*.csv: ``make tables``.

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

ERRORS = ("rmse", "mae", "relative_difference", "relative_time", "megabytes", "seconds",
          "seconds_an_epoch")  # lower is better  # fmt: skip
ROOT = Path(__file__).parents[1]
TABLE = re.compile(
    r"(<!-- table (?P<study>[\w-]+): (?P<columns>[^;]+); (?P<arms>[^>]+?) -->\n).*?(<!-- end -->)", re.DOTALL
)


def write_tables(text: str, results: Path) -> str:
    """The text of a document with its tables made anew. Raises ``ValueError`` on an arm or a column without a row."""

    def written(found: re.Match[str]) -> str:
        rows = pd.read_csv(results / f"{found['study']}.csv")
        columns = [tuple(column.split("/")) for column in found["columns"].split()]
        arms = [arm.strip() for arm in re.split(r",(?![^(]*\))", found["arms"])]
        return found[1] + table(rows, columns, arms) + found[5]

    return TABLE.sub(written, text)


def table(rows: pd.DataFrame, columns: list[tuple[str, str]], arms: list[str]) -> str:
    """A Markdown table, arms by (task, metric), the better of each column's means in bold by the sign of the metric."""
    shown = pd.MultiIndex.from_frame(rows[["task", "metric"]]).isin(columns)
    rows = rows[shown & rows["arm"].isin(arms)]
    found = {*zip(rows["task"], rows["metric"], strict=True)}
    if lacking := [*({*arms} - {*rows["arm"]}), *("/".join(column) for column in columns if column not in found)]:
        raise ValueError(f"no row of results for {', '.join(sorted(lacking))}")
    cells = {arm: [_values(rows, arm, task, metric) for task, metric in columns] for arm in arms}
    best = [
        _mean(
            (min if metric in ERRORS else max)(
                (own[index] for own in cells.values() if len(own[index])), key=pd.Series.mean
            )
        )
        for index, (_, metric) in enumerate(columns)
    ]
    lines = ["| | " + " | ".join(f"{task.replace('_', ' ')}, {metric}" for task, metric in columns) + " | seeds |"]
    lines.append("|---|" + "---|" * (len(columns) + 1))
    for arm, found in cells.items():
        shown = [
            f"**{_cell(values)}**" if len(values) and _mean(values) == top else _cell(values)
            for values, top in zip(found, best, strict=True)
        ]
        lines.append(f"| {arm} | {' | '.join(shown)} | {max(map(len, found))} |")
    dates, machines = sorted(set(rows["date"])), sorted(set(rows["machine"]))
    split = sorted(set(rows["split"]))
    lines.append(f"\nSplit: {', '.join(split)}. Measured {' to '.join(sorted({dates[0], dates[-1]}))} on "
                 f"{', '.join(machines)}; mean ± standard deviation over seeds.")  # fmt: skip
    return "\n".join(lines) + "\n"


def _values(rows: pd.DataFrame, arm: str, task: str, metric: str) -> pd.Series:
    """The values by seed; a run that was repeated counts once."""
    own = rows[(rows["arm"] == arm) & (rows["task"] == task) & (rows["metric"] == metric)]
    return own.groupby("seed")["value"].last()


def _cell(values: pd.Series) -> str:
    if values.empty:
        return "-"
    return f"{_mean(values)} ± {values.std():{_form(values)}}" if len(values) > 1 else _mean(values)


def _mean(values: pd.Series) -> str:
    """The mean as it is shown: what is shown as equal ties."""
    return f"{values.mean():{_form(values)}}"


def _form(values: pd.Series) -> str:
    size = values.abs().mean()
    return ".1f" if size >= 10 else ".0e" if 0 < size < 0.001 else ".3f"


def main() -> int:
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = path.read_text(encoding="utf-8")
        path.write_text(write_tables(text, ROOT / "results"), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
