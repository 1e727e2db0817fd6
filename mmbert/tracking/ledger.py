"""The ledger: measured results as rows of a CSV file, appended by the runs themselves."""

import csv
import datetime
import io
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock

from mmbert.errors import DataError
from mmbert.version import CODE_EPOCH

COLUMNS = ("study", "arm", "seed", "task", "metric", "value", "split", "recipe", "data", "epoch", "commit", "machine",
           "date")  # fmt: skip
Scores = Mapping[str, Mapping[str, float]]  # task -> metric -> value
APART = [f":(top,exclude){path}" for path in ("results", "recipes", "README.md", "docs")]  # written after a run
FORMULA = ("=", "+", "-", "@")  # how a spreadsheet knows one


@dataclass(frozen=True)
class Measured:
    """What the rows of one run have in common."""

    study: str
    seed: int
    split: str
    recipe: str = ""  # the hash of the resolved recipe
    data: str = ""  # the fingerprint of the data; empty where nothing depends on it
    commit: str = field(default_factory=lambda: commit())  # of the code that ran


def append_results(path: str | Path, lines: Mapping[str, Scores], run: Measured, *, once: bool = False) -> None:
    """Append the lines of a run, by arm, with one row for each task and metric: all of them or, on a full disk, none.

    ``once`` leaves out what the ledger has already. Raises ``DataError`` where the file is no whole ledger.

    >>> append_results("results/joint.csv", {"base": {"price": {"rmse": 1.5}}}, Measured("joint", 0, "test"))
    ... # doctest: +SKIP
    """
    shared = {
        **vars(run), "epoch": CODE_EPOCH, "machine": machine(),
        "date": datetime.date.today().isoformat(),
    }  # fmt: skip
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        there = {_key(row) for row in _rows(path)}
        text = io.StringIO()
        writer: csv.DictWriter[str] = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        if not path.exists():
            writer.writeheader()
        for arm, scores in lines.items():
            for task, metrics in scores.items():
                for metric, value in metrics.items():
                    named = {**shared, "arm": arm, "task": task, "metric": metric}
                    row = {column: str(as_text(cell)) for column, cell in named.items()}
                    if not (once and _key(row) in there):
                        writer.writerow({**row, "value": repr(float(value))})
        with open(path, "ab") as file:
            file.write(text.getvalue().encode())


def read_results(path: str | Path, study: str) -> dict[tuple[int, str, str], dict[str, dict[str, dict[str, float]]]]:
    """The test scores of a study in a ledger: (seed, recipe, data) -> arm -> task -> metric -> value.

    Arms are as the ledger writes them. Rows of another code epoch do not count; of several for one value the last does.
    Raises ``DataError`` with the line where the file is no whole ledger.
    """
    found: dict[tuple[int, str, str], dict[str, dict[str, dict[str, float]]]] = {}
    for row in _rows(Path(path)):
        if (row["study"], row["split"], row["epoch"]) == (study, "test", str(CODE_EPOCH)):
            run = found.setdefault((int(row["seed"]), row["recipe"], row["data"]), {})
            run.setdefault(row["arm"], {}).setdefault(row["task"], {})[row["metric"]] = float(row["value"])
    return found


def _rows(path: Path) -> list[dict[str, str]]:
    """All rows of a ledger; none where there is no file."""
    if not path.exists():
        return []
    rows, lines = [], path.read_text(encoding="utf-8").splitlines(keepends=True)
    reader = csv.reader(lines)
    header = next(reader, [])
    if tuple(header) != COLUMNS:
        raise DataError(f"'{path}' is no ledger: expected the columns {','.join(COLUMNS)}, found {','.join(header)}")
    for cells in reader:
        row = dict(zip(COLUMNS, cells, strict=False))
        try:
            if len(cells) != len(COLUMNS) or not lines[reader.line_num - 1].endswith("\n"):
                raise ValueError(f"expected {len(COLUMNS)} columns and the end of the line, found {len(cells)}")
            _ = int(row["seed"]), float(row["value"])
        except ValueError as error:
            raise DataError(f"{path}:{reader.line_num}: this row is not whole: {error}. Remove it") from None
        rows.append(row)
    return rows


def _key(row: Mapping[str, str]) -> tuple[str, ...]:
    """What a value is of."""
    return tuple(
        row[column] for column in ("study", "arm", "seed", "task", "metric", "split", "recipe", "data", "epoch")
    )


def as_text(cell: str | float) -> str | float:
    """A name in one line; one that a spreadsheet would run as a formula (``=1+1``) with an apostrophe before it.

    >>> as_text("=1+1"), as_text("two\\nlines"), as_text(-1)
    ("'=1+1", 'two lines', -1)
    """
    if not isinstance(cell, str):
        return cell
    line = " ".join(cell.split())
    return f"'{line}" if line.startswith(FORMULA) else line


def commit() -> str:
    """The short git commit of the code, with ``+`` where the working tree differs; empty outside a checkout."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", *APART)
        return git("rev-parse", "--short=9", "HEAD") + ("+" if changed else "")
    except FileNotFoundError:
        return ""


def machine() -> str:
    """The hardware in a few words, without the name of the host."""
    import os

    import torch

    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    return f"{platform.machine()}, {os.cpu_count()} CPU cores"
