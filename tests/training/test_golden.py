"""Golden losses of twenty steps: a refactoring must not change them.

    python tests/training/test_golden.py

writes them anew, after a change of numerics that is recorded in CHANGELOG.md and ``CODE_EPOCH``.
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from mmbert import api
from mmbert.tracking.run_folder import read_log

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "debug.yaml"
GOLDEN = Path(__file__).with_name("golden.json")
SETTINGS = [
    "trunk.hidden_size=32",
    "train.steps=20",
    "train.precision=fp64",
    "train.input_dropout=0.2",
    "train.ema=0.9",
    "train.batch_size=12",
    "train.accumulate=2",
    "evaluate.every=1",
]


def losses(folder: Path) -> dict[str, float]:
    api.train(RECIPE, overrides=SETTINGS, out=folder)
    return {
        f"{line['step']} {line['split']} {line['task']} {line['metric']}": line["value"] for line in read_log(folder)
    }


def test_twenty_steps_give_the_golden_losses(tmp_path):
    assert losses(tmp_path / "run") == pytest.approx(json.loads(GOLDEN.read_text()), rel=1e-7, abs=1e-9)


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        GOLDEN.write_text(json.dumps(losses(Path(folder) / "run"), indent=0) + "\n")
