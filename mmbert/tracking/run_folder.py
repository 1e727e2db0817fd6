"""The run folder: the files that a run writes, each atomically, and its append-only logs."""

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mmbert.errors import IntegrityError
from mmbert.io.atomic import write_atomically
from mmbert.io.ownership import claim, is_marked
from mmbert.tracking.trackers import Trackers

KIND = "run"  # of folder, in its marker file
NUMBER = (int, float)
LOGGED = {"step": int, "time": NUMBER, "split": str, "task": str, "metric": str, "value": NUMBER}  # of a metrics line
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
    events. ``result.json`` exists only when the run has finished, as do the other files in ``FINISHED``. A marker file
    says that the folder is that of a run: no other folder is written to, and only files that a run writes are removed.

    Args:
        path: of the folder.
        writes: whether this process writes; on the others all methods that write do nothing.
    """

    def __init__(self, path: Path, *, writes: bool):
        self.path = path
        self.writes = writes
        self._claimed = False
        self._start = time.monotonic()
        self.trackers = Trackers()  # mirrors of metrics.jsonl, set by the trainer
        self._waiting: dict[str, str] = {}  # lines not yet written because the disk was full, by file

    def claim(self) -> None:
        """Make the folder and mark it as that of a run, or check that it is marked.

        Raises:
            IntegrityError: where it holds other files; nothing is written then.
        """
        claim(self.path, KIND)
        self._claimed = True

    def vanished(self) -> IntegrityError | None:
        """The error to raise where somebody has removed the folder during the run."""
        if not self._claimed or is_marked(self.path, KIND):
            return None
        return IntegrityError(f"'{self.path}' was removed, or its marker was, while the run was writing into it")

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.path / "checkpoints"

    def clear(self) -> None:
        """Remove the files of an earlier run, except its checkpoints.

        Called once data and model are ready, so that an error in the recipe removes no results.
        """
        if not self.writes:
            return
        for stale in (*FINISHED, "metrics.jsonl", "events.jsonl", "bad_samples.jsonl"):
            (self.path / stale).unlink(missing_ok=True)

    def rewind(self, log: Sequence[Mapping[str, Any]], step: int, *, evaluated: bool) -> None:
        """Replace the log by the lines of a log up to a step; its clock continues from the last of them.

        Args:
            log: of this run, or of the one that it continues.
            step: that training resumes from.
            evaluated: whether an evaluation that is due at that step is done.
        """
        if not self.writes:
            return
        for stale in FINISHED:
            (self.path / stale).unlink(missing_ok=True)
        last = {"train": step, "validation": step if evaluated else step - 1}
        lines = [line for line in log if line["step"] <= last.get(line["split"], -1)]
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
        if error := self.vanished():
            raise error
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
        if not self._claimed:
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


def read_log(run: Path, warn: Callable[[str], None] | None = None) -> list[dict[str, Any]]:
    """The lines of a run's ``metrics.jsonl``; damaged ones are left out.

    Args:
        run: its folder.
        warn: called with the numbers of the damaged lines, except of a last one that a killed job left unfinished.
    """
    return read_lines(run / "metrics.jsonl", LOGGED, warn)


def read_lines(
    path: Path, fields: Mapping[str, type | tuple[type, ...]], warn: Callable[[str], None] | None = None
) -> list[dict[str, Any]]:
    """The lines of a JSON Lines file that a run wrote; damaged ones are left out.

    Args:
        path: of the file; that may not exist.
        fields: the keys that every line has, with the types of their values.
        warn: called with the numbers of the damaged lines, except of a last one that a killed job left unfinished.
    """
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    whole = [(number, line) for number, line in enumerate(lines, 1) if line.endswith(b"\n")]
    parsed = [(number, _parse(line, fields)) for number, line in whole]
    if warn and (damaged := [str(number) for number, content in parsed if content is None]):
        plural = "s" * (len(damaged) > 1)
        warn(f"{path}: the damaged line{plural} {', '.join(damaged[:10])} {'are' if plural else 'is'} left out")
    return [content for _, content in parsed if content is not None]


def _parse(line: bytes, fields: Mapping[str, type | tuple[type, ...]]) -> dict[str, Any] | None:
    """The object in a line with all fields, else None."""
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or not all(isinstance(content.get(name), kind) for name, kind in fields.items()):
        return None
    return content


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
