"""Resuming: a run that was stopped at any point and resumed equals an uninterrupted run, bit for bit."""

import json
import os
import shutil
import signal
import time
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import mmbert.training.trainer
from mmbert import api
from mmbert.checkpoint import resume as resuming
from mmbert.contracts import Processor
from mmbert.data import loader
from mmbert.errors import IntegrityError, Preempted, SampleError
from mmbert.evaluation import evaluate
from mmbert.io import storage
from mmbert.tracking.console import Console
from mmbert.training import comparison
from mmbert.version import CODE_EPOCH

ROOT = Path(__file__).resolve().parents[2]
STEPS, EVERY = 5, 2  # between evaluations, by evaluate.every
SMALL = [
    "inputs.sound=null",
    "inputs.series=null",
    "inputs.graph=null",
    "inputs.cells.width=16",
    "inputs.image={type: vit, size: 16, width: 16, layers: 1, augment: true}",
    "trunk.hidden_size=16",
    "trunk.heads=2",
    "trunk.layers=1",
    "train.batch_size=8",
    f"train.steps={STEPS}",
    "train.input_dropout=0.2",
    "train.ema=0.5",
    "train.accumulate=2",
    "evaluate.every=0.2",
    "tasks.topics=null",
    "tasks.words=null",
]


def train(*settings, out="run", **named):
    return api.train(ROOT / "recipes" / "debug.yaml", overrides=[*SMALL, *settings], out=out, **named)


def log(folder):
    """The lines of ``metrics.jsonl`` as text, without their times."""
    lines = Path(folder, "metrics.jsonl").read_text().splitlines()
    return [json.dumps({**json.loads(line), "time": 0}) for line in lines]


def weights(folder):
    """All tensors of all checkpoints of a run."""
    files = sorted(Path(folder, "checkpoints").glob("*/*.safetensors"))
    return {f"{file.parent.name} {file.name}": load_file(file) for file in files}


def same(first, second):
    assert log(first) == log(second)
    for name in ("result.json", "test.safetensors", "examples.jsonl"):
        assert (Path(first) / name).read_bytes() == (Path(second) / name).read_bytes()
    torch.testing.assert_close(weights(first), weights(second), rtol=0, atol=0)


def status(folder="run"):
    return json.loads(Path(folder, "status.json").read_text())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(out=folder)
    return folder


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def interrupt_at_call(monkeypatch, owner, name, *, at=1, before=True):
    """Send SIGTERM before or after the ``at``-th call of a function; returns the list of calls."""
    real, calls = getattr(owner, name), []

    def call(*positional, **named):
        calls.append(name)
        if len(calls) == at and before:
            os.kill(os.getpid(), signal.SIGTERM)
        result = real(*positional, **named)
        if len(calls) == at and not before:
            os.kill(os.getpid(), signal.SIGTERM)
        return result

    monkeypatch.setattr(owner, name, call)
    return calls


def test_a_run_stopped_twice_and_resumed_equals_the_uninterrupted_run(whole, monkeypatch):
    for step, at in ((1, 1), (3, 2)):
        with monkeypatch.context() as patch:
            interrupt_at_call(patch, Console, "step", at=at)
            with pytest.raises(Preempted, match="SIGTERM"):
                train()
        assert (status()["state"], status()["code"], status()["step"]) == ("preempted", 75, step)
        assert f"at step {step}: checkpoint saved; the same command resumes from here" in status()["reason"]
        assert not Path("run", "result.json").exists()
    train()
    assert status()["state"] == "done"
    same("run", whole)


MOMENTS = {  # when the signal comes -> the function called then, the number of that call, the steps done by then
    "a step": (Console, "step", 3, 3),
    "an evaluation": (evaluate, "_task_parts", 1, EVERY),
    "a save": (storage, "write_tensors", 3, EVERY),
    "the wait for data": (loader._MicroBatchDraws, "__iter__", 1, 0),
    "before step 1": (mmbert.training.trainer, "build", 1, 0),
    "the last evaluation": (mmbert.training.trainer, "from_evaluation", 1, STEPS),
    "at exit": (comparison, "compare_to_baselines", 1, STEPS),
}


