"""The ledger: measured results as rows of a CSV file, appended by the runs themselves."""

import csv
import datetime
import platform
import subprocess
from pathlib import Path

from filelock import FileLock

COLUMNS = ("study", "arm", "seed", "task", "metric", "value", "split", "recipe", "epoch", "commit", "machine", "date")
APART = [f":(top,exclude){path}" for path in ("results", "recipes", "README.md", "docs")]  # written after a run
FORMULA = ("=", "+", "-", "@")  # how a spreadsheet knows one
CODE_EPOCH = 2  # raise it when the same recipe no longer gives the same numbers


def append_results(
    path: str | Path,
    scores: dict[str, dict[str, float]],
    *,
    study: str,
    arm: str,
    seed: int,
    split: str,
    recipe: str,
) -> None:
    """Append one row for each task and metric of ``scores``; ``recipe`` is the hash of the resolved recipe."""
    fixed = {
        "study": study,
        "arm": arm,
        "seed": seed,
        "split": split,
        "recipe": recipe,
        "epoch": CODE_EPOCH,
        "commit": commit(),
        "machine": machine(),
        "date": datetime.date.today().isoformat(),
    }
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        new = not path.exists()
        with open(path, "a", newline="", encoding="utf-8") as file:
            writer: csv.DictWriter[str] = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            if new:
                writer.writeheader()
            for task, metrics in scores.items():
                for metric, value in metrics.items():
                    texts = {**fixed, "task": task, "metric": metric}
                    cells = {column: as_text(cell) for column, cell in texts.items()}
                    writer.writerow({**cells, "value": f"{value:.6g}"})


def read_results(path: str | Path, study: str) -> dict[tuple[int, str], dict[str, dict[str, dict[str, float]]]]:
    """The test scores of a study in a ledger: (seed, recipe) -> arm -> task -> metric -> value.

    Arms are as the ledger writes them. Rows of another code epoch do not count; of several for one value the last does.
    """
    found: dict[tuple[int, str], dict[str, dict[str, dict[str, float]]]] = {}
    if Path(path).exists():
        with open(path, newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if (row["study"], row["split"], row["epoch"]) == (study, "test", str(CODE_EPOCH)):
                    run = found.setdefault((int(row["seed"]), row["recipe"]), {})
                    run.setdefault(row["arm"], {}).setdefault(row["task"], {})[row["metric"]] = float(row["value"])
    return found


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
