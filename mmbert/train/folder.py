"""The run folder: what a run writes down about itself, whole or not at all."""

import json
import os
import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mmbert.errors import IntegrityError
from mmbert.train.trackers import Trackers


class RunFolder:
    """``runs/<name>-<hash8>/`` or ``--out DIR``; only the main process writes.

    ``metrics.jsonl`` holds one object a line: step, time, split, task, metric, value; ``events.jsonl`` what happened
    besides. ``result.json`` exists only when the run has finished. The folder is made with its first file. Raises
    ``IntegrityError`` where it holds something else than a run.
    """

    def __init__(self, path: Path, *, writes: bool):
        self.path = path
        self.writes = writes
        self._start = time.monotonic()
        self.trackers = Trackers()  # mirrors of metrics.jsonl, set by whoever trains
        own = ("recipe.yaml", "status.json")
        if writes and path.exists() and any(path.iterdir()) and not any((path / name).exists() for name in own):
            raise IntegrityError(f"--out '{path}' must be empty or hold a run; it holds other files")

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def clear(self) -> None:
        """Remove what an earlier run left: once data and model are ready, so that a mistake there costs no results."""
        if not self.writes:
            return
        for stale in ("result.json", "metrics.jsonl", "events.jsonl", "bad_samples.jsonl"):
            (self.path / stale).unlink(missing_ok=True)
        shutil.rmtree(self.checkpoints, ignore_errors=True)  # its weights are not those of this recipe

    def adopt(self, other: Path, checkpoints: Iterable[str]) -> None:
        """Take over the log and some checkpoints of another run of the same recipe and data."""
        if not self.writes:
            return
        self.clear()
        for name in checkpoints:
            if (other / "checkpoints" / name).is_dir():
                shutil.copytree(other / "checkpoints" / name, self.checkpoints / name, dirs_exist_ok=True)
        if (other / "metrics.jsonl").exists():
            shutil.copyfile(other / "metrics.jsonl", self.path / "metrics.jsonl")

    def rewind(self, step: int) -> None:
        """Cut the log back to what training knew after ``step``; time goes on from there."""
        if not self.writes:
            return
        lines = [line for line in read_log(self.path) if line["step"] <= step and line["split"] != "test"]
        self.write("metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
        self._start = time.monotonic() - (lines[-1]["time"] if lines else 0.0)

    def write(self, name: str, content: str | dict[str, Any]) -> None:
        """Write one file as a whole: a reader sees the old content or the new."""
        if not self.writes:
            return
        self.path.mkdir(parents=True, exist_ok=True)
        text = content if isinstance(content, str) else json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        temporary = self.path / f".{name}.tmp"
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, self.path / name)

    def log(self, step: int, split: str, values: Mapping[str, Mapping[str, float]]) -> None:
        """Append task -> metric -> value to ``metrics.jsonl``; a whole-model value has the task ``all``."""
        named = {f"{split}/{task}/{metric}": one for task, found in values.items() for metric, one in found.items()}
        self.trackers.log(step, named)
        self._append(
            "metrics.jsonl",
            [
                {"step": step, "time": self._seconds(), "split": split, "task": task, "metric": metric, "value": value}
                for task, metrics in values.items()
                for metric, value in metrics.items()
            ],
        )

    def event(self, kind: str, step: int, **facts: Any) -> None:
        """Append what happened to ``events.jsonl``."""
        self._append("events.jsonl", [{"event": kind, "step": step, "time": self._seconds(), **facts}])

    def _seconds(self) -> float:
        return round(time.monotonic() - self._start, 2)

    def _append(self, name: str, lines: Iterable[Mapping[str, Any]]) -> None:
        if not self.writes:
            return
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.path / name, "a", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)


def read_log(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's ``metrics.jsonl``; a last one that a killed job left unfinished is not there."""
    try:
        text = (run / "metrics.jsonl").read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def read_environment(run: Path) -> dict[str, Any]:
    """What a run's ``env.json`` holds; nothing where there is none."""
    try:
        return json.loads((run / "env.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
