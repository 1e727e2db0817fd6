"""A disk that fails: earlier checkpoints are intact, training goes on, and the third failure in a row ends it."""

import errno
import os
import resource
import tempfile
from pathlib import Path

import pytest
import torch
from checkpoint_parts import Run, names

from mmbert.checkpoint.checkpoint import FailedSaves, attempt, newest, verify
from mmbert.checkpoint.tensors import load_weights
from mmbert.errors import ResourceError
from mmbert.io import storage

CALLS = ["make_folder", "write", "write_tensors", "measure", "rename", "sync"]


def intact(folder):
    assert names(folder) == {"step-1"}
    verify(folder / "step-1")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES])
def test_whatever_the_disk_says_the_old_is_intact_and_the_new_is_tidied(tmp_path, monkeypatch, code):
    run = Run()
    run.mark(1).save(tmp_path, best=1)

    def failing(*given):
        raise OSError(code, os.strerror(code))

    for name in CALLS:
        with monkeypatch.context() as patch:
            patch.setattr(storage, name, failing)
            assert os.strerror(code) in attempt(lambda: run.mark(2).save(tmp_path, best=1))
        if name != "sync":  # which fails in the new folder, too
            intact(tmp_path)
    assert attempt(lambda: run.mark(3).save(tmp_path, best=3)) is None
    assert names(tmp_path) == {"step-3"}


def test_a_disk_that_takes_no_more_bytes_is_told_and_tidied(tmp_path):
    run, tensors = Run(), {"large": torch.zeros(1000)}
    run.mark(1).save(tmp_path, best=1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            storage.write_tensors(tmp_path / "large.safetensors", tensors)
        with pytest.raises(OSError, match="File too large"):
            storage.write(tmp_path / "large", b"x" * 2000)
        (tmp_path / "large").unlink()
        (tmp_path / "large.safetensors").unlink()
        assert "File too large" in attempt(lambda: run.mark(2).save(tmp_path, best=1))  # its manifest has more
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    intact(tmp_path)


def test_a_read_only_folder_is_told():
    run, user = Run(), os.geteuid()
    with tempfile.TemporaryDirectory() as name:  # others may look into it
        folder = Path(name)
        run.mark(1).save(folder, best=1)
        folder.chmod(0o555)
        try:
            if user == 0:
                os.seteuid(65534)  # root may write everywhere, nobody may not
            assert "Permission denied" in attempt(lambda: run.mark(2).save(folder, best=1))
        finally:
            os.seteuid(user)
            folder.chmod(0o755)
        intact(folder)


def test_a_file_where_the_folder_should_be_is_told(tmp_path):
    (tmp_path / "checkpoints").touch()
    assert "Not a directory" in attempt(lambda: Run().mark(1).save(tmp_path / "checkpoints"))
    assert "Not a directory" in attempt(lambda: Run().mark(1).save(tmp_path / "checkpoints" / "deeper"))


def test_the_third_failure_in_a_row_ends_the_run_and_a_success_in_between_counts():
    messages = []
    failed = FailedSaves(messages.append)
    assert [failed.note(reason) for reason in ("full", "full", None, "full", "gone")] == [
        False,
        False,
        True,
        False,
        False,
    ]
    assert len(messages) == 4  # each once
    assert "could not be saved: gone. Training continues" in messages[-1]
    with pytest.raises(
        ResourceError, match="3 checkpoints in a row could not be saved, the last because of: broken"
    ) as e:
        failed.note("broken")
    assert e.value.exit_code == 5


def test_only_the_disk_counts():
    def wrong():
        raise KeyError("a mistake of ours")

    with pytest.raises(KeyError):
        attempt(wrong)


def test_training_goes_on_as_if_nothing_had_failed(tmp_path, monkeypatch):
    run, other = Run().train(2), Run().train(2)
    with monkeypatch.context() as patch:
        patch.setattr(storage, "rename", lambda *given: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
        assert attempt(lambda: run.save(tmp_path / "one"))
    paths = [which.train(2).save(tmp_path / name) for which, name in ((run, "one"), (other, "two"))]
    assert newest(tmp_path / "one", print) == paths[0]
    for name in names(paths[0]):
        assert (paths[0] / name).read_bytes() == (paths[1] / name).read_bytes()
    load_weights(paths[0], other.model)


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.EIO])
def test_a_disk_that_syncs_no_folders_is_fine_and_one_that_syncs_no_files_is_not(tmp_path, monkeypatch, code):
    (tmp_path / "file").touch()

    def failing(handle):
        raise OSError(code, "made up")

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(OSError, match="made up"):
        storage.sync(tmp_path / "file")
    if code == errno.EIO:
        with pytest.raises(OSError, match="made up"):
            storage.sync(tmp_path)
    else:
        storage.sync(tmp_path)
