"""What a column is: by its cells, as the recipe says, or as training had it."""

import json

import pyarrow as pa
import pytest

from mmbert.data.column_types import read_done
from mmbert.data.read_options import ReadOptions
from mmbert.data.readers import read_tables
from mmbert.errors import DataError, RecipeError


def column(folder, cells, options=None, name="a.csv"):
    """The cells of a column x as they are read, and what was done to them."""
    path = folder / name
    if name.endswith(".jsonl"):
        path.write_text("\n".join(json.dumps({"x": cell}) for cell in cells))
    else:
        path.write_text("x,y\n" + "".join(f'"{cell}",1\n' for cell in cells))
    ((_, table),) = read_tables([path], options or ReadOptions())
    return table["x"].to_pylist(), read_done(table.schema.field("x"))


@pytest.mark.parametrize("word", ["NA", "N/A", "null", "NULL", "?", "na", "n/a"])
def test_words_for_missing_numbers(tmp_path, word):
    cells, done = column(tmp_path, ["1", word, "3", word])
    assert cells == [1, None, 3, None]
    assert done["missing"] == {word: 2}
    assert column(tmp_path, ["a", word])[0] == ["a", word]
    assert column(tmp_path, ["true", word])[0] == ["true", word]


def test_nan_is_counted_as_missing(tmp_path):
    cells, done = column(tmp_path, ["1", "NaN", "?"])
    assert cells[0] == 1.0
    assert cells[1] != cells[1]
    assert cells[2] is None
    assert done["missing"] == {"nan": 1, "?": 1}


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
@pytest.mark.parametrize(
    ("words", "cells", "read"),
    [
        (("-",), ["a", "-", "b"], ["a", None, "b"]),
        (("nan", "None"), ["nan", "x", "None"], [None, "x", None]),
        (("unknown",), ["x unknown", "unknown", "y"], ["x unknown", None, "y"]),
    ],
)
def test_na_values_are_missing_in_every_column(tmp_path, name, words, cells, read):
    options = ReadOptions(na_values=words, verbatim=frozenset("x"))
    assert column(tmp_path, cells, options, name)[0] == read
    assert sum(column(tmp_path, cells, options, name)[1]["missing"].values()) == read.count(None)


@pytest.mark.parametrize("cells", [["1984", "2001"], ["007", " 7 "], ["1.50", "NA"], ["true", "FALSE"], ["  ", "x"]])
def test_a_column_of_text_is_read_as_it_is_written(tmp_path, cells):
    assert column(tmp_path, cells, ReadOptions(verbatim=frozenset("x")))[0] == cells


@pytest.mark.parametrize(
    ("kind", "cells", "read"),
    [
        ("text", ["104", " 003", "NA", ""], ["104", "003", "NA", None]),
        ("integer", ["NA", ""], [None, None]),
        ("integer", ["30", "?"], [30, None]),
        ("number", ["1", "+2.5", "007"], [1.0, 2.5, 7.0]),
        ("boolean", ["TRUE", "false"], [True, False]),
    ],
)
def test_a_column_is_of_the_kind_that_it_had_in_training(tmp_path, kind, cells, read):
    assert column(tmp_path, cells, ReadOptions(kinds={"x": kind}))[0] == read


@pytest.mark.parametrize(
    ("kind", "message"), [("integer", "holds numbers"), ("number", "holds numbers"), ("boolean", "holds true or false")]
)
def test_a_cell_of_another_kind_than_in_training_is_named(tmp_path, kind, message):
    with pytest.raises(DataError, match=rf"a.csv row 3: the column 'x' {message}.*, as in training, found 'abc'"):
        column(tmp_path, ["", "NA" if kind != "boolean" else "true", "abc"], ReadOptions(kinds={"x": kind}))


@pytest.mark.parametrize(
    ("options", "cells", "read"),
    [
        ({"decimal": ","}, ["1,5", "-,25", "3"], [1.5, -0.25, 3.0]),
        ({"thousands": ","}, ["1,234", "12", "1,234,567"], [1234, 12, 1234567]),
        ({"thousands": " ", "decimal": ","}, ["1 234,5", "7", "NA"], [1234.5, 7.0, None]),
        ({"thousands": ","}, ["1,23", "12", "1"], ["1,23", "12", "1"]),
        ({"decimal": ","}, ["1.5", "2", "x"], ["1.5", "2", "x"]),
    ],
)
def test_signs_of_numbers(tmp_path, options, cells, read):
    assert column(tmp_path, cells, ReadOptions(**options))[0] == read


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoding": "utf-9"}, "encoding: no encoding is called 'utf-9'"),
        ({"separator": ", "}, "separator: expected one character, found ', '"),
        ({"decimal": ",", "thousands": ","}, "thousands: expected another sign than 'decimal'"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(RecipeError, match=rf"data.shop.{message}"):
        ReadOptions(**options).check("shop")


@pytest.mark.parametrize("options", [{"decimal": ","}, {"separator": ";"}, {"thousands": "_"}])
def test_options_of_other_formats_are_refused(tmp_path, options):
    (name,) = options
    with pytest.raises(DataError, match=f"the option '{name}' belongs to CSV and TSV files"):
        column(tmp_path, [1], ReadOptions(**options), "a.jsonl")


def test_types_hold_for_all_files_and_rows_are_named_in_theirs(tmp_path):
    for name, cell in (("a", "1"), ("b", "x")):
        (tmp_path / f"{name}.csv").write_text(f"x,{name}\n{cell},2\n")
    paths = [tmp_path / "a.csv", tmp_path / "b.csv"]
    table = pa.concat_tables([table for _, table in read_tables(paths, ReadOptions())])
    assert table.to_pylist() == [{"x": "1", "a": 2, "b": None}, {"x": "x", "a": None, "b": 2}]
    with pytest.raises(DataError, match=r"b.csv row 1: the column 'x' holds numbers"):
        [*read_tables(paths, ReadOptions(kinds={"x": "integer"}))]
