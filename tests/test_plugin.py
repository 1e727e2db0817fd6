"""A plugin: the encoder of docs/encoders.md in a user's file is trained and used without changing mmbert."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from encoders import ENCODERS
from mmbert.cli import commands

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "encoders.md").read_text(encoding="utf-8")
PLUGIN = PAGE.split("```python\n")[1].split("```")[0]  # the page's first block of code
SAMPLES, CHANNELS = 16, 3
RECIPE = """\
name: sleep
data: {nights: {type: files, path: nights.jsonl}}
trunk: {checkpoint: null, layers: 1, hidden_size: 16, heads: 2, vocabulary: 100, max_positions: 32}
inputs:
  note: {type: text, max_length: 8}
  window: {type: eeg, patch: 4}
fusion: {type: joint, tokens: 2}
tasks: {stage: {type: classification}}
train: {steps: 3, batch_size: 8}
evaluate: {baselines: false}
"""


def rows():
    """Rows of which half have no window and one has no note."""
    rng = random.Random(0)
    windows = [[[rng.gauss(0, 20) for _ in range(CHANNELS)] for _ in range(SAMPLES)] for _ in range(40)]
    return [
        {"note": f"night {row}" if row else None, "stage": ["rem", "deep"][row % 2]}
        | ({"window": window} if row % 4 < 2 else {})
        for row, window in enumerate(windows)
    ]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A folder with the plugin, a recipe, rows and the finished run."""
    folder = tmp_path_factory.mktemp("lab")
    (folder / "my_lab_eeg.py").write_text(PLUGIN, encoding="utf-8")
    (folder / "sleep.yaml").write_text(RECIPE)
    (folder / "nights.jsonl").write_text("\n".join(map(json.dumps, rows())))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "XDG_CACHE_HOME": str(folder)}
    command = [sys.executable, "-m", "mmbert", "train", "sleep.yaml", "--plugin", "my_lab_eeg", "--out", "run"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(autouse=True)
def _afresh(lab, monkeypatch):
    """Run each test in the folder as if the plugin had not been imported, and remove it afterwards."""
    monkeypatch.chdir(lab)
    monkeypatch.setenv("XDG_CACHE_HOME", str(lab))
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(ENCODERS, "_table", {**ENCODERS._table})
    yield
    sys.modules.pop("my_lab_eeg", None)


def test_the_plugin_is_short():
    assert sum(bool(line.strip()) for line in PLUGIN.splitlines()) < 45


def test_the_example_holds_the_same_encoder():
    encoder = PLUGIN[PLUGIN.index("class EEGProcessor") :]
    assert encoder in (ROOT / "examples" / "own_encoder.py").read_text(encoding="utf-8")


def test_the_plugin_trains(lab):
    result = json.loads((lab / "run" / "result.json").read_text())
    assert 0 <= result["test"]["stage"]["accuracy"] <= 1
    assert "mmbert without window" in result["hidden"]


def test_the_plugin_predicts(lab):
    words = ["predict", "run", "--plugin", "my_lab_eeg", "--input", "nights.jsonl", "--output", "out.jsonl"]
    assert commands.main(words) == 0
    lines = [json.loads(line) for line in (lab / "out.jsonl").read_text().splitlines()]
    assert len(lines) == 40
    assert {line["stage"]["label"] for line in lines} <= {"rem", "deep"}


def test_a_recipe_or_run_alone_never_brings_code(capsys):
    assert commands.main(["check", "sleep.yaml"]) == 2
    assert "inputs.window.type (sleep.yaml:6): no encoder is called 'eeg'." in capsys.readouterr().err
    assert commands.main(["check", "run/recipe.yaml"]) == 2
    assert "my_lab_eeg" not in sys.modules


def test_options_of_the_plugin_are_checked_and_shown(capsys):
    assert commands.main(["check", "sleep.yaml", "--plugin", "my_lab_eeg", "--set", "inputs.window.ptach=2"]) == 2
    assert "inputs.window.ptach (--set): unknown key. Did you mean 'patch'?" in capsys.readouterr().err
