"""Graceful shutdown on signals: a flag between steps, an exception during waits, and the death of the launcher."""

import os
import signal
import subprocess
import sys
import time

import pytest
from child_processes import wait_until

from mmbert.errors import Preempted
from mmbert.training import signals
from mmbert.training.signals import SIGNALS, Interruption


def kill_and_wait(number):
    os.kill(os.getpid(), number)
    time.sleep(30)


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_signal_is_remembered_and_handlers_are_put_back(number):
    before = [signal.getsignal(each) for each in SIGNALS]
    with Interruption() as interruption:
        assert interruption.reason == ""
        os.kill(os.getpid(), number)
        assert interruption.reason == f"stopped by {number.name}"
        os.kill(os.getpid(), signal.SIGTERM)  # a second signal, but no second SIGINT
    assert [signal.getsignal(each) for each in SIGNALS] == before


def test_a_signal_ends_only_an_interruptible_wait():
    with Interruption() as interruption:
        with pytest.raises(Preempted, match="SIGUSR1"), interruption.interruptible():
            kill_and_wait(signal.SIGUSR1)
        with pytest.raises(Preempted), interruption.interruptible():  # already requested
            raise AssertionError
    with Interruption() as interruption, interruption.interruptible():
        pass
    assert not interruption.reason


def test_a_second_keyboard_interrupt_raises():
    with Interruption():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            kill_and_wait(signal.SIGINT)


def test_a_signal_to_a_forked_worker_changes_no_flag():
    with Interruption() as interruption:
        child = os.fork()
        if not child:
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(bool(interruption.reason))
        assert os.waitpid(child, 0)[1] == 0
        assert not interruption.reason


ORPHAN = """
import os, sys, time
from mmbert.training import signals
signals.POLL = 0.05
with signals.Interruption(launched=True) as interruption:
    print(os.getpid(), flush=True)
    until = time.monotonic() + 1200
    while not interruption.reason and time.monotonic() < until:
        time.sleep(0.01)
open(sys.argv[1], "w").write(interruption.reason)
"""


def test_a_process_whose_launcher_was_killed_asks_itself_to_stop(tmp_path):
    written = tmp_path / "said"
    launcher = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {ORPHAN!r}, {str(written)!r}])"
    root = os.path.dirname(os.path.dirname(os.path.dirname(signals.__file__)))
    environment = {**os.environ, "PYTHONPATH": root}
    process = subprocess.Popen([sys.executable, "-c", launcher], stdout=subprocess.PIPE, env=environment)
    assert process.stdout.readline().strip().isdigit()  # the worker is running
    process.kill()
    process.stdout.close()
    process.wait()
    assert wait_until(lambda: written.exists() and bool(written.read_text()))
    assert written.read_text() == "stopped by SIGTERM"
