"""Damaged checkpoints: each fault is reported by file, the one before is used instead, and nothing is changed."""

import json
import os
import pickle

import pytest
import torch
from checkpoint_parts import Run, names, same
from safetensors.torch import load_file, save_file

from mmbert.checkpoint import manifest
from mmbert.checkpoint.checkpoint import best, newest, verify
from mmbert.checkpoint.tensors import load_training, load_weights
from mmbert.errors import IntegrityError

FILES = sorted({*manifest.REQUIRED, "raw.safetensors", "manifest.json"})


@pytest.fixture(scope="module")
def run():
    return Run().train(2)


@pytest.fixture
def folder(run, tmp_path):
    """Two checkpoints in a run folder; the newer is for a test to damage."""
    folder = tmp_path / "checkpoints"
    run.save(folder, best=2)
    Run(seed=1).train(4).save(folder, best=4, keep=[2])
    return folder


def check_refused(folder, run, message):
    """Assert that every reader refuses the newer checkpoint with this message, and that the run is unchanged."""
    path, messages, before = folder / "step-4", [], run.state()
    for read in (
        lambda: verify(path),
        lambda: load_training(path, run.model, run.optimizer, run.average),
    ):
        with pytest.raises(IntegrityError, match=message) as raised:
            read()
        assert raised.value.exit_code == 6
    assert same(run.state(), before)
    assert newest(folder, messages.append) == folder / "step-2"
    assert best(folder.parent, messages.append) == folder / "step-2"
    assert messages == [f"the checkpoint step-4 is skipped: {raised.value}"] * 2


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_flipped_or_missing_file_is_named(folder, run, name):
    file = folder / "step-4" / name
    whole = file.read_bytes()
    assert len(whole) > 2
    os.truncate(file, len(whole) // 2)
    check_refused(folder, run, name)
    for place in (0, len(whole) // 2, len(whole) - 1):
        if whole[place] != ord("\n"):
            file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            check_refused(folder, run, name)
    file.write_bytes(whole + b"\0")
    check_refused(folder, run, name)
    file.unlink()
    check_refused(folder, run, name)
    file.mkdir()
    check_refused(folder, run, name)
    file.rmdir()
    file.write_bytes(whole)
    verify(folder / "step-4")


def test_every_flipped_bit_of_the_manifest_is_detected(folder):
    file = folder / "step-4" / "manifest.json"
    whole, before = file.read_bytes(), verify(folder / "step-4")
    with open(file, "r+b", buffering=0) as stream:
        for place, byte in enumerate(whole):
            for bit in range(8):
                os.pwrite(stream.fileno(), bytes([byte ^ (1 << bit)]), place)
                try:
                    content = manifest._read(folder / "step-4")
                except IntegrityError:
                    continue
                assert content == before  # white space
            os.pwrite(stream.fileno(), bytes([byte]), place)


def rewrite(path, **changes):
    """Change entries of a manifest and renew its digest, so that it is consistent in itself."""
    content = json.loads((path / "manifest.json").read_text()) | changes
    del content["blake2b"]
    content["blake2b"] = manifest._digest(content)
    (path / "manifest.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "another program's"}, "manifest.json' is not the manifest of a checkpoint of mmbert"),
        ({"step": 3}, r"manifest.json' is the manifest of step 3, but its folder is called 'step-4'"),
        ({"format": 2}, r"manifest.json' has format 2; this version of mmbert reads up to 1: update it"),
        ({"files": {}}, "manifest.json' does not list model.safetensors, optimizer.json, optimizer.safetensors"),
    ],
)
def test_a_foreign_or_newer_manifest_is_reported(folder, run, changes, message):
    rewrite(folder / "step-4", **changes)
    check_refused(folder, run, message)


@pytest.mark.parametrize("content", ["[1]", "null", "{}", "1", "[" * 100_000, "\udcff"])
def test_content_that_is_no_manifest_is_reported(folder, run, content):
    (folder / "step-4" / "manifest.json").write_bytes(content.encode(errors="surrogateescape"))
    check_refused(folder, run, "manifest.json")


def test_a_checkpoint_under_another_name_is_refused_and_a_link_is_not(folder):
    (folder / "last").symlink_to(folder / "step-4")
    assert verify(folder / "last")["step"] == 4
    (folder / "step-4").rename(folder / "step-5")
    with pytest.raises(IntegrityError, match="the manifest of step 4, but its folder is called 'step-5'"):
        verify(folder / "step-5")


def test_if_all_checkpoints_are_damaged_there_is_no_newest(folder):
    messages = []
    for path in (folder / "step-2", folder / "step-4"):
        (path / "trainer.json").write_text("{}")
    assert newest(folder, messages.append) is None
    assert [message.split()[2] for message in messages] == ["step-4", "step-2"]
    assert newest(folder / "nowhere", messages.append) is None
    with pytest.raises(IntegrityError, match=r"it has no manifest\.json"):
        verify(folder / "step-9")


def change_tensors(path, name, change):
    """Change the tensors of one file and renew the manifest, so that the checkpoint still verifies."""
    tensors = load_file(path / name)
    change(tensors)
    save_file(tensors, path / name)
    files = {file: manifest.storage.measure(path / file) for file in names(path) - {"manifest.json"}}
    rewrite(path, files=files)
    verify(path)


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("model", "weight"),
        ("model", "seen"),
        ("model", "frozen"),
        ("raw", "weight"),
        ("raw", "idle"),
        ("optimizer", "weight.exp_avg"),
        ("optimizer", "weight.exp_avg_sq"),
        ("optimizer", "weight.step"),
    ],
)
def test_a_missing_unknown_or_different_tensor_is_named_and_nothing_is_changed(folder, run, name, tensor):
    file, path, before = f"{name}.safetensors", folder / "step-4", run.state()
    whole = (path / file).read_bytes()
    for change, message in [
        (lambda tensors: tensors.pop(tensor), rf"missing \['{tensor}'\]"),
        (lambda tensors: tensors.update(strange=torch.zeros(2)), r"unknown \['strange'\]"),
        (lambda tensors: tensors.update({tensor: torch.zeros(7)}), rf"other shape \['{tensor}'\]"),
        (lambda tensors: tensors.update({tensor: tensors[tensor].double()}), rf"other number format \['{tensor}'\]"),
    ]:
        (path / file).write_bytes(whole)
        change_tensors(path, file, change)
        with pytest.raises(
            IntegrityError, match=rf"{name}\.safetensors' does not fit the recipe of the run: .*{message}"
        ):
            load_training(path, run.model, run.optimizer, run.average)
        if name == "model" and "format" not in message:
            with pytest.raises(IntegrityError, match=message):
                load_weights(path, run.model)
    assert same(run.state(), before)


