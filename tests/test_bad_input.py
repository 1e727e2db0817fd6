"""Bad data on the command line: exit 3 with file, row and field, and no result is written."""

import io
import json
import os
import re
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmbert.cli import commands

ROOT = Path(commands.__file__).resolve().parents[2]
SPLITS = {**dict.fromkeys(range(24), "train"), **dict.fromkeys(range(24, 30), "validation")}  # the rest: test
ROWS = 36
RECIPE = """\
name: small
data: {shop: {type: files, path: rows.jsonl}}
trunk: {checkpoint: null, layers: 1, hidden_size: 16, heads: 2, vocabulary: 100, max_positions: 32}
inputs:
  title: {type: text, max_length: 8}
  photo: {type: vit, size: 16, patch: 8, layers: 1, heads: 2, width: 16}
  sound: {type: audio, mels: 8, layers: 1, heads: 2, width: 16}
  structure: {type: graph, layers: 1, width: 16}
  cells: {type: table, column: [size, mass], width: 8, layers: 1}
fusion: {type: concat}
tasks:
  kind: {type: classification}
  price: {type: regression}
train: {steps: 3, batch_size: 8}
evaluate: {baselines: false}
"""

TITLE_ALONE = [f"inputs.{name}=null" for name in ("photo", "sound", "structure", "cells")]


def row(number):
    return {
        "title": f"thing {number}",
        "photo": "media/photo.jpg",
        "sound": "media/sound.wav",
        "structure": "CCO",
        "size": number / 2,
        "mass": None if number % 4 == 0 else float(number),
        "kind": ["apple", "pear"][number % 2],
        "price": number + 0.5,
        "split": SPLITS.get(number, "test"),
    }


def jpeg() -> bytes:
    picture = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(picture, "JPEG")
    return picture.getvalue()