@pytest.mark.parametrize(("owner", "name", "at", "done"), MOMENTS.values(), ids=MOMENTS)
def test_a_signal_at_any_moment_leaves_one_checkpoint_to_resume_from(whole, monkeypatch, owner, name, at, done):
    with monkeypatch.context() as patch:
        calls = interrupt_at_call(patch, owner, name, at=at)
        with pytest.raises(Preempted, match="stopped by SIGTERM"):
            train()
        assert len(calls) >= at
    assert (status()["state"], status()["code"]) == ("preempted", 75)
    saved = [path.name for path in Path("run", "checkpoints").glob("step-*")]
    assert len([name for name in saved if name.startswith(f"step-{done}")]) == (1 if done else 0)
    train()
    same("run", whole)


def test_a_signal_interrupts_the_wait_for_data(monkeypatch):
    def never(dataset, items):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(600)

    monkeypatch.setattr(loader.SampleDataset, "collate", never)
    with pytest.raises(Preempted):
        train()
    assert not list(Path("run").glob("checkpoints/*"))


WITHOUT_EFFECT = {
    "workers": ["train.workers=2"],
    "interval of checkpoints": ["train.save_every=1"],
    "batch size of evaluation": ["evaluate.batch_size=7"],
}


@pytest.mark.parametrize("settings", WITHOUT_EFFECT.values(), ids=WITHOUT_EFFECT)
def test_operational_settings_change_no_bit(whole, settings):
    train(*settings)
    mine, theirs = (weights(folder) for folder in ("run", whole))
    both = mine.keys() & theirs.keys()
    assert any(name.startswith(f"step-{STEPS} ") for name in both)
    torch.testing.assert_close(
        {name: mine[name] for name in both}, {name: theirs[name] for name in both}, rtol=0, atol=0
    )
    if settings != WITHOUT_EFFECT["batch size of evaluation"]:  # another batch size sums losses in another order
        assert log("run") == log(whole)


def test_the_order_of_keys_changes_no_bit(whole):
    text = (whole / "recipe.yaml").read_text()
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    content = yaml.load(text)
    for section in ("inputs", "tasks"):
        content[section] = dict(reversed(content[section].items()))
    with open("turned.yaml", "w") as file:
        yaml.dump(dict(reversed(content.items())), file)
    api.train("turned.yaml", out="run")
    torch.testing.assert_close(weights("run"), weights(whole), rtol=0, atol=0)
    assert sorted(log("run")) == sorted(log(whole))


