"""The run folder: what a run writes down about itself, whole or not at all."""

import json
import os
import platform
import shutil
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mmbert.errors import IntegrityError
from mmbert.evaluate.ledger import commit, machine


class RunFolder:
    """``runs/<name>-<hash8>/`` or ``--out DIR``; only the main process writes.

    ``metrics.jsonl`` holds one object a line: step, time, split, task, metric, value. ``result.json`` exists only when
    the run has finished. The folder is made with its first file. Raises ``IntegrityError`` where it holds something
    else than a run.
    """

    def __init__(self, path: Path, *, writes: bool):
        self.path = path
        self.writes = writes
        self._start = time.monotonic()
        if writes and path.exists() and any(path.iterdir()) and not (path / "recipe.yaml").exists():
            raise IntegrityError(f"--out '{path}' must be empty or hold a run; it holds other files")

    def clear(self) -> None:
        """Remove what an earlier run left: once data and model are ready, so that a mistake there costs no results."""
        if not self.writes:
            return
        for stale in ("result.json", "metrics.jsonl", "bad_samples.jsonl"):
            (self.path / stale).unlink(missing_ok=True)
        shutil.rmtree(self.path / "checkpoints", ignore_errors=True)  # its weights are not those of this recipe

    @property
    def checkpoint(self) -> Path:
        """The folder of the best checkpoint."""
        return self.path / "checkpoints" / "best"

    def write(self, name: str, content: str | dict[str, Any]) -> None:
        """Write one file as a whole: a reader sees the old content or the new."""
        if not self.writes:
            return
        self.path.mkdir(parents=True, exist_ok=True)
        text = content if isinstance(content, str) else json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        temporary = self.path / f".{name}.tmp"
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, self.path / name)

    def log(self, step: int, split: str, values: dict[str, dict[str, float]]) -> None:
        """Append task -> metric -> value to ``metrics.jsonl``; a whole-model value has the task ``all``."""
        if not self.writes:
            return
        seconds = round(time.monotonic() - self._start, 2)
        lines = [
            {"step": step, "time": seconds, "split": split, "task": task, "metric": metric, "value": value}
            for task, metrics in values.items()
            for metric, value in metrics.items()
        ]
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.path / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)


def environment(world: int) -> dict[str, Any]:
    """Versions, hardware and commit: what a reader needs to repeat a run."""
    names = ("accelerate", "datasets", "mmbert", "numpy", "scikit-learn", "tokenizers", "torch", "transformers")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": machine(),
        "processes": world,
        "commit": commit(),
        "command": sys.argv[1:],
        "versions": {name: version(name) for name in names},
    }
