"""The functions of the package: what the command line does, in a few lines of Python."""

import csv
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import mmbert
from mmbert import api
from mmbert.data.collate import encode_all_inputs
from mmbert.errors import DataError, RecipeError
from mmbert.tracking.ledger import COLUMNS

ROOT = Path(mmbert.__file__).resolve().parents[1]
RECIPE = """\
name: small
data: {made: {type: generated, rows: 60}}
trunk: {checkpoint: null, layers: 1, hidden_size: 16, heads: 2, vocabulary: 100, max_positions: 32}
inputs: {title: {type: text, max_length: 16}, cells: {type: table, width: 8, layers: 1}}
tasks: {price: {type: regression}, mass: {type: regression}}
train: {epochs: 1, batch_size: 8, trackers: []}
evaluate: {every: 0.4}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a recipe."""
    folder = tmp_path_factory.mktemp("api")
    (folder / "small.yaml").write_text(RECIPE)
    return folder


@pytest.fixture(autouse=True)
def _in_the_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))


@pytest.fixture(scope="module")
def result(folder):
    """What training returns; the run and the ledger stay in the folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        return mmbert.train("small.yaml", out="run", ledger="ledger.csv", overrides=["train.seed=3"])


def ledger(path):
    with open(path, newline="") as file:
        lines = list(csv.DictReader(file))
    assert tuple(lines[0]) == COLUMNS
    return lines


def scores(lines, arm):
    """Task -> metric -> value of one arm."""
    found = {}
    for line in lines:
        if line["arm"] == arm:
            found.setdefault(line["task"], {})[line["metric"]] = float(line["value"])
    return found


def near(expected):
    return {task: pytest.approx(metrics, rel=1e-5) for task, metrics in expected.items()}


def test_three_lines_of_python(capsys):
    import mmbert

    result = mmbert.train("small.yaml", overrides=["train.steps=2", "evaluate.baselines=false"])
    (run,) = Path("runs").iterdir()
    found = mmbert.load(run).predict([{"title": "one shared trunk"}, {}])
    assert [set(one) for one in found] == [{"price", "mass"}] * 2
    assert set(result["test"]) == {"price", "mass"}
    assert str(run) in capsys.readouterr().out


def test_what_training_returns_is_in_the_run_folder(result):
    assert json.loads(Path("run", "result.json").read_text()) == result
    assert {"mmbert without title", "mmbert without cells"} == {*result["hidden"]}
    assert "constant" in result["baselines"]
    steps = {line["step"] for line in map(json.loads, Path("run", "metrics.jsonl").read_text().splitlines())}
    assert result["best_step"] in steps == set(range(1, max(steps) + 1))
    assert sorted(path.name for path in Path("run").iterdir()) == [
        "checkpoints", "cost.json", "data.json", "env.json", "events.jsonl", "examples.jsonl", "lock", "metrics.jsonl",
        "recipe.yaml", "result.json", "status.json", "test.safetensors",
    ]  # fmt: skip


def test_a_run_folder_is_a_recipe_that_gives_the_same_run(result):
    again = mmbert.train("run/recipe.yaml", out="again")
    assert again == result


def test_evaluation_of_a_run_gives_what_its_result_says(result, capsys):
    assert mmbert.evaluate("run") == near(result["test"])
    assert "mmbert" in capsys.readouterr().out
    lines = [json.loads(line) for line in Path("run", "metrics.jsonl").read_text().splitlines()]
    best = {line["metric"]: line["value"] for line in lines if line["split"] == "validation"
            and line["step"] == result["best_step"] and line["task"] == "price"}  # fmt: skip
    assert mmbert.evaluate("run", split="validation")["price"] == pytest.approx(best, rel=1e-5)


def test_predictions_of_a_split_are_what_was_evaluated(result):
    mmbert.predict("run", split="test", output="out.jsonl")
    found = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    samples = api.open_run("run", data=True).splits["test"][0]
    assert [one["key"] for one in found] == [sample.attributes["key"] for sample in samples]
    error = [abs(one["price"] - sample.targets["price"]) for one, sample in zip(found, samples, strict=True)]
    assert sum(error) / len(error) == pytest.approx(result["test"]["price"]["mae"], rel=1e-4)


def test_training_writes_its_table_into_the_ledger(result):
    lines = ledger("ledger.csv")
    assert scores(lines, "mmbert") == near(result["test"])
    for arm, expected in {**result["hidden"], **result["baselines"]}.items():
        assert scores(lines, arm) == near(expected)
    assert {(line["study"], line["seed"], line["split"]) for line in lines} == {("small", "3", "test")}
    assert {line["recipe"] for line in lines} == {result["recipe"]}


def test_baselines_are_those_of_the_result_and_append_rows(result):
    Path("rows.csv").unlink(missing_ok=True)
    found = mmbert.baseline("small.yaml", ledger="rows.csv", overrides=["train.seed=3"])
    assert found == {arm: near(expected) for arm, expected in result["baselines"].items()}
    once = ledger("rows.csv")
    assert {line["arm"] for line in once} == {*found}
    for arm, expected in found.items():
        assert scores(once, arm) == near(expected)
    mmbert.baseline("small.yaml", ledger="rows.csv", overrides=["train.seed=3"])
    assert ledger("rows.csv") == [*once, *once]


def test_all_evaluations_of_a_split_make_its_items_once(monkeypatch):
    made = Counter()

    def counted(sample, processors, key):
        made[sample.id, key is None] += 1
        return encode_all_inputs(sample, processors, key)

    monkeypatch.setattr("mmbert.data.sample_dataset.encode_all_inputs", counted)
    api.train("small.yaml", out="counted", overrides=["evaluate.baselines=false"])
    evaluated = [times for (_, evaluating), times in made.items() if evaluating]
    assert evaluated == [1] * len(evaluated)
    assert len(evaluated) > 5  # of validation, thrice, and of test with each input taken away


def test_check_reads_the_data(capsys):
    mmbert.check("small.yaml")
    assert "no bad value in 60 rows" in capsys.readouterr().out
    Path("rows.jsonl").write_text(
        "\n".join(f'{{"title": {row}, "price": {row % 5}, "mass": {row % 4}}}' for row in range(9))
    )
    with pytest.raises(DataError, match=r"small\.yaml: 9 bad values in 9 rows"):
        mmbert.check("small.yaml", overrides=["data.made={type: files, path: rows.jsonl}", "inputs.cells=null"])


@pytest.mark.parametrize("select", ["price/accuracy", "mass/rsme"])
def test_a_score_that_is_not_there_cannot_select(select):
    with pytest.raises(RecipeError, match=rf"train.select \(--set\): the task '{select.split('/')[0]}' has no metric"):
        mmbert.train(
            "small.yaml", out="selected", resume="never", overrides=[f"train.select={select}", "train.steps=1"]
        )


@pytest.mark.parametrize("name", [name for name in mmbert.__all__ if name != "__version__"])
def test_the_functions_keep_their_names_beside_folders_of_the_same(name):
    import mmbert.evaluation.results
    import mmbert.training.trainer

    assert getattr(mmbert, name) is getattr(api, name)


def test_import_is_light():
    code = "import sys, mmbert; mmbert.__version__; assert not {'torch', 'pandas', 'pydantic'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)
