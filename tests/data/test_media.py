"""Media paths: only files inside the root can be read."""

import pytest

from mmbert.data.columns import resolve_media_path
from mmbert.errors import SampleError


@pytest.fixture
def root(tmp_path):
    (tmp_path / "media" / "deep").mkdir(parents=True)
    (tmp_path / "media" / "deep" / "a.png").write_bytes(b"")
    (tmp_path / "media-other").mkdir()
    (tmp_path / "media-other" / "secret").write_bytes(b"")
    return tmp_path / "media"


def test_paths_inside_the_root_are_accepted(root):
    expected = str(root / "deep" / "a.png")
    (root / "link.png").symlink_to(root / "deep" / "a.png")
    for path in ("deep/a.png", "./deep/../deep/a.png", expected, "link.png"):
        assert resolve_media_path(path, root) == expected


def test_the_root_may_be_a_link(root, tmp_path):
    (tmp_path / "alias").symlink_to(root)
    assert resolve_media_path("deep/a.png", tmp_path / "alias") == str(root / "deep" / "a.png")
    assert resolve_media_path(str(tmp_path / "alias" / "deep" / "a.png"), tmp_path / "alias") == str(
        root / "deep" / "a.png"
    )


def test_paths_outside_the_root_are_refused(root):
    (root / "link").symlink_to(root.parent / "media-other")
    for path in ("../media-other/secret", str(root.parent / "media-other" / "secret"), "link/secret", "/etc/passwd"):
        with pytest.raises(SampleError, match="leads out of"):
            resolve_media_path(path, root)


@pytest.mark.parametrize("path", ["b.png", "deep/a.png/b", "a\0b", "deep", "../nothing", "x" * 5000, ""])
def test_a_path_that_is_no_file_is_refused(root, path):
    with pytest.raises(SampleError, match=r"there is no file|is not the path of a file|is not a file"):
        resolve_media_path(path, root)


def test_without_a_root_media_are_refused():
    with pytest.raises(SampleError, match="Set 'media'"):
        resolve_media_path("a.png", None)
