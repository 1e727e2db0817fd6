"""A run always ends with a result: no test rows, no labels, few groups, broken baselines, broken comparisons."""

import json
from pathlib import Path

import numpy as np
import pytest

from mmbert import api
from mmbert.cli import commands
from mmbert.evaluation import baseline_models, results
from mmbert.experiment.splits import open_splits
from mmbert.recipe.load import load_recipe
from mmbert.report.page import run_report
from mmbert.training import artifacts, comparison

RECIPE = """\
name: shop
data: {shop: {type: files, path: rows.jsonl}}
trunk: {checkpoint: null, layers: 1, hidden_size: 16, heads: 2, vocabulary: 100, max_positions: 32}
inputs: {title: {type: text, max_length: 8}, cells: {type: table, column: [size], width: 8, layers: 1}}
tasks: {kind: {type: classification}, price: {type: regression}}
train: {steps: 2, batch_size: 8}
evaluate: {baselines: true}
"""


def shop(validation=8, test=8, **changes):
    """Rows of a shop; ``changes`` maps a column to a function of the split and the row's number."""
    splits = ["train"] * 24 + ["validation"] * validation + ["test"] * test
    rows = []
    for number, split in enumerate(splits):
        row = {
            "title": f"{['red', 'green'][number % 2]} thing {number}",
            "size": number / 2,
            "split": split,
            "kind": ["apple", "pear"][number % 2],
            "price": number % 7 + 0.5,
        }
        row |= {name: change(split, number, row.get(name)) for name, change in changes.items()}
        rows.append({name: value for name, value in row.items() if value is not None})
    Path("rows.jsonl").write_text("\n".join(map(json.dumps, rows)))


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    Path("shop.yaml").write_text(RECIPE)


def train(*settings):
    words = [word for setting in settings for word in ("--set", setting)]
    return commands.main(["train", "shop.yaml", *words, "--out", "run"])


def result():
    return json.loads(Path("run/result.json").read_text())


def unlabelled(split, number, value):
    return None if split == "test" else value


def labelled_once(split, number, value):
    return value if split != "test" or number == 33 else None


@pytest.mark.parametrize(
    ("rows", "predicted"),
    [
        ({"test": 0}, "validation"),
        ({"kind": unlabelled, "price": unlabelled}, "test"),
        ({"test": 1, "kind": unlabelled, "price": unlabelled}, "test"),
    ],
    ids=["no test rows", "no test labels", "one test row without labels"],
)
def test_without_test_labels_the_result_is_that_of_validation_and_said_so(rows, predicted, capsys):
    shop(**rows)
    assert train() == 0
    output = capsys.readouterr().out
    assert output.index("the result of this run is that of the validation split") < output.index("step 2/2")
    assert "validation split" in output
    assert f"--split {predicted}" in output
    written = result()
    assert (written["split"], written["test"]) == ("validation", {})
    assert {*written["validation"]} == {*written["baselines"]["constant"]} == {"kind", "price"}
    assert written["against_best_baseline"]["price"]["rmse_difference_groups"] == 8
    assert "8 rows of the validation split" in run_report(Path("run"))
    expected = 8 if rows.get("test", 8) in (0, 8) else 1
    assert api.predict("run", split=predicted, output="predictions.jsonl") == expected


def test_one_task_with_one_test_label_is_scored_on_test_alone(capsys):
    shop(kind=unlabelled, price=labelled_once)
    assert train() == 0
    written = result()
    assert (written["split"], {*written["test"]}) == ("test", {"price"})
    facts = written["against_best_baseline"]["price"]
    assert (facts["rmse_difference_low"], facts["rmse_difference_p"], facts["rmse_difference_groups"]) == (None, 1.0, 1)
    assert "no interval, which needs 6 groups" in capsys.readouterr().out
    assert "p = 1" in run_report(Path("run"))


def test_an_ordinary_run_is_scored_on_test():
    shop()
    assert train() == 0
    assert result()["split"] == "test"
    assert {"recipe", "epoch", "seed", "best_step", "test", "hidden", "baselines", "against_best_baseline"} < {
        *result()
    }
    assert "validation" not in result()


def test_evaluating_a_split_without_labels_says_so(capsys):
    shop(kind=unlabelled, price=unlabelled)
    train("evaluate.baselines=false")
    assert commands.main(["evaluate", "run", "--split", "test"]) == 3
    assert "no row of the test split has a label" in capsys.readouterr().err


def broken(*arguments, **options):
    raise ValueError("singular matrix")


@pytest.mark.parametrize("models", [["linear"], ["boosting"], ["linear", "boosting"]])
def test_a_baseline_that_fails_is_none_with_its_reason_and_costs_nothing(models, monkeypatch, capsys):
    shop()
    for model in models:
        monkeypatch.setitem(baseline_models.MODELS, model, broken)
    assert train() == 0
    output = capsys.readouterr().out
    assert output.index("is none: ValueError: singular matrix") < output.index("step 2/2")
    failed = result()["failed_baselines"]
    assert {name.partition(" ")[0] for name in failed} == {*models}
    assert all(reason == "ValueError: singular matrix" for reasons in failed.values() for reason in reasons.values())
    page = run_report(Path("run"))
    assert f"{models[0]} (all inputs) is none: ValueError: singular matrix." in page
    assert "none" in output


