"""Bad recipes on the command line: exit 2 with file, line and a suggestion, before any data is read."""

import time

import pytest

from mmbert.cli import commands

RECIPE = """\
name: small
data: {shop: {type: files, path: no-such-file.csv}}
trunk: {checkpoint: null, layers: 1, hidden_size: 16, heads: 2, vocabulary: 100, max_positions: 32}
inputs:
  title: {type: text, max_length: 8}
  cells: {type: table, width: 8}
tasks:
  price: {type: regression}
train: {steps: 3}
"""


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def error_of(capsys, text, *words, command=("train",)):
    """The error message of a recipe, which must be refused within 3 seconds and with no other output."""
    files = {"small.yaml": text} if isinstance(text, str) else text
    for name, content in files.items():
        with open(name, "w") as file:
            file.write(content)
    start = time.process_time()
    assert commands.main([*command, next(iter(files)), *words]) == 2
    assert time.process_time() - start < 3
    output = capsys.readouterr()
    assert "Traceback" not in output.err
    assert output.out == ""
    return output.err


@pytest.mark.parametrize("command", ["train", "baseline", "check"])
@pytest.mark.parametrize(
    ("line", "changed", "message"),
    [
        ("width: 8}", "widths: 8}", "inputs.cells.widths (small.yaml:6): unknown key. Did you mean 'width'?"),
        ("max_length: 8", "max_length: 0", "inputs.title.max_length (small.yaml:5): expected a number >= 1, found 0"),
        (
            "type: regression",
            "type: regression, weights: 2",
            "tasks.price.weights (small.yaml:8): unknown key. Did you",
        ),
        ("no-such-file.csv", "x.csv, spilt: fold", "data.shop.spilt (small.yaml:2): unknown key. Did you mean 'split'"),
        ("steps: 3", "stesp: 3", "train.stesp (small.yaml:9): unknown key. Did you mean 'steps'?"),
        (
            "type: table",
            "type: tables",
            "inputs.cells.type (small.yaml:6): no encoder is called 'tables'. Did you mean",
        ),
    ],
)
def test_a_mistake_is_reported_with_file_line_and_suggestion_before_data_is_read(
    capsys, command, line, changed, message
):
    assert line in RECIPE
    error = error_of(capsys, RECIPE.replace(line, changed), command=[command])
    assert message in error
    assert "no-such-file" not in error


def test_without_a_mistake_the_data_is_read(tmp_path, capsys):
    (tmp_path / "small.yaml").write_text(RECIPE)
    assert commands.main(["train", "small.yaml"]) == 3
    assert "no-such-file.csv" in capsys.readouterr().err


def test_duplicate_keys_and_yaml_scalars(capsys):
    (error,) = [line for line in error_of(capsys, RECIPE + "train: {steps: 4}\n").splitlines() if "twice" in line]
    assert "train (small.yaml:10): this key is given twice, first at small.yaml:9" in error
    assert "no task is called 'no'" in error_of(capsys, RECIPE.replace("type: regression", "type: no"))
    with open("small.yaml", "w") as file:
        file.write(RECIPE + "optim: {lr: {trunk: 1e-3}}\n")
    assert commands.main(["show", "recipe", "small.yaml"]) == 0
    assert "trunk: 0.001" in capsys.readouterr().out


@pytest.mark.parametrize("section", ["data.shop", "inputs.cells", "fusion", "tasks.price"])
@pytest.mark.parametrize("name", ["os.system", "my_lab.eeg:EEG", "../evil.py", "builtins.eval"])
def test_a_type_that_names_code_is_refused_with_the_known_types(capsys, section, name):
    error = error_of(capsys, RECIPE, "--set", f"{section}={{type: '{name}'}}")
    assert f"is called '{name}'" in error
    assert "Valid: " in error
    assert "--plugin MODULE adds others, a recipe never names code" in error


def test_parents_that_cannot_be_followed_show_the_chain(capsys):
    cycle = {"a.yaml": "extends: b.yaml\n", "b.yaml": "extends: c.yaml\n", "c.yaml": "extends: a.yaml\n"}
    assert "extends (c.yaml:1): the files extend each other: a.yaml -> b.yaml -> c.yaml -> a.yaml" in error_of(
        capsys, cycle
    )
    gone = {"one.yaml": "extends: two.yaml\n", "two.yaml": "name: x\nextends: three.yaml\n"}
    assert "The chain: one.yaml -> two.yaml -> three.yaml" in error_of(capsys, gone)
    long = {f"{n}.yaml": f"extends: {n + 1}.yaml\n" for n in range(40)}
    assert "expected at most 20 parents: 0.yaml -> 1.yaml" in error_of(capsys, long)
