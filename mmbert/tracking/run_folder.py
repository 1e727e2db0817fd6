"""The run folder: the files that a run writes, each atomically, and its append-only logs."""

import json
import os
import shutil
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mmbert.errors import IntegrityError
from mmbert.io.atomic import write_atomically
from mmbert.tracking.trackers import Trackers

FINISHED = (  # what a run writes at its end, and what is measured of it afterwards
    "result.json",
    "test.safetensors",
    "examples.jsonl",
    "cost.json",
    "inputs.json",
    "inputs.validation.json",
    "inputs.train.json",
)


class RunFolder:
    """``runs/<name>-<hash8>/`` or ``--out DIR``; only the main process writes.

    ``metrics.jsonl`` holds one object a line: step, time, split, task, metric, value; ``events.jsonl`` all other
    events. ``result.json`` exists only when the run has finished, as do the other files in ``FINISHED``. The folder is
    made with its first file.

    Args:
        path: of the folder.
        writes: whether this process writes; on the others all methods that write do nothing.
    """

    def __init__(self, path: Path, *, writes: bool):
        self.path = path
        self.writes = writes
        self._start = time.monotonic()
        self.trackers = Trackers()  # mirrors of metrics.jsonl, set by the trainer
        self._waiting: dict[str, str] = {}  # lines not yet written because the disk was full, by file

    def check(self) -> None:
        """Check that the folder is missing, empty, or that of a run.

        Raises:
            IntegrityError: where it holds other files.
        """
        marks = ("recipe.yaml", "status.json")
        if self.path.exists() and any(self.path.iterdir()) and not any((self.path / name).exists() for name in marks):
            raise IntegrityError(f"--out '{self.path}' must be empty or hold a run; it holds other files")

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.path / "checkpoints"

    def clear(self) -> None:
        """Remove the files of an earlier run.

        Called once data and model are ready, so that an error in the recipe removes no results.
        """
        if not self.writes:
            return
        for stale in (*FINISHED, "metrics.jsonl", "events.jsonl", "bad_samples.jsonl"):
            (self.path / stale).unlink(missing_ok=True)
        shutil.rmtree(self.checkpoints, ignore_errors=True)  # its weights are not those of this recipe

    def adopt(self, run: Path, checkpoints: Iterable[str]) -> None:
        """Replace the log and the checkpoints by those of another run of the same recipe and data.

        Args:
            run: its folder.
            checkpoints: the names of those that are copied.
        """
        if not self.writes:
            return
        copies = self.path / ".adopted"
        shutil.rmtree(copies, ignore_errors=True)
        for name in checkpoints:
            shutil.copytree(run / "checkpoints" / name, copies / name)
        log = read_log(run)
        self.clear()
        os.replace(copies, self.checkpoints)
        self.write("metrics.jsonl", "".join(json.dumps(line) + "\n" for line in log))

    def rewind(self, step: int, *, evaluated: bool) -> None:
        """Cut the log back to its lines up to a step; its clock continues from the last of them.

        Args:
            step: that training resumes from.
            evaluated: whether an evaluation that is due at that step is done.
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
        """Write one file atomically: a reader sees the old content or the new.

        Args:
            name: of the file.
            content: a mapping is written as JSON, text as UTF-8.
        """
        if not self.writes:
            return
        if isinstance(content, dict):
            content = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        write_atomically(self.path / name, content)

    def log(self, step: int, split: str, values: Mapping[str, Mapping[str, float]]) -> None:
        """Append values to ``metrics.jsonl`` and hand them to the trackers.

        Args:
            step: of the run.
            split: ``train``, ``validation`` or ``test``.
            values: task -> metric -> value; those of the whole model have the task ``all``.
        """
        by_name = {
            f"{split}/{task}/{metric}": value for task, metrics in values.items() for metric, value in metrics.items()
        }
        self.trackers.log(step, by_name)
        self._append(
            "metrics.jsonl",
            [
                {"step": step, "time": self._seconds(), "split": split, "task": task, "metric": metric, "value": value}
                for task, metrics in values.items()
                for metric, value in metrics.items()
            ],
        )

    def event(self, kind: str, step: int, **facts: Any) -> None:
        """Append an event to ``events.jsonl``.

        Args:
            kind: of the event.
            step: of the run.
            facts: further keys of the line.
        """
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
    """The lines of a run's ``metrics.jsonl``, without a last one that a killed job left unfinished.

    Args:
        run: its folder.
    """
    try:
        text = (run / "metrics.jsonl").read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def read_environment(run: Path) -> dict[str, Any]:
    """The content of a run's ``env.json``; empty where there is none."""
    return read_json(run / "env.json")


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty where the file is missing or holds anything else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
