"""`mmbert evaluate RUN --inputs`: contributions of inputs, consistent with training and reproducible."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

import mmbert
from mmbert.analysis import probe
from mmbert.analysis.contribution import measure_contributions
from mmbert.cli import commands
from mmbert.errors import DataError, IntegrityError, RecipeError
from mmbert.inference.predict import open_run
from mmbert.report import curves, heatmaps, page
from mmbert.tracking.run_folder import RunFolder

RECIPE = """\
name: small
data: {made: {type: generated, rows: 80, absent: 0.2}}
trunk: {checkpoint: null, layers: 1, hidden_size: 16, heads: 2, vocabulary: 100, max_positions: 32}
inputs: {title: {type: text, max_length: 16}, cells: {type: table, width: 8, layers: 1}}
tasks: {price: {type: regression}, kind: {type: classification}, words: {type: tagging, of: title}}
train: {steps: 2, batch_size: 8, trackers: [], precision: fp64}
evaluate: {baselines: false, batch_size: 5}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("worth")
    (folder / "small.yaml").write_text(RECIPE)
    return folder


@pytest.fixture(scope="module")
def trained(folder):
    """The result of training, and the contributions of its inputs."""
    with pytest.MonkeyPatch.context() as patch:
        quickly(folder, patch)
        result = mmbert.train("small.yaml", out="run")
        return result, measure_contributions("run")


@pytest.fixture(autouse=True)
def _quickly(folder, monkeypatch):
    quickly(folder, monkeypatch)


def quickly(folder, patch):
    patch.chdir(folder)
    patch.setattr(page, "SECTIONS", (page.contribution_section,))
    patch.setattr(probe, "DRAWS", 5)


def near(expected):
    return {task: pytest.approx(metrics, rel=1e-9) for task, metrics in expected.items()}


def test_scores_of_subsets_equal_those_of_training_with_hidden_inputs(trained):
    result, report = trained
    subsets = {tuple(subset["inputs"]): subset["scores"] for subset in report["subsets"]}
    assert subsets.keys() == {(), ("cells",), ("title",), ("cells", "title")}
    assert subsets["cells", "title"] == near(result["test"])
    assert subsets["title",] == near(result["hidden"]["mmbert without cells"])
    assert subsets["cells",] == near(result["hidden"]["mmbert without title"])
    assert subsets[()] == report["constant"]


def test_without_inputs_the_score_is_that_of_the_constant_predictor(trained):
    experiment = open_run("run", data=True)
    true = np.array([sample.targets["price"] for sample in experiment.splits["test"][0] if "price" in sample.targets])
    label = experiment.processors.targets["price"]
    error = math.sqrt(np.square(true - label.mean).mean())
    assert trained[1]["constant"]["price"]["rmse"] == pytest.approx(error, rel=1e-6)


def test_contributions_add_up_to_the_gain_of_all_inputs_over_none(trained):
    report = trained[1]
    for task, metrics in report["contributions"].items():
        assert metrics.keys() == report["constant"][task].keys()
        for metric, worths in metrics.items():
            assert worths.keys() == {"cells", "title"}
            gain = report["subsets"][-1]["scores"][task][metric] - report["constant"][task][metric]
            lower = metric in ("rmse", "mae", "log_loss")
            assert sum(worths.values()) == pytest.approx(-gain if lower else gain, abs=1e-12)


def test_curves_start_at_the_full_score_and_differ_at_rate_1(trained):
    result, report = trained
    assert report["rates"] == [0, 0.2, 0.4, 0.6, 0.8, 1]
    changed = [f"{name} corrupted" for name in ("cells", "title")]
    assert [*report["curves"]] == ["absent at random", *changed]
    for curve in report["curves"].values():
        assert curve["scores"][0] == near(result["test"])
        assert len(curve["scores"]) == 6
        assert curve["scores"][-1]["price"]["rmse"] != curve["scores"][0]["price"]["rmse"]
        noted = {note.partition(":")[0] for note in report["notes"]}
        assert curve["areas"].keys() | noted == {"price", "kind", "words"}
        assert not curve["areas"].keys() & noted


