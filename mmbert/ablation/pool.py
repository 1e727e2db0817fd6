"""Launchers start the runs of a study; the local one runs a fixed number of processes at a time."""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

GRACE = 60.0  # seconds in which a stopped run finishes its step and writes a checkpoint


@dataclass(frozen=True)
class Job:
    """A command with a unique name."""

    name: str
    command: Sequence[str]
    log: Path  # file for stdout and stderr


class Launcher(Protocol):
    """Runs jobs somewhere. The result of a run is read from its ``status.json``, not from the launcher."""

    @property
    def free(self) -> int:
        """How many jobs can start now."""
        ...

    def start(self, job: Job) -> None:
        """Start a job; at least one slot must be free."""
        ...

    def ended(self) -> list[str]:
        """Return the names of the jobs that have ended since the last call."""
        ...

    def stop(self) -> None:
        """Stop all jobs and wait until they have ended."""
        ...


@dataclass
class _Running:
    process: subprocess.Popen[bytes]
    slot: int


@dataclass
class LocalPool:
    """Processes on this machine, one for each slot, with one GPU or a share of the CPU's threads each.

    Args:
        slots: how many jobs run at the same time.
        gpus: how many GPUs; slot i gets number i modulo this. 0: the slots share the CPU.
        threads: of the machine, divided among the slots.
    """

    slots: int
    gpus: int = 0
    threads: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    _running: dict[str, _Running] = field(default_factory=dict, init=False)

    @property
    def free(self) -> int:
        """How many jobs can start now."""
        return self.slots - len(self._running)

    def start(self, job: Job) -> None:
        """Start a job in the first free slot; its log is appended to.

        Args:
            job: with a name that no running job has.
        """
        slot = min({*range(self.slots)} - {running.slot for running in self._running.values()})
        job.log.parent.mkdir(parents=True, exist_ok=True)
        with open(job.log, "ab") as log:
            # in a new session, so that ctrl-C reaches only the study, which then stops its runs
            process = subprocess.Popen(
                job.command,
                env={**os.environ, **self.environment(slot)},
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._running[job.name] = _Running(process, slot)

    def ended(self) -> list[str]:
        """Return the names of the jobs that have ended since the last call."""
        names = [name for name, running in self._running.items() if running.process.poll() is not None]
        for name in names:
            _signal_group(self._running.pop(name).process, signal.SIGKILL)  # data workers that outlived the run
        return names

    def stop(self) -> None:
        """Stop all jobs by SIGTERM, after ``GRACE`` seconds by SIGKILL."""
        for running in self._running.values():
            _signal_group(running.process, signal.SIGTERM)
        deadline = time.monotonic() + GRACE
        for running in self._running.values():
            with suppress(subprocess.TimeoutExpired):
                running.process.wait(timeout=max(0.0, deadline - time.monotonic()))
            _signal_group(running.process, signal.SIGKILL)
            running.process.wait()
        self._running.clear()

    def environment(self, slot: int) -> Mapping[str, str]:
        """Return the environment variables that a job gets in addition to those of the study.

        Args:
            slot: of the job.
        """
        variables = {
            # set as by `accelerate launch`: the run then ends by itself if the study is killed
            "ACCELERATE_MIXED_PRECISION": os.environ.get("ACCELERATE_MIXED_PRECISION", "no"),
            "OMP_NUM_THREADS": str(max(1, self.threads // self.slots)),
        }
        if self.gpus:
            visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(self.gpus)))
            variables["CUDA_VISIBLE_DEVICES"] = visible.split(",")[slot % self.gpus]
        return variables


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
