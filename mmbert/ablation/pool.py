"""Where the runs of a study go: a launcher starts commands and says which have ended; the local one has slots."""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

GRACE = 60.0  # seconds: a run that is told to stop finishes its step and writes a checkpoint


@dataclass(frozen=True)
class Job:
    """A command with a name of its own."""

    name: str
    command: Sequence[str]
    log: Path  # where what it says goes


class Launcher(Protocol):
    """Runs jobs somewhere. How a run went is read from its ``status.json``, not from here."""

    @property
    def free(self) -> int:
        """How many jobs can be started now."""
        ...

    def start(self, job: Job) -> None: ...

    def ended(self) -> list[str]:
        """The names of the jobs that have ended since the last call."""
        ...

    def stop(self) -> None:
        """Tell all jobs to stop, and wait until none is left."""
        ...


@dataclass
class _Running:
    process: subprocess.Popen[bytes]
    slot: int


@dataclass
class LocalPool:
    """Processes on this machine, one a slot: a GPU each, or a share of the CPU's threads.

    Args:
        slots: how many jobs run beside each other.
        gpus: the GPUs, of which slot i gets the i-th; none: the CPU's threads are divided.
        threads: of the machine.
    """

    slots: int
    gpus: int = 0
    threads: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    _running: dict[str, _Running] = field(default_factory=dict, init=False)

    @property
    def free(self) -> int:
        return self.slots - len(self._running)

    def start(self, job: Job) -> None:
        slot = min({*range(self.slots)} - {one.slot for one in self._running.values()})
        job.log.parent.mkdir(parents=True, exist_ok=True)
        with open(job.log, "ab") as said:
            # a session of its own: what the terminal sends reaches the study alone, which then stops its runs in order
            process = subprocess.Popen(
                job.command, env={**os.environ, **self.environment(slot)}, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=said, stderr=said,
            )  # fmt: skip
        self._running[job.name] = _Running(process, slot)

    def ended(self) -> list[str]:
        gone = [name for name, one in self._running.items() if one.process.poll() is not None]
        for name in gone:
            _signal(self._running.pop(name).process, signal.SIGKILL)  # data workers that outlived it
        return gone

    def stop(self) -> None:
        for one in self._running.values():
            _signal(one.process, signal.SIGTERM)
        until = time.monotonic() + GRACE
        for one in self._running.values():
            with suppress(subprocess.TimeoutExpired):
                one.process.wait(timeout=max(0.0, until - time.monotonic()))
            _signal(one.process, signal.SIGKILL)
            one.process.wait()
        self._running.clear()

    def environment(self, slot: int) -> Mapping[str, str]:
        """What the job in a slot sees besides the environment of the study."""
        own = {
            # as `accelerate launch` sets it: the run then ends itself when the study has gone
            "ACCELERATE_MIXED_PRECISION": os.environ.get("ACCELERATE_MIXED_PRECISION", "no"),
            "OMP_NUM_THREADS": str(max(1, self.threads // self.slots)),
        }
        if self.gpus:
            shown = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(self.gpus)))
            own["CUDA_VISIBLE_DEVICES"] = shown.split(",")[slot % self.gpus]
        return own


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
