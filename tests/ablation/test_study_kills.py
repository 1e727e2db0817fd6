"""A study that is killed twice leaves no orphans and gives the tables of an undisturbed one."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
TABLES = ("table.csv", "table.md", "table.tex", "comparisons.csv")
STUDY = f"""
name: proof
base: {ROOT}/recipes/debug.yaml
set:
  inputs: {{image: null, sound: null, series: null, graph: null, cells: {{width: 16}}}}
  trunk: {{hidden_size: 16, heads: 2, layers: 1}}
  train: {{steps: 60, batch_size: 8, save_every: 5, input_dropout: 0.2}}
  fusion: {{type: concat}}
seeds: 7
metric: amount/rmse
arms:
  joint: {{fusion: {{type: joint, tokens: 2}}}}
  narrow: {{inputs: {{cells: {{width: 8}}}}}}
leave_one_out: {{of: inputs, how: both, keep: [text]}}
comparisons: [joint]
"""


def start(folder):
    folder.mkdir(exist_ok=True)
    (folder / "study.yaml").write_text(STUDY)
    command = [sys.executable, "-m", "mmbert", "ablate", str(folder / "study.yaml"), "--out", str(folder / "study")]
    with open(folder / "log.txt", "a") as log:
        return subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stdout=log, stderr=log)


def processes(folder):
    """The processes of a study and its runs, data workers included."""
    ids = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().split(b"\0")
            if any(word.startswith(str(folder).encode()) for word in words):
                ids.append(int(path.name))
        except OSError:
            continue
    return ids


def check(folder, process):
    assert process.wait(timeout=1200) == 0, (folder / "log.txt").read_text()[-3000:]


def results(folder):
    return list(folder.glob("debug-*/result.json"))


def test_a_study_killed_twice_gives_the_tables_of_an_undisturbed_one(tmp_path):
    uninterrupted, killed = tmp_path / "whole", tmp_path / "killed"
    check(uninterrupted, start(uninterrupted))
    assert len(results(uninterrupted)) == 28
    chance = random.Random(0)
    for done in (chance.randint(3, 10), chance.randint(14, 22)):
        process = start(killed)
        while len(results(killed)) < done:
            assert process.poll() is None, (killed / "log.txt").read_text()[-3000:]
            time.sleep(chance.uniform(0.1, 0.9))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        until = time.monotonic() + 60
        while processes(killed) and time.monotonic() < until:
            time.sleep(0.2)
        assert not processes(killed)
    finished = {path: path.stat().st_mtime_ns for path in results(killed)}
    check(killed, start(killed))
    for name in TABLES:
        assert (killed / "study" / name).read_bytes() == (uninterrupted / "study" / name).read_bytes()
    # no finished run is trained again
    assert all(path.stat().st_mtime_ns == time_of for path, time_of in finished.items())
    times = {path: path.stat().st_mtime_ns for path in results(killed)}
    check(killed, start(killed))
    assert times == {path: path.stat().st_mtime_ns for path in results(killed)}
