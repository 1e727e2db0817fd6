"""The run folder: what a run writes down about itself, whole or not at all."""

import json
import os
import shutil
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mmbert.errors import IntegrityError
from mmbert.tracking.trackers import Trackers

# what a run writes at its end, and what is measured of it afterwards
FINISHED = ("result.json", "test.safetensors", "examples.jsonl", "cost.json", "inputs.json", "inputs.validation.json",
            "inputs.train.json")  # fmt: skip


class RunFolder:
    """``runs/<name>-<hash8>/`` or ``--out DIR``; only the main process writes.

    ``metrics.jsonl`` holds one object a line: step, time, split, task, metric, value; ``events.jsonl`` what happened
    besides. ``result.json`` exists only when the run has finished, as do the other files in ``FINISHED``. The folder is
    made with its first file.
    """

    def __init__(self, path: Path, *, writes: bool):
        self.path = path
        self.writes = writes
        self._start = time.monotonic()
        self.trackers = Trackers()  # mirrors of metrics.jsonl, set by whoever trains
        self._waiting: dict[str, str] = {}  # lines that the disk did not take yet, by file

    def check(self) -> None:
        """Raise ``IntegrityError`` where the folder holds something else than a run."""
        own = ("recipe.yaml", "status.json")
        if self.path.exists() and any(self.path.iterdir()) and not any((self.path / name).exists() for name in own):
            raise IntegrityError(f"--out '{self.path}' must be empty or hold a run; it holds other files")

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def clear(self) -> None:
        """Remove what an earlier run left: once data and model are ready, so that a mistake there costs no results."""
        if not self.writes:
            return
        for stale in (*FINISHED, "metrics.jsonl", "events.jsonl", "bad_samples.jsonl"):
            (self.path / stale).unlink(missing_ok=True)
        shutil.rmtree(self.checkpoints, ignore_errors=True)  # its weights are not those of this recipe

    def adopt(self, other: Path, checkpoints: Iterable[str]) -> None:
        """Take over the log and some checkpoints of another run of the same recipe and data, in place of our own."""
        if not self.writes:
            return
        taken = self.path / ".adopted"
        shutil.rmtree(taken, ignore_errors=True)
        for name in checkpoints:
            shutil.copytree(other / "checkpoints" / name, taken / name)
        log = read_log(other)
        self.clear()
        os.replace(taken, self.checkpoints)
        self.write("metrics.jsonl", "".join(json.dumps(line) + "\n" for line in log))

    def rewind(self, step: int, *, evaluated: bool) -> None:
        """Cut the log back to what training knew after ``step``; time goes on from there.

        ``evaluated``: whether an evaluation that is due at that step is done.
        """
        if not self.writes:
            return
        for stale in FINISHED:
            (self.path / stale).unlink(missing_ok=True)
        last = {"train": step, "validation": step if evaluated else step - 1}
        lines = [line for line in read_log(self.path) if line["step"] <= last.get(line["split"], -1)]
        self.write("metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
        self._start = time.monotonic() - (lines[-1]["time"] if lines else 0.0)

    def write(self, name: str, content: str | bytes | dict[str, Any]) -> None:
        """Write one file as a whole: a reader sees the old content or the new."""
        if not self.writes:
            return
        self.path.mkdir(parents=True, exist_ok=True)
        if isinstance(content, dict):
            content = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        temporary = self.path / f".{name}.tmp"
        temporary.write_bytes(content if isinstance(content, bytes) else content.encode())
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
        text = self._waiting.pop(name, "") + "".join(json.dumps(line) + "\n" for line in lines)
        size = None
        try:
            with open(self.path / name, "ab") as file:
                size = file.tell()
                file.write(text.encode())
        except OSError:  # a full disk ends no run: the lines are written when there is room again
            self._waiting[name] = text
            if size is not None:
                with suppress(OSError):
                    os.truncate(self.path / name, size)


def read_log(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's ``metrics.jsonl``; a last one that a killed job left unfinished is not there."""
    try:
        text = (run / "metrics.jsonl").read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def read_environment(run: Path) -> dict[str, Any]:
    """What a run's ``env.json`` holds; nothing where there is none."""
    return read_json(run / "env.json")


def read_json(path: Path) -> dict[str, Any]:
    """The mapping in a file; empty where there is no file, or something else in it."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
