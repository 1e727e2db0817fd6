"""The run folder: atomic files, an append-only log, and no leftovers of an earlier run."""

import json
import os

import pytest
from train_parts import DEBUG

from mmbert.errors import DataError, IntegrityError
from mmbert.tracking.run_folder import RunFolder, read_log


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "deep" / "run", writes=True)


def lines(folder):
    return [json.loads(line) for line in (folder.path / "metrics.jsonl").read_text().splitlines()]


def test_each_value_is_logged_on_its_own_line(folder):
    folder.log(3, "train", {"kind": {"loss": 0.1}, "amount": {"loss": 1 / 3}})
    folder.log(4, "validation", {"kind": {"accuracy": 1.0, "log_loss": 0.25}, "all": {"skill": -0.5}})
    logged = lines(folder)
    assert [{key: line[key] for key in line if key != "time"} for line in logged] == [
        {"step": 3, "split": "train", "task": "kind", "metric": "loss", "value": 0.1},
        {"step": 3, "split": "train", "task": "amount", "metric": "loss", "value": 1 / 3},
        {"step": 4, "split": "validation", "task": "kind", "metric": "accuracy", "value": 1.0},
        {"step": 4, "split": "validation", "task": "kind", "metric": "log_loss", "value": 0.25},
        {"step": 4, "split": "validation", "task": "all", "metric": "skill", "value": -0.5},
    ]
    assert all(0 <= line["time"] < 60 for line in logged)


def test_a_file_is_replaced_as_a_whole(folder, monkeypatch):
    folder.write("result.json", {"name": "Zürich", "value": 1})
    assert json.loads((folder.path / "result.json").read_text(encoding="utf-8")) == {"name": "Zürich", "value": 1}

    def die(*_):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", die)
        with pytest.raises(OSError, match="no space"):
            folder.write("result.json", {"value": 2})
    assert json.loads((folder.path / "result.json").read_text(encoding="utf-8"))["value"] == 1
    folder.write("recipe.yaml", "name: x\n")
    assert (folder.path / "recipe.yaml").read_text() == "name: x\n"
    folder.write("result.json", {"value": 3})
    assert sorted(file.name for file in folder.path.iterdir()) == ["recipe.yaml", "result.json"]


def test_only_the_main_process_writes(tmp_path):
    folder = RunFolder(tmp_path / "run", writes=False)
    folder.clear()
    folder.write("recipe.yaml", "name: x\n")
    folder.log(1, "train", {"kind": {"loss": 0.1}})
    assert not folder.path.exists()


def test_an_earlier_run_is_kept_until_the_new_one_begins_to_write(folder):
    folder.write("recipe.yaml", "name: old\n")
    folder.write("result.json", {"value": 1})
    folder.log(1, "train", {"kind": {"loss": 0.1}})
    folder.checkpoints.mkdir(parents=True)
    again = RunFolder(folder.path, writes=True)  # the new run may still fail while it reads the data
    assert (again.path / "result.json").exists()
    assert again.checkpoints.exists()
    again.clear()
    assert sorted(file.name for file in again.path.iterdir()) == ["checkpoints", "recipe.yaml"]
    again.log(1, "train", {"kind": {"loss": 0.2}})
    assert [line["value"] for line in lines(again)] == [0.2]


def test_an_error_in_the_data_leaves_earlier_results(folder, monkeypatch):
    from mmbert import api
    from mmbert.training import trainer

    def fail(recipe):
        raise DataError("no such file")

    folder.claim()
    folder.write("recipe.yaml", "name: old\n")
    folder.write("result.json", {"value": 1})
    monkeypatch.setattr(trainer, "build", fail)
    with pytest.raises(DataError):
        api.train(DEBUG, out=folder.path)
    assert json.loads((folder.path / "result.json").read_text()) == {"value": 1}
    assert (folder.path / "recipe.yaml").read_text() == "name: old\n"


@pytest.mark.parametrize(
    "files",
    [
        ["thesis.tex"],
        ["recipe.yaml", "metrics.jsonl", "checkpoints/weights.bin"],  # named like those of a run
        [".hidden"],
        ["status.json", "result.json"],
    ],
    ids=lambda files: files[0],
)
def test_a_folder_without_the_marker_is_refused_and_not_changed(tmp_path, files):
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("years of work")
    before = {path: path.is_file() and path.read_text() for path in tmp_path.rglob("*")}
    with pytest.raises(IntegrityError, match=f"--out '{tmp_path}' must be missing, empty, or a run of mmbert"):
        RunFolder(tmp_path, writes=True).claim()
    assert {path: path.is_file() and path.read_text() for path in tmp_path.rglob("*")} == before


def test_a_marked_folder_and_an_empty_one_are_accepted(tmp_path):
    RunFolder(tmp_path, writes=True).claim()
    RunFolder(tmp_path, writes=True).write("recipe.yaml", "name: x\n")
    RunFolder(tmp_path, writes=True).claim()
    RunFolder(tmp_path / "deep" / "er", writes=True).claim()
    assert (tmp_path / "deep" / "er" / ".mmbert").is_file()


@pytest.mark.parametrize("content", ['{"kind": "study"}', "", "[1]", "\0\xff"])
def test_a_marker_of_something_else_is_none(tmp_path, content):
    (tmp_path / ".mmbert").write_text(content)
    with pytest.raises(IntegrityError, match="no marker file"):
        RunFolder(tmp_path, writes=True).claim()


def test_lines_that_did_not_fit_on_a_full_disk_are_written_later(folder, monkeypatch):
    folder.log(1, "train", {"kind": {"loss": 0.1}})
    before = (folder.path / "metrics.jsonl").read_bytes()

    class Full:
        """A file that takes some bytes before the disk is full."""

        def __init__(self, path, mode):
            self.file = path.open(mode)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def tell(self):
            return self.file.tell()

        def write(self, content):
            self.file.write(content[:5])
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", Full)
        folder.log(2, "train", {"kind": {"loss": 0.2}})
        folder.log(3, "train", {"kind": {"loss": 0.3}})
    assert (folder.path / "metrics.jsonl").read_bytes() == before
    folder.log(4, "train", {"kind": {"loss": 0.4}})
    assert [line["step"] for line in lines(folder)] == [1, 2, 3, 4]


def test_rewinding_drops_an_evaluation_that_will_be_repeated(folder):
    for step in (1, 2, 3):
        folder.log(step, "train", {"kind": {"loss": 0.1}})
    folder.log(2, "validation", {"kind": {"accuracy": 0.5}})
    folder.log(2, "test", {"kind": {"accuracy": 0.5}})
    folder.rewind(read_log(folder.path), 2, evaluated=True)
    assert [(line["step"], line["split"]) for line in lines(folder)] == [(1, "train"), (2, "train"), (2, "validation")]
    folder.rewind(read_log(folder.path), 2, evaluated=False)
    assert [(line["step"], line["split"]) for line in lines(folder)] == [(1, "train"), (2, "train")]
