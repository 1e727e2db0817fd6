"""The pool of jobs: limited slots, a share of the machine for each, and no process left behind."""

import os
import signal
import subprocess
import sys
import time

import pytest

from mmbert.ablation import pool
from mmbert.ablation.pool import Job, LocalPool


def job(tmp_path, name, code):
    return Job(name, [sys.executable, "-c", code], tmp_path / f"{name}.txt")


def wait(launcher, count=1):
    ended, until = [], time.monotonic() + 1200
    while len(ended) < count and time.monotonic() < until:
        ended += launcher.ended()
        time.sleep(0.02)
    return ended


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def number(path):
    """The process id that a job wrote."""
    until = time.monotonic() + 1200
    while time.monotonic() < until:
        if path.exists() and path.read_text().endswith("\n"):
            return int(path.read_text())
        time.sleep(0.02)
    raise AssertionError(f"nothing in {path}")


def test_jobs_take_slots_and_give_them_back(tmp_path):
    launcher = LocalPool(2)
    launcher.start(job(tmp_path, "one", "print('said')"))
    launcher.start(job(tmp_path, "two", "import time; time.sleep(3600)"))
    assert launcher.free == 0
    assert wait(launcher) == ["one"]
    assert launcher.free == 1
    assert (tmp_path / "one.txt").read_text() == "said\n"
    launcher.stop()
    assert launcher.free == 2


def test_a_log_is_appended_to(tmp_path):
    launcher = LocalPool(1)
    for _ in range(2):
        launcher.start(job(tmp_path, "one", "print('said')"))
        wait(launcher)
    assert (tmp_path / "one.txt").read_text() == "said\nsaid\n"


@pytest.mark.parametrize("deaf", [False, True])
def test_stopping_ends_the_process_group_of_a_job_even_if_it_ignores_sigterm(tmp_path, monkeypatch, deaf):
    monkeypatch.setattr(pool, "GRACE", 0.5)
    child = "import time; time.sleep(3600)"
    code = f"""
import signal, subprocess, sys, time
if {deaf}: signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(subprocess.Popen([sys.executable, "-c", {child!r}]).pid, flush=True)
time.sleep(3600)
"""
    launcher = LocalPool(1)
    launcher.start(job(tmp_path, "one", code))
    worker = number(tmp_path / "one.txt")
    launcher.stop()
    until = time.monotonic() + 1200
    while alive(worker) and time.monotonic() < until:
        time.sleep(0.02)
    assert not alive(worker)


def test_processes_that_a_job_leaves_running_are_ended(tmp_path):
    code = """
import subprocess, sys
print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"], stdout=subprocess.DEVNULL).pid)
"""
    launcher = LocalPool(1)
    launcher.start(job(tmp_path, "one", code))
    assert wait(launcher) == ["one"]
    worker = number(tmp_path / "one.txt")
    until = time.monotonic() + 1200
    while alive(worker) and time.monotonic() < until:
        time.sleep(0.02)
    assert not alive(worker)


def test_the_threads_of_a_cpu_are_divided_and_each_gpu_is_given_once(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert LocalPool(2, threads=8).environment(1)["OMP_NUM_THREADS"] == "4"
    assert LocalPool(3, threads=2).environment(1)["OMP_NUM_THREADS"] == "1"
    gpus = LocalPool(4, gpus=2, threads=8)
    assert [gpus.environment(slot)["CUDA_VISIBLE_DEVICES"] for slot in range(4)] == ["0", "1", "0", "1"]
    assert "CUDA_VISIBLE_DEVICES" not in LocalPool(2).environment(0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert LocalPool(2, gpus=2).environment(1)["CUDA_VISIBLE_DEVICES"] == "7"


def test_a_job_ends_itself_when_the_study_is_killed(tmp_path):
    """A run ends when its launcher is gone, see mmbert/training/signals.py."""
    run = """
import time
from mmbert.training.signals import Interruption
import os
with Interruption(launched="ACCELERATE_MIXED_PRECISION" in os.environ) as signals:
    print(os.getpid(), flush=True)
    while not signals.reason:
        time.sleep(0.02)
"""
    study = f"""
import sys, time
from pathlib import Path
from mmbert.ablation.pool import Job, LocalPool
LocalPool(1).start(Job("one", [sys.executable, "-c", {run!r}], Path({str(tmp_path / "one.txt")!r})))
time.sleep(3600)
"""
    process = subprocess.Popen([sys.executable, "-c", study])
    trained = number(tmp_path / "one.txt")
    process.send_signal(signal.SIGKILL)
    process.wait()
    until = time.monotonic() + 10
    while alive(trained) and time.monotonic() < until:
        time.sleep(0.05)
    assert not alive(trained)
