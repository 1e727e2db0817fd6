"""Manifests by a stranger, whose hash is right: each is refused by name before a file that it lists is read."""

import json
import os

import pytest
from checkpoint_parts import IDENTITY, Run

from mmbert.checkpoint import manifest
from mmbert.checkpoint.manifest import verify
from mmbert.errors import IntegrityError


def replace_in(content, path, value):
    """The content with the value at a path of keys replaced, or removed where the value is ``...``."""
    key, *rest = path
    changed = {**content}
    if rest:
        changed[key] = replace_in(content[key], rest, value)
    elif value is ...:
        del changed[key]
    else:
        changed[key] = value
    return changed


CHANGES = [  # path of keys, new value
    (["step"], ...),
    (["step"], "2"),
    (["step"], -2),
    (["step"], 2.5),
    (["step"], True),
    (["step"], 10**30),
    (["step"], None),
    (["format"], 99),
    (["kind"], "weights"),
    (["kind"], ...),
    (["identity"], ...),
    (["identity"], ["recipe"]),
    (["identity"], {"recipe": 7}),
    (["files"], ...),
    (["files"], []),
    (["files"], {}),
    (["files", "../../../etc/passwd"], {"size": 1, "blake2b": "x"}),
    (["files", "/etc/passwd"], {"size": 1, "blake2b": "x"}),
    (["files", "evil.py"], {"size": 1, "blake2b": "x"}),
    (["files", "trainer.json"], None),
    (["files", "trainer.json"], {"size": "1", "blake2b": "x"}),
    (["files", "trainer.json"], {"size": 1}),
    (["files", "trainer.json"], ...),
]


@pytest.fixture
def checkpoint(tmp_path):
    return Run().train(2).save(tmp_path)


@pytest.mark.parametrize(("path", "value"), CHANGES)
def test_a_manifest_of_another_structure_is_refused(checkpoint, path, value):
    file = checkpoint / "manifest.json"
    content = json.loads(file.read_text())
    content.pop("blake2b")
    changed = replace_in(content, path, value)
    file.write_text(json.dumps({**changed, "blake2b": manifest._digest(changed)}))
    with pytest.raises(IntegrityError, match="manifest"):
        verify(checkpoint)


@pytest.mark.parametrize("name", ["manifest.json", "model.safetensors", "trainer.json"])
@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_is_no_regular_file_is_refused(checkpoint, tmp_path, name, kind):
    file = checkpoint / name
    if kind == "link":
        file.rename(tmp_path / "elsewhere")
        file.symlink_to(tmp_path / "elsewhere")
    else:
        file.unlink()
        (os.mkfifo if kind == "pipe" else os.mkdir)(file)
    with pytest.raises(IntegrityError, match=name):
        verify(checkpoint)


def test_a_manifest_of_absurd_size_is_not_read(checkpoint, monkeypatch):
    monkeypatch.setattr(manifest, "MAX_BYTES", 100)
    with pytest.raises(IntegrityError, match="at most"):
        verify(checkpoint)


def test_an_untouched_checkpoint_verifies(checkpoint):
    assert verify(checkpoint)["identity"] == IDENTITY
