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

COLUMNS = (
    *("study", "arm", "seed", "task", "metric", "value"),
    *("split", "recipe", "data", "epoch", "commit", "machine", "date"),
)
Scores = Mapping[str, Mapping[str, float]]  # task -> metric -> value
NOT_CODE = [f":(top,exclude){path}" for path in ("results", "recipes", "README.md", "docs")]  # written after a run
FORMULA = ("=", "+", "-", "@")  # the first characters by which a spreadsheet recognises one


@dataclass(frozen=True)
class Measured:
    """The columns that all rows of one run share."""

    study: str
    seed: int
    split: str
    recipe: str = ""  # the hash of the resolved recipe
    data: str = ""  # the fingerprint of the data; empty where nothing depends on it
    commit: str = field(default_factory=lambda: commit())  # of the code that ran


def append_results(path: str | Path, lines: Mapping[str, Scores], run: Measured, *, once: bool = False) -> None:
    """Append the results of a run, one row for each arm, task and metric: all rows or, on a full disk, none.

    Args:
        path: of the ledger; it is made where it is missing.
        lines: arm -> task -> metric -> value.
        run: what all rows share.
        once: leave out results that the ledger already has.

    Raises:
        DataError: where the file is not a complete ledger.

    Example:
        >>> append_results("results/joint.csv", {"base": {"price": {"rmse": 1.5}}}, Measured("joint", 0, "test"))
        ... # doctest: +SKIP
    """
    today = datetime.date.today().isoformat()
    shared = {**vars(run), "epoch": CODE_EPOCH, "machine": machine(), "date": today}
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.mmbert.lock")):
        present = {_key(row) for row in _rows(path)}
        text = io.StringIO()
        writer: csv.DictWriter[str] = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        if not path.exists():
            writer.writeheader()
        for arm, scores in lines.items():
            for task, metrics in scores.items():
                for metric, value in metrics.items():
                    cells = {**shared, "arm": arm, "task": task, "metric": metric}
                    row = {column: str(as_text(cell)) for column, cell in cells.items()}
                    if not (once and _key(row) in present):
                        writer.writerow({**row, "value": repr(float(value))})
        with open(path, "ab") as file:
            file.write(text.getvalue().encode())


def read_results(path: str | Path, study: str) -> dict[tuple[int, str, str], dict[str, dict[str, dict[str, float]]]]:
    """The test scores of a study in a ledger.

    Rows of another code epoch do not count; of several rows for one value, the last does.

    Args:
        path: of the ledger.
        study: its name.

    Returns:
        (seed, recipe, data) -> arm, as the ledger writes it -> task -> metric -> value.

    Raises:
        DataError: with the line, where the file is not a complete ledger.
    """
    runs: dict[tuple[int, str, str], dict[str, dict[str, dict[str, float]]]] = {}
    for row in _rows(Path(path)):
        if (row["study"], row["split"], row["epoch"]) == (study, "test", str(CODE_EPOCH)):
            run = runs.setdefault((int(row["seed"]), row["recipe"], row["data"]), {})
            run.setdefault(row["arm"], {}).setdefault(row["task"], {})[row["metric"]] = float(row["value"])
    return runs


def _rows(path: Path) -> list[dict[str, str]]:
    """All rows of a ledger; none where there is no file."""
    if not path.exists():
        return []
    rows, lines = [], path.read_text(encoding="utf-8").splitlines(keepends=True)
    reader = csv.reader(lines)
    header = next(reader, [])
    if tuple(header) != COLUMNS:
        raise DataError(f"'{path}' is not a ledger: expected the columns {','.join(COLUMNS)}, found {','.join(header)}")
    for cells in reader:
        row = dict(zip(COLUMNS, cells, strict=False))
        try:
            if len(cells) != len(COLUMNS) or not lines[reader.line_num - 1].endswith("\n"):
                raise ValueError(f"expected {len(COLUMNS)} columns and the end of the line, found {len(cells)}")
            _ = int(row["seed"]), float(row["value"])
        except ValueError as error:
            raise DataError(f"{path}:{reader.line_num}: this row is incomplete: {error}. Remove it") from None
        rows.append(row)
    return rows


def _key(row: Mapping[str, str]) -> tuple[str, ...]:
    """The columns that say which value a row holds."""
    return tuple(
        row[column] for column in ("study", "arm", "seed", "task", "metric", "split", "recipe", "data", "epoch")
    )


def as_text(cell: str | float) -> str | float:
    r"""A text on one line, with an apostrophe before it if a spreadsheet would run it as a formula (``=1+1``).

    Args:
        cell: a text, or a number, which stays as it is.

    Example:
        >>> as_text("=1+1"), as_text("two\nlines"), as_text(-1)
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
        changed = git("status", "--porcelain", "--untracked-files=no", "--", *NOT_CODE)
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
