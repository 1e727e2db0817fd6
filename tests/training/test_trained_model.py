"""Loading a model from a checkpoint: bit for bit, also in a new process; damaged files are refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from train_parts import fresh, state_of

from mmbert.checkpoint.checkpoint import Content, save
from mmbert.checkpoint.tensors import load_weights
from mmbert.errors import IntegrityError
from mmbert.experiment.build import load_experiment, model_config
from mmbert.recipe.serialize import dump
from mmbert.version import CODE_EPOCH

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def experiment():
    return fresh("inputs.other={type: text}")


@pytest.fixture
def saved(experiment, tmp_path):
    """A checkpoint of the model, saved as by a run."""
    parts = {f"inputs.{name}": part for name, part in experiment.processors.inputs.items()}
    parts |= {f"tasks.{name}": part for name, part in experiment.processors.targets.items()}
    state, identity = state_of(experiment), {"recipe": "", "data": "", "epoch": str(CODE_EPOCH)}
    config, trainer = model_config(experiment.model), {"best_step": 1}
    recipe = dump(experiment.recipe)
    content = Content(experiment.model, state.optimizer, state.average, parts, config, trainer, recipe, identity)
    return save(tmp_path / "checkpoints", 1, content, keep=())


def same(actual, expected):
    """Assert equal values of equal types; a NumPy number is restored as a Python number."""
    assert type(actual) is type(expected.item() if isinstance(expected, np.generic) else expected)
    if isinstance(actual, torch.Tensor | np.ndarray):
        torch.testing.assert_close(actual, expected, rtol=0, atol=0)
    elif isinstance(actual, dict):
        same([*actual], [*expected])
        same([*actual.values()], [*expected.values()])
    elif isinstance(actual, list | tuple):
        for first, second in zip(actual, expected, strict=True):
            same(first, second)
    else:
        assert actual == expected


def weights_of(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_a_checkpoint_has_no_pickle(saved):
    assert {file.suffix for file in saved.iterdir()} == {".safetensors", ".json", ".yaml"}
    for file in saved.glob("*.safetensors"):
        load_file(file)
    json.loads((saved / "parts.json").read_text())


def test_the_loaded_model_equals_the_saved_one(experiment, saved):
    again = load_experiment(saved, experiment.recipe)
    torch.testing.assert_close(again.model.state_dict(), experiment.model.state_dict(), rtol=0, atol=0)
    assert not again.model.training
    for name, processor in {**experiment.processors.inputs, **experiment.processors.targets}.items():
        restored = {**again.processors.inputs, **again.processors.targets}[name]
        same(restored.__getstate__(), processor.__getstate__())
        assert type(restored) is type(processor)


PREDICT = """
import sys, json
from mmbert.inference.predict import load
print(json.dumps(list(load(sys.argv[1]).predict(json.load(open(sys.argv[2]))))))
"""


def test_a_new_process_predicts_the_same(experiment, saved, tmp_path):
    (tmp_path / "recipe.yaml").write_text(dump(experiment.recipe))
    samples = list(experiment.splits["test"][0])
    assert len(samples) > 3
    (tmp_path / "rows.json").write_text(json.dumps([sample.inputs for sample in samples]))
    command = [sys.executable, "-c", PREDICT, str(tmp_path), str(tmp_path / "rows.json")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    items = experiment.dataset("test")
    model = experiment.model.eval()
    with torch.no_grad():
        predicted = model.predict(items.batch([(row, None) for row in range(len(items))]))
    expected = [
        {name: model.tasks[name].decode(rows[row]) for name, rows in predicted.items()} for row in range(len(items))
    ]
    model.train()
    assert json.loads(done.stdout) == json.loads(json.dumps(expected))


@pytest.mark.parametrize("fault", ["missing", "unknown", "other shape"])
def test_a_tensor_that_does_not_fit_is_named_and_changes_nothing(experiment, saved, fault):
    weights = load_file(saved / "model.safetensors")
    name = "tasks.amount.head.1.bias"
    if fault == "missing":
        del weights[name]
    elif fault == "unknown":
        weights[name := "tasks.colour.head.1.bias"] = torch.zeros(3)
    else:
        weights[name] = torch.zeros(7)
    save_file(
        {key: tensor + 1 if tensor.is_floating_point() else tensor for key, tensor in weights.items()},
        saved / "model.safetensors",
    )
    before = weights_of(experiment.model)
    with pytest.raises(IntegrityError, match=rf"{fault} \['{name}'\]"):
        load_weights(saved, experiment.model)
    torch.testing.assert_close(weights_of(experiment.model), before, rtol=0, atol=0)


def test_files_that_cannot_be_read_are_named(experiment, saved):
    for name in ("model.safetensors", "processors.safetensors", "parts.json"):
        whole = (saved / name).read_bytes()
        (saved / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(IntegrityError, match=name):
            load_experiment(saved, experiment.recipe)
        (saved / name).unlink()
        with pytest.raises(IntegrityError, match=name):
            load_experiment(saved, experiment.recipe)
        (saved / name).write_bytes(whole)
    load_experiment(saved, experiment.recipe)
