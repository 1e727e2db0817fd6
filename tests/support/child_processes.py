"""Child processes of tests: always ended with all processes they started; timeouts that suit a slow machine."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

PATIENCE = 1200  # seconds; long enough for a busy machine, so that only a child that hangs reaches it


def start_child(command: Sequence[str], *, cwd: Path, env: dict[str, str] | None = None) -> subprocess.Popen:
    """Start a child in a new session, so that its processes can be ended together; stderr goes to stdout."""
    return subprocess.Popen(
        command, cwd=cwd, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )


def wait_for_child(child: subprocess.Popen) -> str:
    """Wait for a child, assert exit code 0 and return its output; its session is always ended."""
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
    """Wait until a condition is true, or for PATIENCE seconds; returns whether it became true."""
    end = time.monotonic() + PATIENCE
    while not (fulfilled := condition()) and time.monotonic() < end:
        time.sleep(0.02)
    return fulfilled
