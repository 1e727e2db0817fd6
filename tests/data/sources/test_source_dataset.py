"""The source of prepared data sets: building, caching and progress."""

import json
import multiprocessing
import pickle

import pandas as pd
import pytest
from data_parts import Letters, Photo, all_samples, fields

from mmbert.contracts import Builder
from mmbert.data.sources.dataset import DatasetSource, prepare
from mmbert.errors import DataError
from mmbert.io.cache import progress


class Shapes(Builder):
    """Names and pictures of shapes."""

    version = "1"
    key = "code"
    group = "family"
    columns = {"code": "a number", "name": "what it is called", "photo": "its picture", "family": "its kind"}  # noqa: RUF012

    def __init__(self, *, rows: int = 30, fail: bool = False):
        self.rows, self.fail, self._built = rows, fail, 0

    def build(self, folder, progress):
        self._built += 1
        (folder / "photos").mkdir()
        with (folder / "log").open("a") as log:
            log.write("built\n")
        for row in range(self.rows):
            (folder / "photos" / f"{row}.png").write_bytes(b"png")
            progress((row + 1) / self.rows)
        if self.fail:
            raise OSError("no space")
        rows = range(self.rows)
        return pd.DataFrame(
            {
                "code": rows,
                "name": [f"shape {row}" if row else None for row in rows],
                "photo": [f"photos/{row}.png" for row in rows],
                "family": [row % 10 for row in rows],
            }
        )


def source(builder, **options):
    return DatasetSource("shapes", {**fields(Letters, "name"), **fields(Photo, "photo")}, {}, builder, **options)


def test_samples_have_inputs_and_attributes_of_their_row(cache):
    samples = all_samples(source(Shapes()))
    folder = next((cache / "datasets").glob("shapes-*[0-9a-f]"))
    assert samples[0].inputs == {"photo": str(folder / "photos" / "0.png")}
    assert samples[7].inputs["name"] == "shape 7"
    assert dict(samples[7].attributes) == {"where": "row 8, code 7", "row": 8, "key": "7", "group": 7}


def test_the_builder_defines_key_and_group():
    data = source(Shapes())
    groups = [{sample.attributes["group"] for sample in data.split(name)} for name in ("train", "validation", "test")]
    assert sum(map(len, groups)) == 10
    by_name = source(Shapes(), group="name", split_seed=3)
    assert by_name.split("train")[1].attributes["group"].startswith("shape")


def test_a_data_set_is_built_once_for_the_same_options(cache):
    builder = Shapes()
    assert prepare(builder) == prepare(builder) == prepare(Shapes())
    assert builder._built == 1
    assert prepare(Shapes(rows=5)) != prepare(Shapes())
    assert len([*(cache / "datasets").iterdir()]) == 4  # two folders and their locks


def test_a_new_version_is_built_anew(monkeypatch):
    first = prepare(Shapes())
    monkeypatch.setattr(Shapes, "version", "2")
    assert prepare(Shapes()) != first


def test_a_failed_build_leaves_nothing(cache):
    with pytest.raises(OSError, match="no space"):
        prepare(Shapes(fail=True))
    assert [path for path in (cache / "datasets").iterdir() if path.is_dir()] == []


def test_leftovers_of_a_killed_build_are_removed(cache):
    folder = prepare(Shapes())
    folder.rename(folder.with_name(f"{folder.name}.partial"))
    assert prepare(Shapes()) == folder
    assert (folder / "log").read_text() == "built\n"


def test_two_processes_build_once():
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=prepare, args=(Shapes(rows=2000),)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert (prepare(Shapes(rows=2000)) / "log").read_text() == "built\n"


def test_a_missing_declared_column_is_refused(monkeypatch):
    monkeypatch.setattr(Shapes, "key", "cod")
    with pytest.raises(
        DataError, match=r"shapes: there is no column 'cod', as 'its builder' says. Did you mean 'code'"
    ):
        prepare(Shapes())


def test_the_source_can_be_pickled():
    split = all_samples(source(Shapes()))
    assert pickle.loads(pickle.dumps(split))[3] == split[3]


def test_parts_are_plain_json():
    assert json.loads((prepare(Shapes()) / "parts.json").read_text()) == [["", 30]]


def test_progress_prints_a_line_at_each_tenth(capsys):
    with progress("preparing shapes") as tell:
        for done in range(101):
            tell(done / 100)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"preparing shapes: {tenth}0 %" for tenth in range(1, 11)]


def test_progress_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with progress("preparing shapes") as tell:
        tell(1.0)
    assert "preparing shapes" in capsys.readouterr().err
