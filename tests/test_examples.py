"""The scripts in examples/ run and give the promised results."""

import json
import runpy
import sys
from pathlib import Path

import pytest
from option_parts import write_checkpoint

from encoders import ENCODERS

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run an example as a script in a temporary folder and return what it prints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(ENCODERS, "_table", {**ENCODERS._table})  # undoes what an example registers

    def run_script(name, *words):
        monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return run_script


def test_every_example_is_tested():
    assert {path.name for path in EXAMPLES.glob("*.py")} == {"own_csv.py", "own_encoder.py", "parts_alone.py"}


def test_own_csv_trains_and_predicts(run, tmp_path):
    printed = run("own_csv.py", tmp_path)
    scores = json.loads((tmp_path / "run" / "result.json").read_text())["test"]
    assert scores["furnished"]["accuracy"] > 0.6
    with_furniture, empty = [line for line in printed.splitlines() if " -> " in line]
    assert "'label': True" in with_furniture
    assert "'rent':" in empty


def test_own_encoder_is_registered_and_trained(run, tmp_path):
    assert "test accuracy:" in run("own_encoder.py", tmp_path)
    assert "eeg" in ENCODERS.names()
    assert (tmp_path / "run" / "result.json").exists()


def test_parts_alone_learn_in_a_plain_loop_of_under_40_lines(run, tmp_path):
    write_checkpoint(tmp_path / "checkpoint")
    losses = [float(line.split()[-1]) for line in run("parts_alone.py", tmp_path / "checkpoint").splitlines()]
    assert losses[-1] < 0.95 * losses[0]
    lines = (EXAMPLES / "parts_alone.py").read_text().splitlines()
    code = lines[lines.index("import math") :]
    assert sum(bool(line.strip()) for line in code) < 40
