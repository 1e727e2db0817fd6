"""Side files are never trusted more than checkpoints: damage costs a warning and a line, not the resume."""

import json
import shutil
from pathlib import Path

import pytest
from train_parts import DEBUG

from mmbert import api
from mmbert.errors import IntegrityError
from mmbert.tracking.run_folder import RunFolder, read_json, read_log
from mmbert.tracking.status import REFRESH, Status, lock_run_folder

SHORT = ["train.steps=2", "evaluate.every=1", "evaluate.baselines=false"]
INPUTS = [f"inputs.{name}=null" for name in ("image", "sound", "series", "graph")]
LINE = {"step": 1, "time": 0.5, "split": "train", "task": "kind", "metric": "loss", "value": 0.1}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    api.train(DEBUG, overrides=[*SHORT, *INPUTS], out=folder)
    return folder


@pytest.mark.parametrize(
    "damage",
    [b"{\n", b"[1, 2]\n", b"null\n", b'{"step": "1"}\n', b"\xff\xfe\n", b'{"step": 1, "time"', b"[" * 5000 + b"\n"],
    ids=["cut", "list", "null", "text", "no text", "unfinished", "deep"],
)
def test_a_damaged_line_costs_that_line(tmp_path, damage):
    good = json.dumps(LINE).encode() + b"\n"
    messages = []
    (tmp_path / "metrics.jsonl").write_bytes(good + damage + (good if damage.endswith(b"\n") else b""))
    lines = read_log(tmp_path, messages.append)
    assert lines == [LINE] * (2 if damage.endswith(b"\n") else 1)
    assert [message.endswith("the damaged line 2 is left out") for message in messages] == (
        [True] if damage.endswith(b"\n") else []
    )


@pytest.mark.parametrize(
    "name", ["result.json", "data.json", "env.json", "metrics.jsonl", "events.jsonl", "status.json"]
)
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'"x"', b"\x00\xff", b"{}\n[3]\n"], ids=repr)
def test_a_finished_run_with_a_damaged_file_can_be_continued(finished, tmp_path, name, content):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    expected = read_json(run / "result.json")
    (run / name).write_bytes(content)
    assert api.train(DEBUG, overrides=[*SHORT, *INPUTS], out=run) == expected


def test_the_status_tells_the_step_while_the_run_goes_on(tmp_path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("mmbert.tracking.status.time.monotonic", lambda: clock[0])
    folder, status = RunFolder(tmp_path / "run", writes=True), Status()
    folder.claim()
    status.write(folder)
    for seconds, step, written in ((1, 1, 0), (REFRESH, 2, 2), (2, 3, 2), (REFRESH, 4, 4)):
        clock[0] += seconds
        status.advance(folder, step)
        assert status.step == step
        assert read_json(folder.path / "status.json")["step"] == written


def test_a_removed_run_folder_is_noticed_and_not_made_again(tmp_path):
    folder = RunFolder(tmp_path / "run", writes=True)

    def run():
        with lock_run_folder(folder):
            shutil.rmtree(folder.path)
            folder.log(1, "train", {"kind": {"loss": 0.1}})
            raise folder.vanished() or AssertionError

    with pytest.raises(IntegrityError, match="was removed"):
        run()
    assert not folder.path.exists()


def test_training_ends_where_its_folder_is_removed(tmp_path, monkeypatch):
    folder = tmp_path / "run"

    def remove(self, step, losses):
        shutil.rmtree(folder)

    monkeypatch.setattr("mmbert.tracking.console.Console.step", remove)
    with pytest.raises(IntegrityError, match=f"'{folder}' was removed"):
        api.train(DEBUG, overrides=["train.steps=3", "evaluate.every=3", *INPUTS], out=folder)
    assert not Path(folder).exists()
