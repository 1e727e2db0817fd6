"""Child processes of tests: always reaped with all that they started, and never failed by a slow machine."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

PATIENCE = 1200  # seconds; only a child that hangs takes so long, on a machine however busy


def start_child(command: Sequence[str], *, cwd: Path, env: dict[str, str] | None = None) -> subprocess.Popen:
    """A child in a session of its own, so that all that it starts can be ended; its errors are part of its output."""
    return subprocess.Popen(
        command, cwd=cwd, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )


def wait_for_child(child: subprocess.Popen) -> str:
    """The output of a child that has ended with 0; its whole session is ended in any case."""
    try:
        output, _ = child.communicate(timeout=PATIENCE)
        assert child.returncode == 0, output[-4000:]
        return output
    finally:
        end_session(child)


def end_session(child: subprocess.Popen) -> None:
    """Kill what is left of a child and of the processes in its session."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    if child.stdout is not None:
        child.stdout.close()


def wait_until(condition: Callable[[], bool]) -> bool:
    """Whether a condition has become true; it has as long as a machine may be busy."""
    end = time.monotonic() + PATIENCE
    while not (fulfilled := condition()) and time.monotonic() < end:
        time.sleep(0.02)
    return fulfilled
