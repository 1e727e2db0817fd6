"""One job a run folder: its lock, and the file that says how the job stands."""

import datetime
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from mmbert.distributed import all_reduce_or_raise
from mmbert.errors import IntegrityError, Preempted, exit_code
from mmbert.tracking.run_folder import RunFolder, read_json

PATIENCE = 10.0  # seconds: a job that was killed leaves the lock to its data workers until they notice


@dataclass
class Status:
    """What ``status.json`` holds; ``code`` is the exit code, which launchers do not pass on."""

    state: str = "running"  # running, done, preempted or failed
    code: int | None = None
    reason: str = ""
    step: int = 0
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    started: str = field(default_factory=lambda: datetime.datetime.now().isoformat(timespec="seconds"))
    begun: bool = False  # whether what an earlier job left is replaced

    def write(self, folder: RunFolder) -> None:
        folder.write("status.json", asdict(self))


@contextmanager
def occupied(folder: RunFolder) -> Iterator[Status]:
    """Hold a run folder against other jobs, and write into it how this job stands, last of all how it ended.

    Called by all processes; the main one holds the lock. A job that ends before it has ``begun`` leaves the word of one
    that was done as it is. Raises ``IntegrityError`` on all processes where another job holds the folder, naming that
    one's host, process and start, and where it holds something else than a run.
    """
    status, lock, error, before = Status(), None, None, ""
    if folder.writes:
        try:
            folder.check()
            folder.path.mkdir(parents=True, exist_ok=True)
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
        with suppress(OSError):  # what went wrong first counts
            status.write(folder)
        raise
    finally:
        if before and not status.begun:
            with suppress(OSError):
                folder.write("status.json", before)
        if lock is not None:
            lock.release()


def held(folder: Path) -> bool:
    """Whether a job holds a run folder, here or on another machine: its lock says so, its process id may be reused."""
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
    """Whether there is a process of this number on this machine."""
    try:
        os.kill(int(str(pid)), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True