def test_another_optimizer_or_average_is_reported_and_nothing_is_changed(folder, tmp_path):
    def groups(run):
        return run.optimizer.param_groups

    for change, message in [
        (lambda run: groups(run)[1].update(weight_decay=0.5), "group 1 has weight_decay 0.01, this run 0.5"),
        (lambda run: groups(run)[0].update(betas=(0.5, 0.9)), r"group 0 has betas \[0.9, 0.999\], this run \[0.5"),
        (lambda run: groups(run).pop(), "2 groups, this run has 1 groups"),
        (lambda run: groups(run)[0].update(params=[run.model.frozen]), r"parameters \['weight'\], this run \['frozen'"),
        (lambda run: setattr(run, "optimizer", torch.optim.SGD(groups(run))), "AdamW, this run has SGD"),
        (lambda run: setattr(run, "average", Run(0).average), r"saved with an average .* this run has train.ema=0"),
    ]:
        run = Run(seed=2).train(1)
        change(run)
        before = run.state()
        with pytest.raises(IntegrityError, match=message):
            load_training(folder / "step-4", run.model, run.optimizer, run.average)
        assert same(run.state(), before)
    plain = Run(0).train(1).save(tmp_path / "plain")
    with pytest.raises(IntegrityError, match=r"saved with no average of the weights, this run has train.ema=0.5"):
        load_training(plain, (run := Run()).model, run.optimizer, run.average)


class Bomb:
    def __reduce__(self):
        return os.abort, ()


def test_a_pickle_is_refused_and_never_run(folder, run):
    path = folder / "step-4"
    for name in FILES:
        if name == "manifest.json":
            continue
        whole = (path / name).read_bytes()
        (path / name).write_bytes(pickle.dumps(Bomb()))
        changes = {file: manifest.storage.measure(path / file) for file in names(path) - {"manifest.json"}}
        rewrite(path, files=changes)
        before = run.state()
        if name not in ("parts.json", "recipe.yaml", "processors.safetensors"):  # which training does not read
            with pytest.raises(IntegrityError, match=rf"{name}' cannot be read"):
                load_training(path, run.model, run.optimizer, run.average)
        assert same(run.state(), before)
        (path / name).write_bytes(whole)