@pytest.fixture(scope="module")
def stopped_at_step_3(tmp_path_factory):
    """A run that was stopped at step 3, one step after an evaluation."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at_call(patch, Console, "step", at=3)
        with pytest.raises(Preempted):
            train(out=folder)
    return folder


@pytest.fixture
def stopped(stopped_at_step_3):
    """A copy of the run stopped at step 3, in the folder ``run``."""
    shutil.copytree(stopped_at_step_3, "run")


def test_another_recipe_is_refused_with_the_difference(stopped):
    before = {
        path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file() and path.name != "status.json"
    }
    with pytest.raises(IntegrityError, match="of another recipe") as caught:
        train("train.seed=5", "fusion.tokens=3")
    assert "fusion.tokens: 4 then, 3 now\n  train.seed: 0 then, 5 now\n" in str(caught.value)
    assert caught.value.exit_code == status()["code"] == 6
    assert before == {path: path.read_bytes() for path in before}
    assert train("train.seed=5", "fusion.tokens=3", resume="never")["seed"] == 5


def test_other_data_is_refused_with_the_fingerprints(stopped):
    report = json.loads(Path("run", "data.json").read_text())
    Path("run", "data.json").write_text(json.dumps({**report, "fingerprint": "0" * 24}))
    with pytest.raises(IntegrityError, match=f"fingerprint {'0' * 24} then, {report['fingerprint']} now"):
        train()


def test_a_checkpoint_of_another_code_epoch_is_refused(stopped, monkeypatch):
    monkeypatch.setattr(resuming, "CODE_EPOCH", CODE_EPOCH + 1)
    message = rf"incompatible .*\(code epoch {CODE_EPOCH}; this one has {CODE_EPOCH + 1}\).*--out another folder"
    for mode in ("auto", "run"):
        with pytest.raises(IntegrityError, match=message):
            train(resume=mode)
    assert train(resume="never")["best_step"]


def test_keys_that_change_no_result_may_differ(stopped, whole):
    train("train.workers=1", "evaluate.batch_size=64", "name=other")
    assert log("run") == log(whole)


def test_changed_versions_of_libraries_are_reported_and_logged(stopped, capsys):
    environment = json.loads(Path("run", "env.json").read_text())
    environment["versions"]["torch"] = "1.13.0"
    Path("run", "env.json").write_text(json.dumps(environment))
    train()
    assert f"torch 1.13.0 then, {version('torch')} now" in capsys.readouterr().out
    events = [json.loads(line) for line in Path("run", "events.jsonl").read_text().splitlines()]
    resumed = next(event for event in events if event["event"] == "resumed")
    assert (resumed["step"], list(resumed["versions"])) == (3, ["torch"])


def test_a_damaged_checkpoint_is_skipped_and_reported(stopped, whole, capsys):
    train_file = Path("run", "checkpoints", "step-3", "optimizer.safetensors")
    content = bytearray(train_file.read_bytes())
    content[-1] ^= 1
    train_file.write_bytes(content)
    train()
    assert "step-3 is skipped" in capsys.readouterr().out
    assert log("run") == log(whole)


def test_if_no_checkpoint_is_usable_the_run_is_refused_and_left_alone(stopped):
    for manifest in Path("run").glob("checkpoints/*/manifest.json"):
        manifest.unlink()
    before = {
        path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file() and path.name != "status.json"
    }
    with pytest.raises(IntegrityError, match="holds checkpoints, but none is usable"):
        train()
    assert before == {path: path.read_bytes() for path in before}


def test_resuming_from_a_path_does_not_replace_another_run(stopped, whole):
    shutil.copytree("run", "other")
    train("train.seed=5", "train.steps=2", out="mine")
    before = {
        path: path.read_bytes() for path in Path("mine").rglob("*") if path.is_file() and path.name != "status.json"
    }
    with pytest.raises(IntegrityError, match="of another recipe"):
        train(resume="other", out="mine")
    assert before == {path: path.read_bytes() for path in before}


def test_resuming_from_an_older_checkpoint_discards_the_result(whole):
    shutil.copytree(whole, "run")
    older = min(Path("run", "checkpoints").iterdir(), key=lambda path: int(path.name[5:]))
    assert int(older.name[5:]) < STEPS
    shutil.copytree(older, "older/checkpoints/" + older.name)
    shutil.copyfile("run/metrics.jsonl", "older/metrics.jsonl")
    train(resume=f"older/checkpoints/{older.name}")
    same("run", whole)


def test_a_refused_start_leaves_the_status_of_a_finished_run(whole):
    shutil.copytree(whole, "run")
    before = Path("run", "status.json").read_bytes()
    with pytest.raises(IntegrityError):
        train("train.seed=5")
    train()
    assert Path("run", "status.json").read_bytes() == before
    assert status()["step"] == STEPS


def test_a_signal_while_a_value_is_read_is_not_counted_as_a_bad_value(whole, monkeypatch):
    real = Processor.collate

    def catches_every_exception(processor, items):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except Exception as error:
            raise SampleError("cannot be read") from error
        return real(processor, items)

    with monkeypatch.context() as patch:
        patch.setattr(Processor, "collate", catches_every_exception)
        with pytest.raises(Preempted):
            train("train.max_bad_fraction=0.5")
    assert not Path("run", "bad_samples.jsonl").exists()


def test_a_path_selects_the_checkpoint_to_resume_from(stopped, whole):
    shutil.copytree("run", "other")
    train(resume=Path("run/checkpoints/step-2").resolve())  # an absolute path to the folder's own checkpoint
    same("run", whole)
    train(resume="other", out="elsewhere")
    same("elsewhere", whole)
    with pytest.raises(IntegrityError, match="step-7"):
        train(resume="run/checkpoints/step-7")


def test_a_finished_run_is_not_trained_again(whole, capsys, monkeypatch):
    monkeypatch.setattr(mmbert.training.trainer.Trainer, "fit", None)
    before = (whole / "metrics.jsonl").stat().st_mtime_ns
    assert train(out=whole) == json.loads((whole / "result.json").read_text())
    assert "is finished: nothing to train" in capsys.readouterr().out
    assert (whole / "metrics.jsonl").stat().st_mtime_ns == before


def test_a_truncated_last_line_of_the_log_is_dropped(stopped, whole):
    with Path("run", "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "time": 1.0, "spl')
    train()
    assert log("run") == log(whole)
