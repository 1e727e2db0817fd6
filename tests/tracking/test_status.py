"""status.json: one job for each run folder, and the state in which it ended."""

import json
import multiprocessing
import os
import time
from contextlib import nullcontext

import pytest

from mmbert.errors import DataError, IntegrityError, Preempted
from mmbert.tracking import status
from mmbert.tracking.run_folder import RunFolder
from mmbert.tracking.status import lock_run_folder

FORK = multiprocessing.get_context("fork")


def hold(path, held):
    with lock_run_folder(RunFolder(path, writes=True)):
        held.set()
        time.sleep(3600)


def read(path):
    return json.loads((path / "status.json").read_text())


@pytest.fixture
def other_job(tmp_path):
    """Another process that holds the run folder."""
    held = FORK.Event()
    process = FORK.Process(target=hold, args=(tmp_path, held))
    process.start()
    assert held.wait(timeout=1200)
    yield process
    process.kill()
    process.join()


def test_a_second_job_in_a_folder_is_refused_with_the_first_one_named(tmp_path, other_job):
    before = (tmp_path / "status.json").read_bytes()
    holder = read(tmp_path)
    assert (holder["state"], holder["pid"]) == ("running", other_job.pid)
    with (
        pytest.raises(IntegrityError, match="in use by another job") as caught,
        lock_run_folder(RunFolder(tmp_path, writes=True)),
    ):
        raise AssertionError
    assert caught.value.exit_code == 6
    for fact in (holder["host"], str(holder["pid"]), holder["started"]):
        assert fact in str(caught.value)
    assert (tmp_path / "status.json").read_bytes() == before


def test_a_killed_job_leaves_the_folder_free(tmp_path, other_job):
    other_job.kill()
    with lock_run_folder(RunFolder(tmp_path, writes=True)):
        assert read(tmp_path)["pid"] == os.getpid()
    assert read(tmp_path)["state"] == "done"


@pytest.mark.parametrize(
    ("error", "state", "code"),
    [
        (None, "done", 0),
        (Preempted("stopped by SIGTERM"), "preempted", 75),
        (DataError("no such column"), "failed", 3),
        (OSError("disk full"), "failed", 5),
        (ZeroDivisionError("by zero"), "failed", 70),
        (KeyboardInterrupt(), "failed", 130),
    ],
)
def test_the_status_says_how_a_run_ended(tmp_path, error, state, code):
    with nullcontext() if error is None else pytest.raises(type(error)):  # noqa: SIM117
        with lock_run_folder(RunFolder(tmp_path / "run", writes=True)) as standing:
            assert read(tmp_path / "run")["state"] == "running"
            standing.step = 7
            if error:
                raise error
    content = read(tmp_path / "run")
    assert (content["state"], content["code"], content["step"]) == (state, code, 7)
    assert content["reason"] == ("" if error is None else str(error) or "KeyboardInterrupt")


def test_the_data_workers_of_a_killed_job_are_waited_for(tmp_path, other_job, monkeypatch):
    """They inherit the lock and hold it for some seconds."""
    monkeypatch.setattr(status, "PATIENCE", 0.2)
    content = read(tmp_path)
    content["pid"] = 2**22 + 1  # larger than any process id
    (tmp_path / "status.json").write_text(json.dumps(content))
    with pytest.raises(IntegrityError, match="in use"), lock_run_folder(RunFolder(tmp_path, writes=True)):
        raise AssertionError
    monkeypatch.setattr(status, "PATIENCE", 20)
    other_job.kill()
    with lock_run_folder(RunFolder(tmp_path, writes=True)):
        pass
