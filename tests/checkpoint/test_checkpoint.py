"""Atomic checkpoints: state is restored bit for bit, older ones are removed, and the best is found again."""

import json
from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from checkpoint_parts import IDENTITY, Run, names, same
from safetensors.torch import load_file
from train_parts import fresh

from mmbert.checkpoint.checkpoint import (
    Content,
    best,
    import_checkpoints,
    newest,
    read_trainer,
    remove_all,
    save,
    verify,
)
from mmbert.checkpoint.tensors import load_training
from mmbert.data.loader import batches
from mmbert.data.sampler import StepPlan
from mmbert.errors import IntegrityError
from mmbert.experiment.build import load_experiment, model_config
from mmbert.layers.ema import WeightAverage
from mmbert.recipe.serialize import dump
from mmbert.training.optimizer import make_optimizer
from mmbert.training.step import accumulate_gradients, count_units


def no_message(message):
    raise AssertionError(message)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_training_resumes_bit_for_bit(tmp_path, ema, dtype):
    run = Run(ema, dtype=dtype).train(5)
    path = run.save(tmp_path)
    resumed = Run(ema, seed=1, dtype=dtype)
    assert load_training(path, resumed.model, resumed.optimizer, resumed.average)["step"] == 5
    assert same(resumed.state(), run.state())
    resumed.step = read_trainer(path)["step"]
    assert same(resumed.train(4).state(), run.train(4).state())
    assert run.average.steps == 9


def test_saving_changes_no_state_even_while_the_average_is_applied(tmp_path):
    run = Run().train(3)
    before = run.state()
    path = run.save(tmp_path / "plain")
    with run.average.applied():
        applied = run.save(tmp_path / "applied")
    assert same(run.state(), before)
    for name in names(path):
        assert (path / name).read_bytes() == (applied / name).read_bytes()


def test_averaged_weights_are_the_model_and_raw_weights_are_saved_beside_it(tmp_path):
    run = Run().train(3)
    path = run.save(tmp_path)
    state = run.state()
    model, raw = load_file(path / "model.safetensors"), load_file(path / "raw.safetensors")
    assert model.keys() == {"weight", "idle", "frozen", "seen"}
    assert raw.keys() == {"weight", "idle"}
    assert torch.equal(raw["weight"], state["weight"])
    assert torch.equal(model["weight"], state["average.weight"])
    assert not torch.equal(model["weight"], raw["weight"])
    assert torch.equal(model["seen"], state["seen"])


def test_a_checkpoint_holds_the_files_of_its_manifest_and_no_pickle(tmp_path):
    path = Run(ema=0).train(1).save(tmp_path, best=1)
    content = verify(path)
    assert names(path) == {*content["files"], "manifest.json"}
    assert {file.suffix for file in path.iterdir()} == {".safetensors", ".json", ".yaml"}
    assert content["identity"] == IDENTITY
    assert "raw.safetensors" not in names(path)
    assert read_trainer(path) == {"best_step": 1, "mark": 1, "step": 1, "average_steps": 1}
    assert {(file.stat().st_mode & 0o777) for file in path.iterdir()} == {(path / "recipe.yaml").stat().st_mode & 0o777}


@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_a_real_model_resumes_bit_for_bit_with_dropout_and_a_wrapped_optimizer(tmp_path, ema):
    accelerator = Accelerator(cpu=True)

    def started(seed):
        experiment = fresh(f"train.ema={ema}", "train.dropout=0.1", f"train.seed={seed}")
        model, optimizer = accelerator.prepare(
            experiment.model, make_optimizer(experiment.model, experiment.recipe.optim)
        )
        return experiment, model, optimizer, WeightAverage(experiment.model, ema)

    def train(run, first, steps):
        experiment, model, optimizer, average = run
        weights = {name: task.weight for name, task in experiment.model.tasks.items()}
        for step, parts in enumerate(steps, first):
            units = count_units(experiment.model, parts, accelerator.device)
            accumulate_gradients(model, parts, units, weights, accelerator, seed=(0, step))
            optimizer.step()
            optimizer.zero_grad()
            average.update()

    uninterrupted, resumed = started(0), started(1)
    items = uninterrupted[0].dataset("train")
    steps = list(batches(StepPlan(0, len(items), 8), items, steps=6, accumulate=1))
    train(uninterrupted, 1, steps[:3])
    experiment, model, optimizer, average = uninterrupted
    parts = {f"inputs.{name}": part for name, part in experiment.processors.inputs.items()}
    parts |= {f"tasks.{name}": part for name, part in experiment.processors.targets.items()}
    config, trainer = model_config(experiment.model), {"best_step": 3}
    recipe = dump(experiment.recipe)
    content = Content(experiment.model, optimizer, average, parts, config, trainer, recipe, IDENTITY)
    path = save(tmp_path, 3, content, keep=())
    with average.applied():  # the model that predicts is the one that was evaluated
        torch.testing.assert_close(
            load_experiment(path, experiment.recipe).model.state_dict(), model.state_dict(), rtol=0, atol=0
        )
    load_training(path, resumed[0].model, resumed[2], resumed[3])
    train(uninterrupted, 4, steps[3:])
    train(resumed, 4, steps[3:])
    assert same(resumed[0].model.state_dict(), uninterrupted[0].model.state_dict())
    assert same(resumed[3].state(), uninterrupted[3].state())
    for first, second in zip(
        *(run[2].optimizer.state_dict()["state"].values() for run in (uninterrupted, resumed)), strict=True
    ):
        assert same(second, first)


