"""Saves that fail: earlier checkpoints stay intact, training continues, and three failures in a row end it."""

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


def check_intact(folder):
    assert names(folder) == {"step-1"}
    verify(folder / "step-1")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES])
def test_after_any_disk_error_the_old_checkpoint_is_intact_and_the_new_is_removed(tmp_path, monkeypatch, code):
    run = Run()
    run.mark(1).save(tmp_path, best=1)

    def failing(*arguments):
        raise OSError(code, os.strerror(code))

    for name in CALLS:
        with monkeypatch.context() as patch:
            patch.setattr(storage, name, failing)
            assert os.strerror(code) in attempt(lambda: run.mark(2).save(tmp_path, best=1))
        if name != "sync":  # fails in the new folder, too
            check_intact(tmp_path)
    assert attempt(lambda: run.mark(3).save(tmp_path, best=3)) is None
    assert names(tmp_path) == {"step-3"}


def test_a_file_size_limit_is_reported_and_leftovers_are_removed(tmp_path):
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
    check_intact(tmp_path)


def test_a_read_only_folder_is_reported():
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
        check_intact(folder)


def test_a_file_in_place_of_the_folder_is_reported(tmp_path):
    (tmp_path / "checkpoints").touch()
    assert "Not a directory" in attempt(lambda: Run().mark(1).save(tmp_path / "checkpoints"))
    assert "Not a directory" in attempt(lambda: Run().mark(1).save(tmp_path / "checkpoints" / "deeper"))


def test_the_third_failure_in_a_row_ends_the_run_and_a_success_resets_the_count():
    messages = []
    failed = FailedSaves(messages.append)
    assert [failed.record(reason) for reason in ("full", "full", None, "full", "gone")] == [
        False,
        False,
        True,
        False,
        False,
    ]
    assert len(messages) == 4  # one for each failure
    assert "could not be saved: gone. Training continues" in messages[-1]
    with pytest.raises(
        ResourceError, match="3 checkpoints in a row could not be saved, the last because of: broken"
    ) as e:
        failed.record("broken")
    assert e.value.exit_code == 5


def test_only_disk_errors_are_caught():
    def wrong():
        raise KeyError("a mistake of ours")

    with pytest.raises(KeyError):
        attempt(wrong)


def test_after_a_failed_save_training_continues_bit_for_bit(tmp_path, monkeypatch):
    def disk_full(*arguments):
        raise OSError(errno.ENOSPC, "full")

    run, undisturbed = Run().train(2), Run().train(2)
    with monkeypatch.context() as patch:
        patch.setattr(storage, "rename", disk_full)
        assert attempt(lambda: run.save(tmp_path / "one"))
    paths = [each.train(2).save(tmp_path / name) for each, name in ((run, "one"), (undisturbed, "two"))]
    assert newest(tmp_path / "one", print) == paths[0]
    for name in names(paths[0]):
        assert (paths[0] / name).read_bytes() == (paths[1] / name).read_bytes()
    load_weights(paths[0], undisturbed.model)


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.EIO])
def test_a_disk_that_cannot_sync_folders_is_accepted_and_one_that_cannot_sync_files_is_not(tmp_path, monkeypatch, code):
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
