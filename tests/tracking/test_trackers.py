"""Trackers mirror metrics.jsonl; one that raises or hangs causes one warning and nothing else."""

import json
import threading
import time
from pathlib import Path

import pytest
from train_parts import DEBUG, SMALL

from mmbert import api
from mmbert.errors import RecipeError
from mmbert.recipe.load import load_recipe
from mmbert.recipe.serialize import recipe_hash
from mmbert.tracking import trackers as module
from mmbert.tracking.run_folder import RunFolder
from mmbert.tracking.trackers import start_trackers


class Recorder:
    """A tracker with the interface of Accelerate's, which records its calls."""

    def __init__(self, project, **words):
        self.calls = [("made", project, words)]
        if type(self) is Recorder:
            Recorder.last = self

    def start(self):
        self.calls.append("started")

    def store_init_configuration(self, values):
        self.calls.append(values)

    def log(self, values, step):
        self.calls.append((step, values))

    def finish(self):
        self.calls.append("finished")


def failing(method):
    """A tracker that raises in one method."""

    class Failing(Recorder):
        pass

    def fail(self, *_, **__):
        raise ConnectionError("no route\nto host")

    setattr(Failing, method, fail)
    return Failing


def hanging(method, released):
    """A tracker that is stuck in one method until the test releases it."""

    class Hanging(Recorder):
        pass

    setattr(Hanging, method, lambda self, *_, **__: released.wait(60))
    return Hanging


@pytest.fixture
def use(monkeypatch):
    return lambda kind, name="wandb": monkeypatch.setitem(module.LOGGER_TYPE_TO_CLASS, name, kind)


@pytest.fixture
def released():
    """An event that is set at the end of a test, so that no thread is left."""
    event = threading.Event()
    yield event
    event.set()


def mirrored(folder, *names, steps=3):
    """Log some steps with trackers; returns the warnings and the duration in seconds."""
    warned, start = [], time.monotonic()
    log = RunFolder(folder, writes=True)
    log.trackers = start_trackers(names, folder, "study", {"train": {"seed": 7}}, warned.append)
    for step in range(1, steps + 1):
        log.log(step, "train", {"price": {"loss": step / 2}})
    log.log(steps, "test", {"price": {"rmse": 1.0, "mae": 0.5}})
    log.trackers.finish()
    return warned, time.monotonic() - start


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_tracker_gets_all_values_of_the_log(use, tmp_path):
    use(Recorder)
    warned, _ = mirrored(tmp_path / "run-1", "wandb", "wandb")
    assert warned == []
    assert Recorder.last.calls == [
        ("made", "study", {"name": "run-1"}),
        "started",
        {"train.seed": 7},
        *((step, {"train/price/loss": step / 2}) for step in (1, 2, 3)),
        (3, {"test/price/rmse": 1.0, "test/price/mae": 0.5}),
        "finished",
    ]


@pytest.mark.parametrize("method", ["__init__", "start", "store_init_configuration", "log", "finish"])
def test_a_tracker_that_raises_is_reported_once_and_the_log_is_complete(use, tmp_path, method):
    use(failing(method))
    use(Recorder, "mlflow")
    warned, _ = mirrored(tmp_path, "wandb", "mlflow", steps=50)
    assert warned == [
        "warning: the tracker wandb failed (ConnectionError: no route to host); metrics.jsonl is complete"
    ]
    assert [line["step"] for line in lines(tmp_path)] == [*range(1, 51), 50, 50]
    assert Recorder.last.calls[-1] == "finished"  # the healthy tracker


@pytest.mark.parametrize("method", ["start", "log", "finish"])
def test_a_tracker_that_hangs_is_left_behind(use, tmp_path, method, released, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.3)
    monkeypatch.setattr(module, "WAITING", 20)
    use(hanging(method, released))
    use(Recorder, "mlflow")
    warned, seconds = mirrored(tmp_path, "mlflow", "wandb", steps=10)
    assert warned == ["warning: the tracker wandb is still busy and was left behind; metrics.jsonl is complete"]
    assert seconds < 60  # the tracker itself would hang for ever
    assert len(lines(tmp_path)) == 12
    assert Recorder.last.calls[-1] == "finished" or method == "finish"


def test_a_tracker_that_hangs_holds_a_bounded_number_of_steps(use, tmp_path, released, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    monkeypatch.setattr(module, "WAITING", 20)
    use(hanging("start", released))
    warned, seconds = mirrored(tmp_path, "wandb", steps=500)
    assert warned == ["warning: the tracker wandb lags 20 steps behind and gets no more; metrics.jsonl is complete"]
    assert seconds < 1
    assert len(lines(tmp_path)) == 502


def test_a_tracker_that_is_not_installed_is_reported(tmp_path):
    def missing(*_, **__):
        raise ModuleNotFoundError("No module named 'wandb'")

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(module.LOGGER_TYPE_TO_CLASS, "wandb", missing)
        warned, _ = mirrored(tmp_path, "wandb")
    assert len(warned) == 1
    assert "No module named 'wandb'" in warned[0]


@pytest.mark.parametrize("installed", [True, False])
def test_the_default_tracker_is_tensorboard_if_installed(use, tmp_path, monkeypatch, installed):
    monkeypatch.setattr(module, "is_tensorboard_available", lambda: installed)
    use(Recorder, "tensorboard")
    Recorder.last = None
    mirrors = start_trackers(None, tmp_path, "study", {}, print)
    mirrors.finish()
    assert (Recorder.last is not None) == installed
    if installed:
        assert Recorder.last.calls[0] == ("made", "tensorboard", {"logging_dir": tmp_path})


def test_an_unknown_tracker_is_a_recipe_error():
    with pytest.raises(RecipeError, match=r"train\.trackers\.0 .*found 'tensorbord'\. Did you mean 'tensorboard'"):
        load_recipe(DEBUG, ["train.trackers=[tensorbord]"])


def test_trackers_do_not_change_the_hash_of_a_recipe():
    first, second = (load_recipe(DEBUG, settings).recipe for settings in ([], ["train.trackers=[wandb]"]))
    assert recipe_hash(first) == recipe_hash(second)


@pytest.mark.parametrize("kind", ["none", "recording", "raising"])
def test_training_is_identical_with_any_tracker(use, tmp_path, monkeypatch, capsys, kind):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    use({"recording": Recorder, "raising": failing("log")}.get(kind))
    written = {}
    for name, trackers in (("without", "[]"), ("with", "[]" if kind == "none" else "[wandb]")):
        api.train(DEBUG, out=tmp_path / name, overrides=[*SMALL, "train.steps=2", f"train.trackers={trackers}"])
        written[name] = [{**line, "time": 0} for line in lines(tmp_path / name)]
        written[name].append(Path(tmp_path, name, "result.json").read_text())
        written[name].append(Path(tmp_path, name, "checkpoints", "step-2", "model.safetensors").read_bytes())
    assert written["with"] == written["without"]
    output = capsys.readouterr().out
    assert output.count("warning: the tracker wandb") == (kind == "raising")
    if kind == "recording":
        logged = [call[1] for call in Recorder.last.calls if isinstance(call, tuple) and isinstance(call[0], int)]
        expected = {f"{line['split']}/{line['task']}/{line['metric']}" for line in lines(tmp_path / "with")}
        assert {name for values in logged for name in values} == expected
        assert Recorder.last.calls[-1] == "finished"
