"""Prediction for new rows: one a row, in order, with inputs missing; a bad value is reported and no file is written."""

import json
import math
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import predict_worlds
import pytest
from child_processes import start_child, wait_for_child
from PIL import Image

import mmbert
from mmbert.cli import commands
from mmbert.errors import DataError, IntegrityError, SampleError
from mmbert.experiment import build

ROWS = 40
RECIPE = """\
name: small
data: {shop: {type: files, path: rows.jsonl, key: code}}
trunk: {checkpoint: null, layers: 1, hidden_size: 16, heads: 2, vocabulary: 120, max_positions: 32}
inputs:
  title: {type: text, max_length: 8}
  photo: {type: vit, column: file, size: 16, patch: 8, layers: 1, heads: 2, width: 16}
  cells: {type: table, column: [size, kind], width: 8, layers: 1}
tasks:
  price: {type: regression}
  brand: {type: classification}
train: {steps: 4, batch_size: 8}
evaluate: {baselines: false, batch_size: 7}
optim: {lr: {trunk: 1e-2, new: 1e-2}}
"""


def rows(folder):
    """Rows in which each input but the title is absent somewhere."""
    table = []
    for row in range(ROWS):
        values = {
            "code": f"c{row}",
            "title": f"thing number {row * row}",
            "file": f"photos/{row}.png",
            "size": row / 3,
            "kind": "ab"[row % 2],
            "price": row % 9 + 0.5,
            "brand": "xy"[row % 3 == 0],
        }
        table.append(
            {
                name: None if row % 5 == at and name != "code" else value
                for at, (name, value) in enumerate(values.items())
            }
        )
    return table


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with rows and photos, in which a model was trained."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "photos").mkdir()
    rng = np.random.default_rng(0)
    for row in range(ROWS):
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(folder / "photos" / f"{row}.png")
    (folder / "photos" / "page.png").write_text("<html>")
    (folder / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows(folder)))
    (folder / "small.yaml").write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        mmbert.train("small.yaml", out="run")
    return folder


@pytest.fixture(autouse=True)
def _in_the_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))


@pytest.fixture(scope="module")
def model(folder):
    return mmbert.load(folder / "run")


def numbers(predictions):
    return np.array([[prediction["price"], prediction["brand"]["probability"]] for prediction in predictions])


def close(first, second):
    """Assert equal predictions, to the precision of float32 in batches of different shapes."""
    assert [row["brand"]["label"] for row in first] == [row["brand"]["label"] for row in second]
    np.testing.assert_allclose(numbers(first), numbers(second), rtol=1e-4)


def read(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def test_each_row_has_one_prediction_in_order(folder, model):
    predictions = model.predict(rows(folder))
    assert len(predictions) == ROWS
    assert len({prediction["price"] for prediction in predictions}) > ROWS / 2
    order = np.random.default_rng(1).permutation(ROWS)
    close(model.predict([rows(folder)[row] for row in order]), [predictions[row] for row in order])
    close([model.predict([row])[0] for row in rows(folder)], predictions)


def test_a_data_frame_is_predicted_like_its_rows(folder, model):
    frame = pd.DataFrame(rows(folder))
    for kind in (
        frame,
        frame.convert_dtypes(),
        frame.set_index("code"),
        frame.sample(frac=1, random_state=0).sort_index(),
    ):
        assert model.predict(kind) == model.predict(rows(folder))


@pytest.mark.parametrize("missing", [None, math.nan, np.float32("nan"), pd.NA, pd.NaT])
def test_a_missing_value_is_an_absent_input(folder, model, missing):
    row = rows(folder)[10]
    assert None not in row.values()
    for gone in (["title"], ["file"], ["size"], ["size", "kind"], ["title", "size", "kind"]):
        without = {name: value for name, value in row.items() if name not in gone}
        assert model.predict([{**row, **dict.fromkeys(gone, missing)}]) == model.predict([without])
        assert model.predict([without]) != model.predict([row])
        assert np.isfinite(numbers(model.predict([without]))).all()
    with pytest.raises(SampleError, match=r"row 2\), input .*'title': expected a value, found none in any input"):
        model.predict([row, {**row, **dict.fromkeys(["title", "file", "size", "kind"], missing)}])


def test_columns_that_the_model_does_not_read_do_not_matter(folder, model):
    assert model.predict([{**row, "other": object(), "price": "?"} for row in rows(folder)]) == model.predict(
        rows(folder)
    )


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".tsv", ".parquet"])
def test_a_file_is_read_as_in_training_with_media_in_its_folder(folder, model, tmp_path, monkeypatch, suffix):
    path = folder / f"new{suffix}"
    frame = pd.DataFrame(rows(folder))
    match suffix:
        case ".jsonl":
            frame.to_json(path, orient="records", lines=True, double_precision=15)
        case ".parquet":
            frame.to_parquet(path)
        case _:
            frame.to_csv(path, index=False, sep={".csv": ",", ".tsv": "\t"}[suffix])
    expected = model.predict(rows(folder))
    monkeypatch.chdir(tmp_path)
    assert mmbert.predict(folder / "run", input=path, output=tmp_path / "deep" / "out.jsonl") == ROWS
    assert read(tmp_path / "deep" / "out.jsonl") == expected
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["out.jsonl"]


