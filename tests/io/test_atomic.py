"""Atomic writes: a complete file or none, and no other files in the folder."""

import os
import stat

import pytest

from mmbert.io.atomic import atomic_path, write_atomically


@pytest.mark.parametrize("content", ["größer\r\n", b"\x00\xff"])
def test_a_file_holds_what_was_written(tmp_path, content):
    path = tmp_path / "new" / "file.txt"
    for _ in range(2):
        write_atomically(path, content)
        assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
        assert os.listdir(path.parent) == ["file.txt"]


def test_an_error_leaves_the_old_content(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def write_half():
        with atomic_path(path) as temporary:
            temporary.write_text("half of the new")
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        write_half()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_two_writers_do_not_disturb_each_other(tmp_path):
    path = tmp_path / "file.txt"
    with atomic_path(path) as first, atomic_path(path) as second:
        first.write_text("first")
        second.write_text("second")
        assert first.parent == second.parent == tmp_path
    assert path.read_text() == "first"  # it was renamed last
    assert os.listdir(tmp_path) == ["file.txt"]


def test_a_file_has_the_usual_permissions(tmp_path):
    (tmp_path / "plain").touch()
    write_atomically(tmp_path / "atomic", "")
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "atomic")}
    assert len(modes) == 1
