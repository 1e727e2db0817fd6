"""Killing real launches: no process is orphaned, and the resumed run equals an uninterrupted one."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_two_processes import ENVIRONMENT, ROOT

pytestmark = pytest.mark.slow

GRACE = 40  # seconds: the launcher gives its processes 30
SETTINGS = [
    "inputs.image=null",
    "inputs.sound=null",
    "inputs.series=null",
    "inputs.graph=null",
    "inputs.cells.width=16",
    "trunk.hidden_size=16",
    "trunk.heads=2",
    "train.batch_size=8",
    "train.steps=400",
    "train.save_every=7",
    "train.input_dropout=0.2",
    "train.ema=0.9",
    "evaluate.every=3",
    "train.workers=1",
]
ONE = [sys.executable]
TWO = [
    str(Path(sys.executable).with_name("accelerate")),
    "launch",
    "--multi_gpu",
    "--num_processes",
    "2",
    "--main_process_port",
    "0",
]


def start(launcher, folder):
    words = [word for setting in SETTINGS for word in ("--set", setting)]
    command = [*launcher, "-m", "mmbert", "train", "recipes/debug.yaml", *words, "--out", str(folder)]
    environment = {**ENVIRONMENT, "ACCELERATE_USE_CPU": "1"}
    with open(f"{folder}.log", "a") as output:
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)


def wait_for_step(folder, step, process):
    """Wait until a step is logged."""
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        try:
            last = (folder / "metrics.jsonl").read_text().splitlines()[-1]
            if json.loads(last)["step"] >= step:
                return
        except (OSError, IndexError, ValueError):
            pass
        time.sleep(0.02)
    raise AssertionError(Path(f"{folder}.log").read_text()[-3000:])


def processes_of(folder):
    """The processes of a run by rank, identified by their output file; data workers have the rank of their parent."""
    processes = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if (
                os.readlink(path / "fd" / "1") == f"{folder}.log"
                and path.joinpath("stat").read_text().rsplit(")")[1].split()[0] != "Z"
            ):
                environment = (path / "environ").read_bytes().split(b"\0")
                rank = next(
                    (variable[5:].decode() for variable in environment if variable.startswith(b"RANK=")), "launcher"
                )
                processes.setdefault(rank, []).append(int(path.name))
        except (OSError, IndexError):
            continue
    return {rank: sorted(pids) for rank, pids in processes.items()}


def wait_until_gone(folder, process):
    process.wait(timeout=GRACE)
    until = time.monotonic() + GRACE
    while processes_of(folder) and time.monotonic() < until:
        time.sleep(0.1)
    assert not processes_of(folder)


def finished(launcher, folder):
    process = start(launcher, folder)
    assert process.wait(timeout=300) == 0, Path(f"{folder}.log").read_text()[-3000:]


def log(folder):
    """``metrics.jsonl`` as text, without times."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_bytes().splitlines()]
    return "\n".join(json.dumps({**line, "time": 0}) for line in lines)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The uninterrupted runs of one process and of two."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    finished(ONE, folder / "one")
    finished(TWO, folder / "two")
    return folder


def check_resumed(launcher, folder, uninterrupted):
    finished(launcher, folder)
    assert log(folder) == log(uninterrupted)
    assert (folder / "result.json").read_bytes() == (uninterrupted / "result.json").read_bytes()
    assert json.loads((folder / "status.json").read_text())["state"] == "done"


@pytest.mark.parametrize("victim", ["0", "1"])
def test_a_killed_rank_ends_the_run_and_it_can_be_resumed(tmp_path, uninterrupted, victim):
    folder = tmp_path / "run"
    process = start(TWO, folder)
    wait_for_step(folder, 60, process)
    os.kill(processes_of(folder)[victim][0], signal.SIGKILL)
    wait_until_gone(folder, process)
    assert process.returncode != 0
    if victim == "1":
        status = json.loads((folder / "status.json").read_text())
        assert (status["state"], status["code"]) == ("failed", 5)
    check_resumed(TWO, folder, uninterrupted / "two")


def test_a_killed_launcher_leaves_no_orphan(tmp_path, uninterrupted):
    folder = tmp_path / "run"
    process = start(TWO, folder)
    wait_for_step(folder, 60, process)
    process.kill()
    wait_until_gone(folder, process)
    assert json.loads((folder / "status.json").read_text())["code"] == 75
    check_resumed(TWO, folder, uninterrupted / "two")


def test_a_terminated_launcher_leaves_a_checkpoint_of_the_last_step(tmp_path, uninterrupted):
    folder = tmp_path / "run"
    process = start(TWO, folder)
    wait_for_step(folder, 60, process)
    process.terminate()
    wait_until_gone(folder, process)
    status = json.loads((folder / "status.json").read_text())
    assert (status["state"], status["code"]) == ("preempted", 75)
    last = max(json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines())
    assert status["step"] == last
    assert list((folder / "checkpoints").glob(f"step-{last}*"))
    check_resumed(TWO, folder, uninterrupted / "two")


def test_a_run_killed_at_random_moments_and_resumed_is_identical(tmp_path, uninterrupted):
    chance, folder = random.Random(0), tmp_path / "run"
    for _ in range(5):
        process = start(ONE, folder)
        time.sleep(chance.uniform(4, 14))  # a run takes about as long, with its imports
        process.kill()
        wait_until_gone(folder, process)
    check_resumed(ONE, folder, uninterrupted / "one")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_python_m_mmbert_exits_with_75_after_a_signal(tmp_path, uninterrupted, number):
    folder = tmp_path / "run"
    process = start(ONE, folder)
    wait_for_step(folder, 60, process)
    process.send_signal(number)
    assert process.wait(timeout=GRACE) == 75
    assert "stopped by " + number.name in Path(f"{folder}.log").read_text()
    check_resumed(ONE, folder, uninterrupted / "one")


def test_a_run_of_two_processes_resumes_in_one(tmp_path, uninterrupted):
    """Dropout masks depend on the rank, so the losses differ; the logged steps do not."""
    folder = tmp_path / "run"
    process = start(TWO, folder)
    wait_for_step(folder, 60, process)
    process.terminate()
    wait_until_gone(folder, process)
    finished(ONE, folder)
    steps = [line.split(', "value"')[0] for line in log(folder).splitlines()]
    assert steps == [line.split(', "value"')[0] for line in log(uninterrupted / "one").splitlines()]
