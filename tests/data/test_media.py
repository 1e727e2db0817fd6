"""Media paths: only files inside the root can be read."""

import pytest

from mmbert.data.media_paths import resolve_media_path, resolve_media_value
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


WRAPS = {
    "path": lambda path: path,
    "dict": lambda path: {"path": path},
    "image of the hub": lambda path: {"bytes": None, "path": path},
    "sound of the hub": lambda path: {"array": None, "path": path, "sampling_rate": 8000},
    "list": lambda path: [path],
    "list of dicts": lambda path: [{"path": path}, "deep/a.png"],
}


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
def test_paths_inside_values_go_through_the_same_guard(root, wrap):
    expected = str(root / "deep" / "a.png")
    assert resolve_media_value(wrap("deep/a.png"), root) == resolve_media_value(wrap(expected), root)
    assert expected in str(resolve_media_value(wrap("deep/a.png"), root))
    for path in ("/etc/passwd", "../media-other/secret"):
        with pytest.raises(SampleError, match="leads out of"):
            resolve_media_value(wrap(path), root)


@pytest.mark.parametrize(
    "value",
    [{"bytes": b"x", "path": "/etc/passwd"}, {"array": [0.5], "path": "/x"}, [0.5, 1.0], b"bytes", {"nodes": [1]}],
)
def test_what_names_no_file_stays(root, value):
    assert resolve_media_value(value, root) == value


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("https://example.org/cat.jpg", "a URL"),
        ("s3://bucket/cat.jpg", "a URL"),
        ("data:image/png;base64,iVBORw0KGgo" + "A" * 5000, "a data URI"),
        ("/9j/4AAQSkZJRgABAQAAAQABAAD/2wBD" + "A" * 5000, "this looks like base64"),
        ("iVBORw0KGgoAAAANSUhEUgAA", "this looks like base64"),
        ("deep\\a.png", "a path of Windows, write '/'. Did you mean 'deep/a.png'?"),
        ("C:\\photos\\a.png", "a path of Windows"),
        ("Deep/A.PNG", "Did you mean 'deep/a.png'?"),
        ("deep/a.png ", "it has blanks at its ends. Did you mean 'deep/a.png'?"),
        ("deep/b.png", "Did you mean 'deep/a.png'?"),
    ],
)
def test_what_looks_like_something_else_is_explained_in_a_line(root, value, hint):
    with pytest.raises(SampleError) as caught:
        resolve_media_path(value, root)
    assert hint in str(caught.value)
    assert len(str(caught.value)) < 300 + len(str(root))
