"""New rows are read as the rows of training were."""

import json

import pandas as pd
import pytest

import mmbert
from mmbert.errors import DataError, SampleError

RECIPE = """\
name: small
data:
  shop: {type: files, path: rows.csv, separator: ";", decimal: ",", na_values: ["-"], columns: {Product Name: title}}
trunk: {checkpoint: null, layers: 1, hidden_size: 16, heads: 2, vocabulary: 120, max_positions: 32}
inputs:
  title: {type: text, max_length: 8}
  cells: {type: table, column: [age, zone], width: 8, layers: 1}
tasks:
  kind: {type: classification}
train: {steps: 2, batch_size: 8}
evaluate: {baselines: false}
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    lines = [f"{1000 + row};{row},5;{row % 7:03};{'ab'[row % 2]}" for row in range(40)]
    (folder / "rows.csv").write_text("\n".join(["Product Name;age;zone;kind", *lines]))
    (folder / "small.yaml").write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        mmbert.train("small.yaml", out="run")
        return mmbert.load(folder / "run")


def predict(model, folder, text, name="new.csv"):
    (folder / name).write_text(text)
    return [*model.predict_file(folder / name)]


ROW = {"title": "1003", "age": 3.5, "zone": "003"}


@pytest.mark.parametrize(
    "text",
    [
        "Product Name;age;zone\n1003;3,5;003\n",
        "title;zone;age\n1003;003;3,5\n",
        "other;Product Name;age;zone\nx;1003;3,5; 003\n",
    ],
)
def test_columns_and_options_are_those_of_training(model, tmp_path, text):
    assert predict(model, tmp_path, text) == model.predict([ROW])


@pytest.mark.parametrize(
    ("text", "row"),
    [
        ("title;age;zone\n1003;3,5;104\n", {**ROW, "zone": "104"}),
        ("title;age;zone\n2024;3,5;003\n", {**ROW, "title": "2024"}),
        ("title;age;zone\n1003;NA;003\n", {"title": "1003", "zone": "003"}),
        ("title;age;zone\n1003;4;003\n", {**ROW, "age": 4}),
        ("title;age;zone\n1003;-;-\n", {"title": "1003"}),
    ],
)
def test_cells_that_alone_look_like_another_type(model, tmp_path, text, row):
    assert predict(model, tmp_path, text) == model.predict([row])


def test_other_formats_have_no_signs_and_the_same_kinds(model, tmp_path):
    lines = json.dumps({"Product Name": 1003, "age": 3.5, "zone": 104})
    expected = model.predict([{**ROW, "zone": "104"}])
    assert predict(model, tmp_path, lines, "new.jsonl") == expected
    assert model.predict(pd.DataFrame({"Product Name": [1003], "age": [3.5], "zone": [104]})) == expected
    assert model.predict([{"title": "1003", "age": 3.5, "zone": 104.0}]) == expected


def test_a_cell_of_another_kind_is_named(model, tmp_path):
    with pytest.raises(DataError, match=r"new.csv row 2: the column 'age' holds numbers, as in training, found 'old'"):
        predict(model, tmp_path, "title;age;zone\n1;2;003\n1;old;003\n")


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("titles;age;zone", "no column 'title', so it is absent in input 'title'. Did you mean 'titles'?"),
        ("title;Age;zone", "no column 'age', so it is absent in input 'cells'. Did you mean 'Age'?"),
        ("title;age;x", "no column 'zone', so it is absent in input 'cells'. Columns: age, title, x"),
    ],
)
def test_a_column_that_is_not_there_is_told(model, tmp_path, capsys, header, said):
    assert len(predict(model, tmp_path, f"{header}\n1;1,5;003\n")) == 1
    assert said in capsys.readouterr().err


def test_without_any_column_of_an_input_nothing_is_predicted(model, tmp_path):
    with pytest.raises(DataError, match=r"none of the columns x, y fills an input. Inputs read: age, title, zone"):
        predict(model, tmp_path, "x;y\n1;2\n")
    with pytest.raises(DataError, match="rows: none of the columns x fills an input"):
        model.predict([{"x": 1}])


@pytest.mark.parametrize("rows", [[ROW, {}], [ROW, {"title": None, "age": float("nan")}], [ROW, {"kind": "a"}]])
def test_a_row_without_any_input_is_refused(model, rows):
    with pytest.raises(SampleError, match=r"rows \(row 2\), input 'cells', 'title': expected a value, found none"):
        model.predict(rows)


def test_a_file_gives_one_prediction_for_each_row(model, tmp_path):
    assert len(predict(model, tmp_path, "title;age;zone\n1;1,5;001\n;2,5;\n\n3;;\n")) == 3
    with pytest.raises(SampleError, match=r"new.csv row 2\)"):
        predict(model, tmp_path, "title\n1\n\n2\n")
