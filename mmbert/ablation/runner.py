"""Runs the unfinished runs of a study in order, in the free slots, with a lock for each, and leaves no orphans."""

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from filelock import FileLock

from mmbert.ablation.pool import Job, Launcher
from mmbert.ablation.runs import PlannedRun
from mmbert.errors import Preempted
from mmbert.recipe.serialize import dump
from mmbert.training.signals import Interruption

POLL = 0.2  # seconds between looks at the processes
RETRY = 2.0  # seconds until the runs of other studies are looked at again


class Runner:
    """Runs the runs of a study by a launcher.

    Args:
        folder: of the study, for the recipes and logs of its runs.
        launcher: starts the runs.
        plugins: modules that register parts, for ``--plugin``.
        on_end: is called with each run that has ended, and the reason if it failed, else an empty string.
        say: prints a message; it is called once if other studies run everything that is left.
    """

    def __init__(
        self,
        folder: Path,
        launcher: Launcher,
        plugins: Sequence[str],
        on_end: Callable[[PlannedRun, str], None],
        say: Callable[[str], None],
    ):
        self.folder, self.launcher, self.plugins, self.on_end, self.say = folder, launcher, plugins, on_end, say
        self._claims: dict[str, FileLock] = {}
        self._started: dict[str, PlannedRun] = {}
        self._announced = False

    def run(self, runs: Iterable[PlannedRun], *, retry_failed: bool = False) -> None:
        """Run all runs in their order; if one fails, the others continue.

        Args:
            runs: finished ones are skipped.
            retry_failed: whether runs that failed before run again, instead of being skipped.

        Raises:
            Preempted: if a signal stops the study. Its runs are then stopped too, and have saved checkpoints.
        """
        waiting = [run for run in runs if run.state() != "done" and (retry_failed or not run.failure())]
        retried = {run.label for run in waiting if run.failure()}
        checked = 0.0
        with Interruption() as signals:
            try:
                while waiting or self._started:
                    if self.launcher.free and time.monotonic() - checked > (RETRY if waiting else POLL):
                        waiting = [run for run in waiting if not self._begin(run, retried)]
                        checked = time.monotonic()
                        self._announce_waiting(waiting)
                    for name in self.launcher.ended():
                        self._end(name)
                        checked = 0.0
                    if signals.reason:
                        raise Preempted(f"{signals.reason}; the same command continues the study from here")
                    time.sleep(POLL)
            finally:
                self.launcher.stop()
                for lock in self._claims.values():
                    lock.release()

    def _begin(self, run: PlannedRun, retried: set[str]) -> bool:
        """Start a run if possible; return whether it needs no further attempt: started, or ended by another study."""
        if not self.launcher.free or (claim := run.claim()) is None:
            return False
        state = run.state()
        if state == "running" or state == "done" or (state == "failed" and run.label not in retried):
            claim.release()
            if state != "running":
                self.on_end(run, run.failure())
            return state != "running"
        recipe = self.folder / "recipes" / f"{run.folder.name}.yaml"
        recipe.parent.mkdir(parents=True, exist_ok=True)
        recipe.write_text(dump(run.recipe), encoding="utf-8")
        plugins = [word for name in self.plugins for word in ("--plugin", name)]
        command = [sys.executable, "-m", "mmbert", "train", str(recipe), "--out", str(run.folder), *plugins]
        self.launcher.start(Job(run.label, command, self._log(run)))
        self._claims[run.label], self._started[run.label] = claim, run
        return True

    def _announce_waiting(self, waiting: Sequence[PlannedRun]) -> None:
        if waiting and not self._started and not self._announced:
            self._announced = True
            lines = "\n".join(f"  {run.label}: {run.holder()}" for run in waiting)
            self.say(f"waiting for runs that other processes do; ctrl-C stops only this study:\n{lines}")

    def _end(self, name: str) -> None:
        run = self._started.pop(name)
        self._claims.pop(name).release()
        reason = ""
        if run.result() is None:
            reason = run.failure() or last_line(self._log(run))
        self.on_end(run, reason)

    def _log(self, run: PlannedRun) -> Path:
        return self.folder / "logs" / f"{run.folder.name}.txt"


def last_line(log: Path) -> str:
    """Return the last line of a log that is not empty.

    Args:
        log: of a run; it may not exist.
    """
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        lines = []
    return next((line.strip() for line in reversed(lines) if line.strip()), "it ended without any output")