def test_emap_and_calibration_are_of_tasks_with_one_label_a_row(trained):
    result, report = trained
    additive = report["additive"]["tasks"]
    assert additive.keys() == {"price", "kind"}
    # few enough rows to use all of them
    assert additive["price"]["model"] == pytest.approx(result["test"]["price"], rel=1e-9)
    measures = report["calibration"]["kind"]
    assert report["calibration"].keys() == {"kind"}
    assert measures["before"]["nll"] == pytest.approx(result["test"]["kind"]["log_loss"], rel=1e-9)
    assert measures["after"].keys() == measures["before"].keys() == {"ece", "brier", "nll"}


def test_the_report_is_saved_and_repeating_it_gives_the_same(trained, capsys):
    before = Path("run", "inputs.json").read_bytes()
    assert json.loads(before) == trained[1]
    assert commands.main(["evaluate", "run", "--inputs"]) == 0
    assert Path("run", "inputs.json").read_bytes() == before
    out = capsys.readouterr().out
    rows = trained[1]["rows"]
    for words in (
        f"{rows} rows of the test split",
        "no input (constant)",
        "all inputs over none",
        "absent at random",
        "title corrupted",
        "price rmse",
        "temperature",
        "written to run/inputs.json",
    ):
        assert words in out, words


def test_the_html_report_shows_contributions(trained, monkeypatch):
    for module in (curves, heatmaps):  # drawing is slow
        monkeypatch.setattr(module, "draw", lambda name, title, *_: title)
    assert commands.main(["report", "run"]) == 0
    assert "What each input contributes" in Path("run", "report.html").read_text()


def test_other_splits_and_row_limits_have_their_own_file(trained, monkeypatch):
    monkeypatch.setattr("mmbert.analysis.contribution.MOST_INPUTS", 1)  # so that 2 inputs are too many
    report = measure_contributions("run", split="validation", rows=4)
    assert (report["split"], report["rows"]) == ("validation", 4)
    assert report["of"] > 4
    assert json.loads(Path("run", "inputs.validation.json").read_text()) == report
    # a temperature is fitted on this split, so it is not measured there
    assert all("temperature" not in task for task in report["calibration"].values())
    assert (report["subsets"], report["contributions"], len(report["curves"])) == ([], {}, 3)
    assert any("2 inputs have 4 subsets, more than the 2 that are scored" in note for note in report["notes"])
    assert json.loads(Path("run", "inputs.json").read_text()) == trained[1]


def test_training_anew_removes_the_file(tmp_path):
    names = ("inputs.json", "inputs.train.json", "inputs.validation.json")
    folder = RunFolder(tmp_path, writes=True)
    for begin in (folder.clear, lambda: folder.rewind([], 3, evaluated=True)):
        for name in names:
            folder.write(name, {})
        begin()
        assert not any((tmp_path / name).exists() for name in names)


def test_an_unfinished_run_and_several_processes_are_refused(trained, tmp_path, monkeypatch):
    with pytest.raises(IntegrityError, match="must hold a finished run"):
        measure_contributions(tmp_path)
    with pytest.raises(IntegrityError, match="is not a run folder"):
        measure_contributions(tmp_path / "nowhere")
    for rows in (0, -1):
        with pytest.raises(RecipeError, match=f"--rows: expected 1 or more, found {rows}"):
            measure_contributions("run", rows=rows)
    monkeypatch.setattr("mmbert.distributed.Accelerator.num_processes", 2)
    with pytest.raises(RecipeError, match="runs in one process"):
        measure_contributions("run")


def test_a_split_without_labels_is_reported(trained, monkeypatch):
    monkeypatch.setattr("mmbert.analysis.contribution._choose_rows", lambda experiment, split, rows: [])
    with pytest.raises(DataError, match="expected labels in the rows of the test split, found none"):
        measure_contributions("run")
