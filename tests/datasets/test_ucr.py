"""UCR problems: reading the .ts format with the published split."""

import hashlib
import math
import zipfile

import numpy as np
import pytest

from mmbert.datasets.ucr import UCR, parse_ts, read_problem
from mmbert.errors import IntegrityError, RecipeError
from mmbert.io.download import Package, fetch

HEADER = ["#comment", "%another", "@problemName X", "", "@timeStamps false", "@classLabel true a b", "@data", ""]


def written(series, label):
    channels = zip(*series, strict=True)
    cells = (",".join("?" if math.isnan(value) else repr(value) for value in channel) for channel in channels)
    return ":".join([*cells, label])


def wheel(folder, files):
    path = folder / "aeon-1.6.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as file:
        for name, lines in files.items():
            file.writestr(f"aeon/datasets/data/{name.rpartition('_')[0]}/{name}.ts", "\n".join(lines))
    return path


@pytest.fixture
def archive(tmp_path):
    numbers = ["@targetlabel true", "@data", "1,2:3:0.5"]
    files = {
        "Steps_TRAIN": [*HEADER, "1,2,3:a", "4,5:b"],
        "Steps_TEST": [*HEADER, "6:a"],
        "Number_TRAIN": [line.replace("3:", "3,4:") for line in numbers],
        "Number_TEST": [line.replace("3:", "5,6:") for line in numbers],
        "Half_TRAIN": [*HEADER, "1:a"],
    }
    return wheel(tmp_path, files)


def test_what_is_written_is_read_back():
    rng = np.random.default_rng(0)
    for channels in (1, 3):
        cases = [rng.normal(size=(length, channels)).tolist() for length in (1, 4, 9)]
        cases[1][2][0] = math.nan
        column, rows = parse_ts(
            [*HEADER, *(written(case, label) for case, label in zip(cases, "aba", strict=True))], "x"
        )
        assert column == "label"
        assert [label for _, label in rows] == ["a", "b", "a"]
        for case, (series, _) in zip(cases, rows, strict=True):
            np.testing.assert_array_equal(np.array(series), np.array(case))


def test_the_published_split_and_unequal_lengths(archive):
    frame = read_problem(archive, "Steps")
    assert list(frame["split"]) == ["train", "train", "test"]
    assert list(frame["label"]) == ["a", "b", "a"]
    assert frame["series"].map(len).tolist() == [3, 2, 1]
    assert frame["id"].tolist() == ["train-0", "train-1", "test-0"]


def test_a_problem_of_regression_has_a_value(archive):
    frame = read_problem(archive, "Number")
    assert frame["value"].tolist() == [0.5, 0.5]
    assert frame["series"][0] == [[1.0, 3.0], [2.0, 4.0]]
    assert frame["label"].isna().all()
    assert read_problem(archive, "Steps")["value"].isna().all()


@pytest.mark.parametrize("problem", ["Step", "Half"])
def test_an_unknown_or_incomplete_problem_is_refused_with_the_known_ones(archive, problem):
    with pytest.raises(RecipeError, match="Valid: Number, Steps"):
        read_problem(archive, problem)


def test_the_nearest_problem_is_named(archive):
    with pytest.raises(RecipeError, match="Did you mean 'Steps'"):
        read_problem(archive, "Step")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([*HEADER, "1,2:3:a"], r"x, case 0: expected channels of one length, found \[2, 1\]"),
        (["@timeStamps True", "@classLabel true a", "@data", "(0,1):a"], "gives a time"),
        (["@classLabel false", "@data", "1,2"], "has no labels"),
    ],
)
def test_files_that_are_no_labelled_series_are_refused(lines, message):
    with pytest.raises(IntegrityError, match=message):
        parse_ts(lines, "x")


def test_the_builder_reads_the_package_in_the_cache(archive, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    monkeypatch.setattr(UCR, "package", Package("wheel", "aeon", "1.6.0", digest, "BSD-3-Clause"))
    fetch(UCR.package, source=archive)
    frame = UCR(problem="Steps").build(tmp_path, lambda done: None)
    assert list(frame.columns) == list(UCR.columns)
    assert frame["id"].is_unique