def test_older_checkpoints_are_removed_except_the_best_and_those_to_keep(tmp_path):
    run = Run().train(1)
    for step, keep, left in [
        (1, (), {1}),
        (2, (), {1, 2}),
        (3, (2,), {1, 2, 3}),
        (4, (), {1, 4}),
        (7, (9,), {1, 7}),
        (5, (), {1, 5}),
    ]:
        run.mark(step).save(tmp_path, best=1, keep=keep)
        assert names(tmp_path) == {f"step-{step}" for step in left}
        assert newest(tmp_path, no_message) == tmp_path / f"step-{step}"
    run.mark(8).save(tmp_path, best=8)
    assert names(tmp_path) == {"step-8"}


def test_files_and_folders_that_are_no_checkpoints_are_left_alone(tmp_path):
    for name in ("step-03", "step-x", "notes", "step-1.bak", ".step-x.tmp", ".step-1.mine"):
        (tmp_path / name).mkdir()
    (tmp_path / "step.txt").touch()
    (tmp_path / "step-1").touch()  # named like a checkpoint, but a file
    before = names(tmp_path)
    (tmp_path / ".step-1.tmp").symlink_to(tmp_path / "gone")
    Run().mark(2).save(tmp_path)
    assert names(tmp_path) == before | {"step-2"}


def test_a_checkpoint_into_which_somebody_put_a_file_is_not_removed(tmp_path):
    run = Run()
    for step in (1, 2):
        run.mark(step).save(tmp_path)
    (tmp_path / "step-2" / "notes.txt").write_text("the model of the paper")
    run.mark(3).save(tmp_path)
    assert (tmp_path / "step-2" / "notes.txt").read_text() == "the model of the paper"
    with pytest.raises(IntegrityError, match=r"step-2/notes\.txt' is not a file of the checkpoint"):
        remove_all(tmp_path)
    assert {"step-2", "step-3"} <= names(tmp_path)
    (tmp_path / "step-2" / "notes.txt").unlink()
    remove_all(tmp_path)
    assert names(tmp_path) == set()


def test_checkpoints_of_another_run_replace_those_of_this_one(tmp_path):
    path = Run().mark(4).save(tmp_path / "theirs")
    Run().mark(7).save(tmp_path / "ours")
    import_checkpoints([path], tmp_path / "ours")
    assert names(tmp_path / "ours") == {"step-4"}
    assert verify(tmp_path / "ours" / "step-4") == verify(path)


def test_a_verified_checkpoint_of_the_same_step_is_left_as_it_is(tmp_path):
    run = Run().train(2)
    path = run.save(tmp_path)
    before = {file.name: file.stat().st_mtime_ns for file in path.iterdir()}
    run.save(tmp_path)
    assert {file.name: file.stat().st_mtime_ns for file in path.iterdir()} == before


def test_a_damaged_checkpoint_or_one_of_another_run_is_replaced(tmp_path):
    run = Run().mark(2)
    path = run.save(tmp_path)
    (path / "recipe.yaml").write_text("mark: 7\n")
    run.save(tmp_path)
    verify(path)
    save(tmp_path, 2, replace(run.content(), identity={**IDENTITY, "data": "new"}), keep=())
    assert verify(path)["identity"]["data"] == "new"
    assert names(tmp_path) == {"step-2"}


def test_the_best_checkpoint_is_named_by_the_newest_verified_one(tmp_path):
    folder, messages = tmp_path / "checkpoints", []
    with pytest.raises(IntegrityError, match=r"holds no usable checkpoint yet$"):
        best(tmp_path, no_message)
    Run().mark(1).save(folder)
    with pytest.raises(IntegrityError, match="training has not reached an evaluation"):
        best(tmp_path, no_message)
    Run().mark(2).save(folder, best=2)
    Run().mark(3).save(folder, best=2)
    assert best(tmp_path, no_message) == folder / "step-2"
    Run().mark(4).save(folder, best=4, keep=(2, 3))
    (folder / "step-4" / "manifest.json").unlink()
    assert best(tmp_path, messages.append) == folder / "step-2"  # step 4 was better, but is incomplete
    assert len(messages) == 1
    assert messages[0].startswith("the checkpoint step-4 is skipped: ")
    (folder / "step-2" / "model.safetensors").unlink()
    with pytest.raises(IntegrityError, match=r"step-2/model\.safetensors' is missing"):
        best(tmp_path, messages.append)  # step 3 is not used instead
    for path in folder.glob("step-*/recipe.yaml"):
        path.unlink()
    with pytest.raises(IntegrityError, match=r"usable checkpoint yet; .*step-4 is skipped.*; .*step-3 is skipped"):
        best(tmp_path, no_message)


def test_a_value_that_json_cannot_hold_fails_and_earlier_checkpoints_stay(tmp_path):
    run = Run()
    run.mark(1).save(tmp_path)
    with pytest.raises(TypeError):
        save(tmp_path, 2, replace(run.content(), trainer={"best_step": 0, "x": object()}), keep=())
    assert names(tmp_path) == {"step-1"}
    assert json.loads((tmp_path / "step-1" / "parts.json").read_text())["mark"] == 1
