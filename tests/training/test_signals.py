"""Requests to stop: a flag between steps, an exception where nothing is lost, an end when the launcher has gone."""

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


@pytest.mark.parametrize("number", SIGNALS, ids=lambda one: one.name)
def test_a_signal_is_remembered_and_handlers_are_put_back(number):
    before = [signal.getsignal(one) for one in SIGNALS]
    with Interruption() as interruption:
        assert interruption.reason == ""
        os.kill(os.getpid(), number)
        assert interruption.reason == f"stopped by {number.name}"
        os.kill(os.getpid(), signal.SIGTERM)  # impatient, but not a second SIGINT
    assert [signal.getsignal(one) for one in SIGNALS] == before


def test_it_breaks_a_wait_at_once_and_only_there():
    with Interruption() as interruption:
        with pytest.raises(Preempted, match="SIGUSR1"), interruption.breakable():
            kill_and_wait(signal.SIGUSR1)
        with pytest.raises(Preempted), interruption.breakable():  # asked before
            raise AssertionError
    with Interruption() as interruption, interruption.breakable():
        pass
    assert not interruption.reason


def test_a_second_interrupt_from_the_keyboard_ends_it():
    with Interruption():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            kill_and_wait(signal.SIGINT)


def test_a_forked_worker_keeps_out_of_it():
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
    said = tmp_path / "said"
    launcher = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {ORPHAN!r}, {str(said)!r}])"
    root = os.path.dirname(os.path.dirname(os.path.dirname(signals.__file__)))
    environment = {**os.environ, "PYTHONPATH": root}
    process = subprocess.Popen([sys.executable, "-c", launcher], stdout=subprocess.PIPE, env=environment)
    assert process.stdout.readline().strip().isdigit()  # the worker stands
    process.kill()
    process.stdout.close()
    process.wait()
    assert wait_until(lambda: said.exists() and bool(said.read_text()))
    assert said.read_text() == "stopped by SIGTERM"
