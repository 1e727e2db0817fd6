"""Outputs that a user names: only a regular file is written, and one that exists only on request."""

import os

import pytest

from mmbert.errors import RecipeError
from mmbert.io.output import check_output, output_path


def test_an_existing_file_is_replaced_only_on_request(tmp_path):
    path = tmp_path / "predictions.jsonl"
    path.write_text("of yesterday")
    with pytest.raises(RecipeError, match="exists: --overwrite replaces it"):
        check_output(path, overwrite=False)
    with output_path(path, overwrite=True) as temporary:
        temporary.write_text("of today")
    assert path.read_text() == "of today"
    assert [file.name for file in tmp_path.iterdir()] == ["predictions.jsonl"]


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path):
    path = tmp_path / "predictions.jsonl"

    def write():
        with output_path(path, overwrite=False) as temporary:
            temporary.write_text("ours")
            path.write_text("of another program")

    with pytest.raises(RecipeError, match="exists"):
        write()
    assert path.read_text() == "of another program"


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo], ids=["folder", "pipe"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_no_regular_file_is_refused(tmp_path, make, overwrite):
    make(tmp_path / "target")
    with pytest.raises(RecipeError, match=r"must be a file; it is (a folder|neither)"):
        check_output(tmp_path / "target", overwrite=overwrite)
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(RecipeError, match="must be a file"):
        check_output(tmp_path / "link", overwrite=overwrite)


@pytest.mark.parametrize("device", ["/dev/null", "/dev/zero", "/dev/full"])
def test_a_device_is_refused(device):
    with pytest.raises(RecipeError, match="it is a device"):
        check_output(device, overwrite=True)


def test_a_link_is_followed_and_stays_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    link = tmp_path / "predictions.jsonl"
    link.symlink_to(tmp_path / "disk" / "real.jsonl")
    with output_path(link, overwrite=False) as temporary:
        temporary.write_text("rows")
    assert link.is_symlink()
    assert (tmp_path / "disk" / "real.jsonl").read_text() == "rows"


@pytest.mark.parametrize("way", ["same", "link", "hard link", "dots"])
def test_the_input_is_never_the_output(tmp_path, way):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("{}")
    output = tmp_path / "other.jsonl"
    if way == "link":
        output.symlink_to(rows)
    elif way == "hard link":
        output.hardlink_to(rows)
    else:
        output = rows if way == "same" else tmp_path / "x" / ".." / "rows.jsonl"
    with pytest.raises(RecipeError, match="is the input"):
        check_output(output, overwrite=True, inputs=[rows])
    assert rows.read_text() == "{}"


def test_files_with_the_names_of_temporary_ones_stay(tmp_path):
    neighbours = ["out.jsonl.tmp", ".out.jsonl.tmp", "out.jsonl.lock", "out.jsonl~"]
    for name in neighbours:
        (tmp_path / name).write_text("mine")
    with output_path(tmp_path / "out.jsonl", overwrite=False) as temporary:
        temporary.write_text("rows")
    assert all((tmp_path / name).read_text() == "mine" for name in neighbours)