@pytest.mark.parametrize(
    ("owner", "name"), [(comparison, "compare"), (artifacts, "examples"), (artifacts, "dump_predictions")]
)
def test_nothing_after_training_can_prevent_the_result(owner, name, monkeypatch):
    shop()
    monkeypatch.setattr(owner, name, broken)
    assert train() == 0
    assert {*result()["test"]} == {"kind", "price"}
    if name == "compare":
        assert result()["against_best_baseline"]["kind"]["failure"] == "ValueError: singular matrix"
        assert "kind" in run_report(Path("run"))


def test_an_error_of_the_ledger_is_raised_and_the_result_is_there():
    shop()
    Path("ledger.csv").write_text("not,a,ledger\n")
    assert commands.main(["train", "shop.yaml", "--out", "run", "--ledger", "ledger.csv"]) == 3
    assert result()["test"]


def test_baselines_are_fitted_before_training_and_once_for_a_resumed_run(monkeypatch, capsys):
    shop()
    fits, fit = [], results.run_baselines
    monkeypatch.setattr(results, "run_baselines", lambda *inputs: fits.append(1) or fit(*inputs))
    monkeypatch.setattr(artifacts, "write_results", broken)
    monkeypatch.setattr("mmbert.training.trainer.write_results", broken)
    with pytest.raises(ValueError, match="singular"):
        api.train("shop.yaml", out="run")
    monkeypatch.setattr("mmbert.training.trainer.write_results", lambda *inputs: {"done": True})
    assert api.train("shop.yaml", out="run") == {"done": True}
    assert len(fits) == 1
    output = capsys.readouterr().out
    assert output.index("baselines, scored on test") < output.index("step 2/2")


@pytest.mark.parametrize("rows", [1, 3])
def test_baselines_of_few_rows_give_scores_or_reasons(rows):
    shop(validation=rows, test=rows)
    assert train("train.batch_size=500") == 0  # a batch larger than the data set, too
    assert {*result()["test"]} == {"kind", "price"}
    assert {*result()["baselines"]} >= {"constant", "linear (title)", "boosting (cells)"}


@pytest.mark.parametrize("split", ["validation", "test"])
def test_classes_of_validation_or_test_alone_are_wrong_predictions_said_once(split, capsys):
    shop(kind=lambda of, number, value: f"plum {number}" if of == split and number % 4 == 0 else value)
    assert commands.main(["check", "shop.yaml", "--data"]) == 0
    assert capsys.readouterr().out.count("no training row has") == 1
    assert train() == 0
    output = capsys.readouterr().out
    assert output.count("no training row has") == 1
    assert f"tasks.kind: {split} has 2 labels that no training row has: 'plum" in output
    assert "(2 in 8 labelled rows)" in output
    if split == "test":
        assert result()["test"]["kind"]["accuracy"] <= 6 / 8
        examples = [json.loads(line) for line in Path("run/examples.jsonl").read_text().splitlines()]
        assert sum(example["true"]["kind"].startswith("plum") for example in examples) == 2
        run_report(Path("run"))


def test_where_no_scored_label_was_in_training_all_are_wrong():
    shop(kind=lambda of, number, value: value if of == "train" else f"plum {number}")
    assert train() == 0
    assert result()["test"]["kind"]["accuracy"] == 0
    assert result()["test"]["kind"]["log_loss"] == pytest.approx(-np.log(1e-12))


@pytest.mark.parametrize(
    ("patients", "options", "split", "way"),
    [
        (4, {}, "validation", "the 4 values of the group 'patient' into validation. Ways out: split_seed: "),
        (2, {"split_seed": 3}, None, "Ways out: "),
        (30, {"split": {"train": 0.5, "validation": 0.5}}, "test", "put no row into test"),
    ],
)
def test_a_split_that_the_hash_left_empty_is_told_before_training(patients, options, split, way, capsys):
    shop(split=lambda *_: None, patient=lambda of, number, value: f"p{number % patients}")
    source = {"group": "patient", **options}
    settings = [f"data.shop.{name}={json.dumps(value)}" for name, value in source.items()]
    code = train(*settings)
    captured = capsys.readouterr()
    text = captured.out + captured.err
    assert way in text
    assert "Traceback" not in text
    assert (code, Path("run/result.json").exists()) == ((0, True) if split == "test" else (3, False))
    if "split_seed: " in text:
        seed = text.partition("split_seed: ")[2].partition(",")[0]
        splits = open_splits(load_recipe("shop.yaml", [*settings, f"data.shop.split_seed={seed}"]).recipe)
        assert all(any(map(len, sources)) for sources in splits.values())
