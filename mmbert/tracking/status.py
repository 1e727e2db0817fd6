"""The lock of a run folder, which admits one job at a time, and ``status.json``, the state of that job."""

import datetime
import math
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from mmbert.distributed import all_reduce_or_raise
from mmbert.errors import IntegrityError, Preempted, exit_code
from mmbert.tracking.run_folder import RunFolder, read_json

REFRESH = 20.0  # seconds: the oldest that the step in the file may be while steps are done
PATIENCE = 10.0  # seconds: the data workers of a killed job hold its lock until they notice


@dataclass
class Status:
    """The content of ``status.json``; ``code`` is the exit code, which launchers do not pass on."""

    state: str = "running"  # running, done, preempted or failed
    code: int | None = None
    reason: str = ""
    step: int = 0
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    started: str = field(default_factory=lambda: datetime.datetime.now().isoformat(timespec="seconds"))
    begun: bool = False  # whether this job has replaced the files of an earlier one

    def __post_init__(self) -> None:
        self._written = -math.inf  # when, on the monotonic clock

    def write(self, folder: RunFolder) -> None:
        """Write ``status.json``.

        Args:
            folder: of the run.
        """
        folder.write("status.json", asdict(self))
        self._written = time.monotonic()

    def advance(self, folder: RunFolder, step: int) -> None:
        """Note the step that is done, and write ``status.json`` if the one on the disk is too old.

        Args:
            folder: of the run.
            step: of the run.
        """
        self.step = step
        if time.monotonic() - self._written > REFRESH:
            with suppress(OSError, IntegrityError):  # a full disk ends no run; the next step notices a removed folder
                self.write(folder)


@contextmanager
def lock_run_folder(folder: RunFolder) -> Iterator[Status]:
    """Lock a run folder for this job and keep its ``status.json`` up to date, including how the job ends.

    Every process calls it; the main process holds the lock. A job that ends before it has ``begun`` restores the
    status of a finished run.

    Args:
        folder: of the run; it is made if it is missing.

    Raises:
        IntegrityError: on all processes, if another job holds the folder (the message names its host, process and
            start), or if the folder holds other files than those of a run.
    """
    status, lock, error, before = Status(), None, None, ""
    if folder.writes:
        try:
            folder.claim()
            lock = _acquired(folder)
            before = (folder.path / "status.json").read_text("utf-8") if _holder(folder).get("state") == "done" else ""
        except Exception as caught:
            error = caught
    all_reduce_or_raise(error=error)
    try:
        status.write(folder)
        yield status
        status.state, status.code = "done", 0
        status.write(folder)
    except BaseException as caught:
        status.state = "preempted" if isinstance(caught, Preempted) else "failed"
        status.code, status.reason = exit_code(caught), str(caught) or type(caught).__name__
        with suppress(OSError, IntegrityError):  # the first error is the one to report
            status.write(folder)
        raise
    finally:
        if before and not status.begun:
            with suppress(OSError, IntegrityError):
                folder.write("status.json", before)
        if lock is not None:
            lock.release()


def held(folder: Path) -> bool:
    """Whether a job holds a run folder, here or on another machine.

    The lock decides, since process ids are reused.
    """
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return True
    lock.release()
    return False


def _acquired(folder: RunFolder) -> FileLock:
    lock = FileLock(folder.path / "lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        holder = _holder(folder)
        gone = holder.get("host") == socket.gethostname() and not alive(holder.get("pid"))
        try:
            lock.acquire(timeout=PATIENCE if gone else 1)  # it may be ending just now
        except Timeout:
            raise IntegrityError(
                f"'{folder.path}' is in use by another job: host {holder.get('host')}, process {holder.get('pid')}, "
                f"started {holder.get('started')}. Wait for it, or give --out another folder"
            ) from None
    return lock


def _holder(folder: RunFolder) -> dict[str, object]:
    return read_json(folder.path / "status.json")


def alive(pid: object) -> bool:
    """Whether a process of this id runs on this machine."""
    try:
        os.kill(int(str(pid)), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True
