"""The Python API: the functions of the package do what the command line does."""

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
    by_task = {}
    for line in lines:
        if line["arm"] == arm:
            by_task.setdefault(line["task"], {})[line["metric"]] = float(line["value"])
    return by_task


def near(expected):
    return {task: pytest.approx(metrics, rel=1e-5) for task, metrics in expected.items()}


def test_train_load_and_predict_in_three_lines(capsys):
    import mmbert

    result = mmbert.train("small.yaml", overrides=["train.steps=2", "evaluate.baselines=false"])
    (run,) = Path("runs").iterdir()
    predictions = mmbert.load(run).predict([{"title": "one shared trunk"}, {"title": "mass"}])
    assert [set(prediction) for prediction in predictions] == [{"price", "mass"}] * 2
    assert set(result["test"]) == {"price", "mass"}
    assert str(run) in capsys.readouterr().out


def test_the_returned_result_is_in_the_run_folder(result):
    assert json.loads(Path("run", "result.json").read_text()) == result
    assert {"mmbert without title", "mmbert without cells"} == {*result["hidden"]}
    assert "constant" in result["baselines"]
    steps = {line["step"] for line in map(json.loads, Path("run", "metrics.jsonl").read_text().splitlines())}
    assert result["best_step"] in steps == set(range(1, max(steps) + 1))
    assert sorted(path.name for path in Path("run").iterdir()) == [
        ".mmbert",
        "checkpoints",
        "cost.json",
        "data.json",
        "env.json",
        "events.jsonl",
        "examples.jsonl",
        "lock",
        "metrics.jsonl",
        "recipe.yaml",
        "result.json",
        "status.json",
        "test.safetensors",
    ]


def test_the_recipe_of_a_run_folder_gives_the_same_run(result):
    again = mmbert.train("run/recipe.yaml", out="again")
    assert again == result


def test_evaluating_a_run_gives_the_scores_of_its_result(result, capsys):
    assert mmbert.evaluate("run") == near(result["test"])
    assert "mmbert" in capsys.readouterr().out
    lines = [json.loads(line) for line in Path("run", "metrics.jsonl").read_text().splitlines()]
    best = {
        line["metric"]: line["value"]
        for line in lines
        if line["split"] == "validation" and line["step"] == result["best_step"] and line["task"] == "price"
    }
    assert mmbert.evaluate("run", split="validation")["price"] == pytest.approx(best, rel=1e-5)


def test_predictions_of_a_split_give_the_evaluated_error(result):
    mmbert.predict("run", split="test", output="out.jsonl")
    predictions = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    samples = api.open_run("run", data=True).splits["test"][0]
    assert [prediction["key"] for prediction in predictions] == [sample.attributes["key"] for sample in samples]
    error = [
        abs(prediction["price"] - sample.targets["price"])
        for prediction, sample in zip(predictions, samples, strict=True)
    ]
    assert sum(error) / len(error) == pytest.approx(result["test"]["price"]["mae"], rel=1e-4)


def test_training_writes_all_results_into_the_ledger(result):
    lines = ledger("ledger.csv")
    assert scores(lines, "mmbert") == near(result["test"])
    for arm, expected in {**result["hidden"], **result["baselines"]}.items():
        assert scores(lines, arm) == near(expected)
    assert {(line["study"], line["seed"], line["split"]) for line in lines} == {("small", "3", "test")}
    assert {line["recipe"] for line in lines} == {result["recipe"]}


def test_baseline_gives_the_baselines_of_the_result_and_appends_rows(result):
    Path("rows.csv").unlink(missing_ok=True)
    baselines = mmbert.baseline("small.yaml", ledger="rows.csv", overrides=["train.seed=3"])
    assert baselines == {arm: near(expected) for arm, expected in result["baselines"].items()}
    once = ledger("rows.csv")
    assert {line["arm"] for line in once} == {*baselines}
    for arm, expected in baselines.items():
        assert scores(once, arm) == near(expected)
    mmbert.baseline("small.yaml", ledger="rows.csv", overrides=["train.seed=3"])
    assert ledger("rows.csv") == [*once, *once]


def test_items_of_a_split_are_encoded_once_for_all_evaluations(monkeypatch):
    calls = Counter()

    def counted(sample, processors, key):
        calls[sample.id, key is None] += 1
        return encode_all_inputs(sample, processors, key)

    monkeypatch.setattr("mmbert.data.sample_dataset.encode_all_inputs", counted)
    api.train("small.yaml", out="counted", overrides=["evaluate.baselines=false"])
    evaluated = [times for (_, evaluating), times in calls.items() if evaluating]
    assert evaluated == [1] * len(evaluated)
    assert len(evaluated) > 5  # validation, three times, and test with each input removed


def test_check_reads_the_data(capsys):
    mmbert.check("small.yaml")
    assert "no bad value in 60 rows" in capsys.readouterr().out
    Path("rows.jsonl").write_text(
        "\n".join(f'{{"title": {row}, "price": {row % 5}, "mass": {row % 4}}}' for row in range(9))
    )
    with pytest.raises(DataError, match=r"small\.yaml: 9 bad values in 9 rows"):
        mmbert.check("small.yaml", overrides=["data.made={type: files, path: rows.jsonl}", "inputs.cells=null"])


@pytest.mark.parametrize("select", ["price/accuracy", "mass/rsme"])
def test_train_select_refuses_an_unknown_metric(select):
    with pytest.raises(RecipeError, match=rf"train.select \(--set\): the task '{select.split('/')[0]}' has no metric"):
        mmbert.train(
            "small.yaml", out="selected", resume="never", overrides=[f"train.select={select}", "train.steps=1"]
        )


@pytest.mark.parametrize("name", [name for name in mmbert.__all__ if name != "__version__"])
def test_functions_of_the_package_are_not_hidden_by_modules(name):
    import mmbert.evaluation.results
    import mmbert.training.trainer

    assert getattr(mmbert, name) is getattr(api, name)


def test_import_is_light():
    code = "import sys, mmbert; mmbert.__version__; assert not {'torch', 'pandas', 'pydantic'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)