def test_words_that_look_like_missing_values_are_words(folder, model):
    words = ["NA", "null", "None", "nan", "thing"]
    (folder / "words.csv").write_text("\n".join(["title,size", *(f"{word},1" for word in words)]))
    mmbert.predict("run", input="words.csv", output="out.jsonl")
    close(read("out.jsonl"), model.predict([{"title": word, "size": 1.0} for word in words]))
    assert model.predict([{"size": 1.0}])[0]["price"] not in {line["price"] for line in read("out.jsonl")}


BAD = {
    "title": ({"title": {"en": 5}}, "expected a text or a list of words"),
    "photo": ({"file": "photos/page.png"}, "expected an image"),
    "cells": ({"size": "large"}, "'size' holds numbers, found 'large'"),
}


@pytest.mark.parametrize(("name", "values", "message"), [(name, *case) for name, case in BAD.items()], ids=BAD)
def test_a_bad_value_is_named_by_row_and_input(folder, model, name, values, message):
    bad = rows(folder)
    bad[6] |= values
    with pytest.raises(SampleError, match=rf"^rows \(row 7\), input '{name}': .*{message}"):
        model.predict(bad)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("photos/page.png", "expected an image"),
        ("gone.png", "there is no file"),
        ("../secret.png", "leads out of|not the path"),
    ],
)
@pytest.mark.parametrize("before", [None, "of an earlier day\n"])
def test_the_output_is_written_whole_or_not_at_all(folder, capsys, file, message, before):
    bad = rows(folder)
    bad[30]["file"] = file
    Path("bad.jsonl").write_text("\n".join(json.dumps(row) for row in bad))
    Path("out").mkdir(exist_ok=True)
    if before:
        Path("out", "predicted.jsonl").write_text(before)
    assert (
        commands.main(["predict", "run", "--input", "bad.jsonl", "--output", "out/predicted.jsonl", "--overwrite"]) == 3
    )
    error = capsys.readouterr().err
    assert error.startswith("rows (bad.jsonl row 31), input 'photo': ")
    assert any(word in error for word in message.split("|"))
    assert {file.name: file.read_text() for file in Path("out").iterdir()} == (
        {"predicted.jsonl": before} if before else {}
    )
    for path in Path("out").iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("path", "message"), [("gone.csv", "gone.csv: cannot be read"), ("small.yaml", "the format '.yaml' is not known")]
)
def test_a_file_that_cannot_be_read_is_reported(capsys, path, message):
    assert commands.main(["predict", "run", "--input", path, "--output", "predicted.jsonl"]) == 3
    assert message in capsys.readouterr().err


def test_two_processes_share_the_rows_and_write_one_file(folder, model):
    program = predict_worlds.__file__
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    lines = rows(folder)[:7]
    Path("seven.jsonl").write_text("\n".join(json.dumps(row) for row in lines))
    command = [sys.executable, program, "run", "seven.jsonl", "shared.jsonl"]
    wait_for_child(start_child(command, cwd=Path.cwd(), env=environment))
    close(read("shared.jsonl"), list(model.predict_file("seven.jsonl")))


def test_predictions_of_a_split_carry_the_keys_of_its_rows(folder, model):
    assert mmbert.predict("run", split="test", output="out.jsonl", overwrite=True) == len(read("out.jsonl")) > 1
    by_key = {row["code"]: row for row in rows(folder)}
    lines = read("out.jsonl")
    close(lines, model.predict([by_key[line["key"]] for line in lines]))


def test_a_folder_that_is_no_run_is_reported(tmp_path):
    with pytest.raises(IntegrityError, match=r"is not a run folder: it has no recipe\.yaml"):
        mmbert.load(tmp_path)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    with pytest.raises(IntegrityError, match="holds no usable checkpoint yet"):
        mmbert.load(tmp_path)


def test_a_model_of_another_code_epoch_is_refused(folder, monkeypatch):
    monkeypatch.setattr(build, "CODE_EPOCH", 0)
    with pytest.raises(IntegrityError, match=r"incompatible .*\(code epoch \d+; this one has 0\).*env\.json"):
        mmbert.load(folder / "run")


def test_rows_without_a_column_that_an_input_reads_are_refused(model, folder):
    (folder / "wrong.csv").write_text("heading\nthing\n")
    with pytest.raises(
        DataError, match=r"wrong\.csv: none of the columns heading fills an input\. Inputs read: file, kind"
    ):
        list(model.predict_file(folder / "wrong.csv"))
    assert model.predict([]) == []
