"""Files, folders and patterns that a path names."""

import pytest
from data_parts import Anything as Any
from data_parts import all_samples, fields

from mmbert.data.find_files import find_files
from mmbert.data.sources.files import FilesSource
from mmbert.errors import DataError


@pytest.fixture
def parts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "parts" / "inner").mkdir(parents=True)
    for name, cells in (("b.csv", "3"), ("a.csv", "1\n2"), ("_SUCCESS", ""), (".a.csv", "9"), ("inner/c.csv", "4")):
        (tmp_path / "parts" / name).write_text(f"x\n{cells}\n")
    (tmp_path / "parts" / "readme.txt").write_text("x")
    return tmp_path


@pytest.mark.parametrize(
    ("paths", "cells"),
    [
        (["parts"], [1, 2, 3]),
        (["parts/"], [1, 2, 3]),
        (["parts/*.csv"], [1, 2, 3]),
        (["parts/**/*.csv"], [1, 2, 3, 4]),
        (["parts/[b].csv", "parts/a.cs?"], [3, 1, 2]),
        (["parts/b.csv", "parts/inner"], [3, 4]),
    ],
)
def test_folders_and_patterns_are_read(parts, paths, cells):
    data = FilesSource("shop", fields(Any, "x"), {}, path=paths)
    assert [sample.inputs["x"] for sample in all_samples(data)] == cells
    assert all(sample.attributes["where"].startswith("parts/") for sample in all_samples(data))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("parts/*.tsv", r"no file matches 'parts/\*.tsv' in '.*'"),
        ("parts/A.csv", "there is no file 'parts/A.csv' in '.*parts'. Did you mean 'a.csv'"),
        ("part/a.csv", "there is no folder '.*part'"),
        ("empty", "the folder 'empty' has no file that ends in .csv"),
        ("outer", r"no file .*Folders in it are not searched: 'path: FOLDER/\*\*/"),
    ],
)
def test_what_is_not_there_is_named_with_the_folder_searched(parts, path, message):
    (parts / "empty").mkdir()
    (parts / "outer" / "inner").mkdir(parents=True)
    with pytest.raises(DataError, match=f"shop: .*{message}"):
        find_files("shop", [path])