def wav(seconds: float) -> bytes:
    sound = io.BytesIO()
    with wave.open(sound, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes((np.sin(np.arange(int(8000 * seconds)) / 9) * 9000).astype("<i2").tobytes())
    return sound.getvalue()


MEDIA = {
    "photo.jpg": jpeg(),
    "truncated.jpg": jpeg()[:2000],
    "page.jpg": b"<!doctype html><title>404</title>",
    "nothing.jpg": b"",
    "sound.wav": wav(0.1),
    "silent.wav": wav(0),
    "lying.wav": wav(0.1)[:-400],
    "text.wav": b"not a sound",
}


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A function that writes a recipe, media and rows; ``changes`` maps row numbers, counted from 1, to new values."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "small.yaml").write_text(RECIPE)
    (tmp_path / "secret.jpg").write_bytes(jpeg())
    (tmp_path / "data" / "media").mkdir(parents=True)
    for name, content in MEDIA.items():
        (tmp_path / "data" / "media" / name).write_bytes(content)

    def write(changes=None, drop=(), **everywhere):
        rows = [row(number) | everywhere for number in range(ROWS)]
        for number, values in (changes or {}).items():
            rows[number - 1] |= values
        lines = (json.dumps({name: value for name, value in values.items() if name not in drop}) for values in rows)
        (tmp_path / "data" / "rows.jsonl").write_text("\n".join(lines))
        return ["small.yaml", "--set", "data.shop.path=data/rows.jsonl"]

    return write


def train(recipe, *settings):
    return commands.main(
        ["train", *recipe, *(word for setting in settings for word in ("--set", setting)), "--out", "run"]
    )


def written():
    """The files that a run has written."""
    return sorted(str(path.relative_to("run")) for path in Path("run").rglob("*") if path.is_file())


def test_good_data_trains_and_no_bad_value_is_reported(shop, capsys):
    recipe = shop()
    assert train(recipe) == 0
    assert {"result.json", "recipe.yaml"} < {*written()}
    assert any(name.endswith("model.safetensors") for name in written())
    assert commands.main(["check", *recipe, "--data"]) == 0
    assert "no bad value in 36 rows" in capsys.readouterr().out


BAD = {  # name -> (row, its values, field, message); the first training row is read before training
    "truncated image": (1, {"photo": "media/truncated.jpg"}, "input 'photo'", "truncated.jpg: expected an image"),
    "web page as image": (1, {"photo": "media/page.jpg"}, "input 'photo'", "b'<!doctype html><'"),
    "empty image": (1, {"photo": "media/nothing.jpg"}, "input 'photo'", "found 0 bytes"),
    "no such image": (30, {"photo": "media/gone.jpg"}, "input 'photo'", "there is no file 'media/gone.jpg'"),
    "path out": (36, {"photo": "../secret.jpg"}, "input 'photo'", "leads out of"),
    "absolute path": (5, {"photo": "/etc/hostname"}, "input 'photo'", "leads out of"),
    "no sound": (20, {"sound": "media/text.wav"}, "input 'sound'", "text.wav: expected sound"),
    "sound of no length": (20, {"sound": "media/silent.wav"}, "input 'sound'", "found 0 samples"),
    "cut sound": (20, {"sound": "media/lying.wav"}, "input 'sound'", "as the header says"),
    "invalid SMILES": (1, {"structure": "C1CC"}, "input 'structure'", "C1CC"),
    "number as text": (3, {"size": 1e31}, "input 'cells'", "'size' holds finite numbers"),
    "infinite target, validation": (27, {"price": float("inf")}, "task 'price'", "expected a finite number, found inf"),
    "infinite target": (4, {"price": float("inf")}, "task 'price'", "expected a finite number, found inf"),
    "infinite target, test": (35, {"price": float("inf")}, "task 'price'", "expected a finite number, found inf"),
}


@pytest.mark.parametrize(("number", "values", "field", "message"), BAD.values(), ids=BAD)
def test_a_bad_value_found_while_preparing_leaves_no_run(shop, capsys, number, values, field, message):
    assert train(shop({number: values})) == 3
    error = capsys.readouterr().err
    assert error.startswith(f"shop (data/rows.jsonl row {number}), {field}: ")
    assert message in error
    assert not {*written()} - {".mmbert", "status.json", "lock"}


LATER = {
    "image": (9, {"photo": "media/page.jpg"}, "input 'photo'"),
    "SMILES": (9, {"structure": "C1CC"}, "input 'structure'"),
    "image of validation": (27, {"photo": "media/page.jpg"}, "input 'photo'"),
}


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(("number", "values", "field"), LATER.values(), ids=LATER)
def test_a_bad_value_met_in_training_leaves_no_result(shop, capsys, number, values, field, workers):
    assert train(shop({number: values}), f"train.workers={workers}") == 3
    error = capsys.readouterr().err
    assert error.startswith(f"shop (data/rows.jsonl row {number}), {field}: ")
    assert "Traceback" not in error
    begun = {".mmbert", "recipe.yaml", "data.json", "env.json", "events.jsonl", "status.json", "lock"}
    assert begun <= {*written()} <= {*begun, "metrics.jsonl"}


def test_an_earlier_run_survives_bad_data_until_training_begins(shop):
    assert train(shop()) == 0
    before = {name: Path("run", name).read_bytes() for name in written() if name != "status.json"}
    assert train(shop({1: {"photo": "media/nothing.jpg"}})) == 3
    assert {name: Path("run", name).read_bytes() for name in written() if name != "status.json"} == before
    assert train(shop({9: {"title": "another pear"}})) == 6  # with other data it is not the same run
    assert {name: Path("run", name).read_bytes() for name in written() if name != "status.json"} == before


WHOLE = {
    "missing column of a task": ({"drop": ["price"]}, "tasks.price: no data source has the column 'price'"),
    "missing column of an input": ({"drop": ["photo"]}, "inputs.photo: no data source has the column 'photo'"),
    "one of several columns": ({"drop": ["mass"]}, "'cells' reads 2 columns, but there is no 'mass'"),
    "task without labels": ({"price": None}, "tasks.price: no row of the training split has a label for it"),
    "task of one class": ({"kind": "pear"}, "tasks.kind: expected at least two classes in the training split"),
    "input absent in every row": ({"photo": None}, "inputs.photo: absent in every row of the training split"),
    "text that is a number": ({"title": 7}, "shop (data/rows.jsonl row 1), input 'title': expected a text"),
    "labels that are words": (
        {"price": "much"},
        "shop (data/rows.jsonl row 1), task 'price': expected a finite number",
    ),
}


@pytest.mark.parametrize(("changes", "message"), WHOLE.values(), ids=WHOLE)
def test_unusable_data_is_refused_before_anything_is_written(shop, capsys, changes, message):
    recipe = shop(**changes)
    assert train(recipe) == 3
    assert message in capsys.readouterr().err
    assert not {*written()} - {".mmbert", "status.json", "lock"}
    assert commands.main(["check", *recipe, "--data"]) == 3


@pytest.mark.parametrize("changes", [{"drop": ["photo"]}, {"photo": None}], ids=["no column", "no value"])
def test_an_optional_input_may_be_absent(shop, changes):
    assert train(shop(**changes), "inputs.photo.optional=true") == 0
    assert "without photo" not in Path("run", "result.json").read_text()


def test_one_word_in_a_column_of_numbers_is_reported_by_row(shop, tmp_path, capsys):
    recipe = shop()
    lines = ["title,price,split", *(f"thing {number},{number / 3},{row(number)['split']}" for number in range(ROWS))]
    lines[7] = "thing,cheap,train"
    (tmp_path / "data" / "rows.csv").write_text("\n".join(lines))
    assert train([*recipe[:2], "data.shop.path=data/rows.csv"], *TITLE_ALONE, "tasks.kind=null") == 3
    assert capsys.readouterr().err == (
        "shop (data/rows.csv row 7), task 'price': expected a finite number, found 'cheap'\n"
    )


def test_labels_in_training_only_are_accepted_unless_validation_has_none(shop, capsys):
    recipe = shop({number: {"kind": None} for number in range(25, ROWS + 1)})
    assert train(recipe, "evaluate.baselines=true", *TITLE_ALONE) == 0
    result = json.loads(Path("run", "result.json").read_text())
    assert [*result["test"]] == ["price"]
    assert all([*scores] == ["price"] for scores in result["baselines"].values())
    assert train(shop({number: {"price": None, "kind": None} for number in range(25, 31)})) == 3
    assert "no row of the validation split has a label" in capsys.readouterr().err


def test_check_lists_every_bad_value_before_training(shop, capsys):
    bad = {
        1: ({"photo": "media/truncated.jpg"}, "input 'photo'"),
        3: ({"size": 1e31}, "input 'cells'"),
        5: ({"photo": "/etc/hostname"}, "input 'photo'"),
        9: ({"structure": "C1CC"}, "input 'structure'"),
        20: ({"sound": "media/lying.wav"}, "input 'sound'"),
        27: ({"price": float("inf")}, "task 'price'"),
        36: ({"price": float("inf")}, "task 'price'"),
    }
    assert commands.main(["check", *shop({number: values for number, (values, _) in bad.items()}), "--data"]) == 3
    output = capsys.readouterr()
    lines = [line for line in output.out.splitlines() if line.startswith("shop (")]
    rows, fields, reasons = zip(*(re.split(r"  +", line, maxsplit=2) for line in lines), strict=True)
    expected = {(f"shop (data/rows.jsonl row {number})", field) for number, (_, field) in bad.items()}
    assert {*zip(rows, fields, strict=True)} == expected
    assert len(lines) == len(bad)
    assert all(reasons)
    assert len({line.index(reason) for line, reason in zip(lines, reasons, strict=True)}) == 1  # aligned as a table
    assert output.err == "small.yaml: 7 bad values in 36 rows\n"
    assert not {*written()} - {".mmbert", "status.json", "lock"}


def test_check_lists_bad_values_where_every_row_has_one(shop, capsys):
    every_row = {number: {"photo": {"path": "/etc/hostname"}} for number in range(1, ROWS + 1)}
    assert commands.main(["check", *shop(every_row), "--data"]) == 3
    assert capsys.readouterr().err == "small.yaml: 36 bad values in 36 rows\n"


@pytest.mark.parametrize("number", [5, 27, 33])
def test_tags_must_be_as_many_as_words(shop, capsys, number):
    changes = {number: {"tags": ["B-a"]}}
    recipe = [*shop(changes, title=["one", "two"], tags=["B-a", "O"]), "--set", "tasks.tags={type: tagging, of: title}"]
    message = "expected a tag for each of the 2 words of 'title', found 1 tags"
    assert train(recipe, *TITLE_ALONE) == 3
    assert capsys.readouterr().err == f"shop (data/rows.jsonl row {number}), task 'tags': {message}\n"
    assert not {*written()} - {".mmbert", "status.json", "lock"}
    assert (
        commands.main(["check", *recipe, *(word for setting in TITLE_ALONE for word in ("--set", setting)), "--data"])
        == 3
    )
    assert message in capsys.readouterr().out


def test_check_survives_tags_that_are_no_lists(shop, capsys):
    recipe = shop(title=["one", "two"])
    for setting in ("tasks.tags={type: tagging, of: title, column: size}", *TITLE_ALONE):
        recipe += ["--set", setting]
    assert commands.main(["check", *recipe, "--data"]) == 3
    assert re.search(r"row 5\) +task 'tags' +expected a list of tags, one per unit, found 2.0", capsys.readouterr().out)


def test_a_plugin_that_is_not_there_is_reported_without_importing_torch(tmp_path):
    code = (
        "import sys; from mmbert.cli.commands import main; code = main(sys.argv[1:]); assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; sys.exit(code)", "train", "small.yaml", "--plugin", "no_such_lab"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (
        2,
        "--plugin no_such_lab cannot be imported: No module named 'no_such_lab'\n",
    )
