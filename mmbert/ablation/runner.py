"""Runs what is not finished of a study: in order, in the slots that are free, each run claimed, none orphaned."""

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
LATER = 2.0  # seconds until a run that another study has is looked at again


class Runner:
    """Args:
    folder: of the study: recipes and logs of its runs go there.
    launcher: starts the runs.
    plugins: modules that register parts, for ``--plugin``.
    tell: takes a run that has ended, and why it failed, empty where it did not.
    say: takes what is waited for, once, where others have all runs that are left.
    """

    def __init__(
        self,
        folder: Path,
        launcher: Launcher,
        plugins: Sequence[str],
        tell: Callable[[PlannedRun, str], None],
        say: Callable[[str], None],
    ):
        self.folder, self.launcher, self.plugins, self.tell, self.say = folder, launcher, plugins, tell, say
        self._claims: dict[str, FileLock] = {}
        self._started: dict[str, PlannedRun] = {}
        self._said = False

    def run(self, runs: Iterable[PlannedRun], *, retry_failed: bool = False) -> None:
        """Run them all, the first ones first. One that fails is told, and the others go on.

        Finished runs are passed over, and failed ones but with ``retry_failed``. Raises ``Preempted`` when a signal
        asks to stop: the runs have then been told to stop as well, and have left checkpoints to go on from.
        """
        waiting = [run for run in runs if run.state() != "done" and (retry_failed or not run.failure())]
        again = {run.label for run in waiting if run.failure()}
        looked = 0.0
        with Interruption() as signals:
            try:
                while waiting or self._started:
                    if self.launcher.free and time.monotonic() - looked > (LATER if waiting else POLL):
                        waiting = [run for run in waiting if not self._begin(run, again)]
                        looked = time.monotonic()
                        self._say_waiting(waiting)
                    for name in self.launcher.ended():
                        self._end(name)
                        looked = 0.0
                    if signals.asked:
                        raise Preempted(f"{signals.asked}; the same command goes on from here")
                    time.sleep(POLL)
            finally:
                self.launcher.stop()
                for lock in self._claims.values():
                    lock.release()

    def _begin(self, run: PlannedRun, again: set[str]) -> bool:
        """Whether nothing is left to do for this run: it was started, or has ended elsewhere."""
        if not self.launcher.free or (claim := run.claim()) is None:
            return False
        state = run.state()
        if state == "running" or state == "done" or (state == "failed" and run.label not in again):
            claim.release()
            if state != "running":
                self.tell(run, run.failure())
            return state != "running"
        recipe = self.folder / "recipes" / f"{run.folder.name}.yaml"
        recipe.parent.mkdir(parents=True, exist_ok=True)
        recipe.write_text(dump(run.recipe), encoding="utf-8")
        plugins = [word for name in self.plugins for word in ("--plugin", name)]
        command = [sys.executable, "-m", "mmbert", "train", str(recipe), "--out", str(run.folder), *plugins]
        self.launcher.start(Job(run.label, command, self._log(run)))
        self._claims[run.label], self._started[run.label] = claim, run
        return True

    def _say_waiting(self, waiting: Sequence[PlannedRun]) -> None:
        if waiting and not self._started and not self._said:
            self._said = True
            had = "\n".join(f"  {run.label}: {run.holder()}" for run in waiting)
            self.say(f"all that is left is run by others, and waited for; ctrl-C stops here alone:\n{had}")

    def _end(self, name: str) -> None:
        run = self._started.pop(name)
        self._claims.pop(name).release()
        reason = ""
        if run.result() is None:
            reason = run.failure() or last_line(self._log(run))
        self.tell(run, reason)

    def _log(self, run: PlannedRun) -> Path:
        return self.folder / "logs" / f"{run.folder.name}.txt"


def last_line(log: Path) -> str:
    """The last line that a run has said."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        lines = []
    return next((line.strip() for line in reversed(lines) if line.strip()), "it ended without a word")
