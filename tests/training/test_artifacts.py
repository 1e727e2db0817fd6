"""Artifacts of a finished run: predictions, examples and costs, read by reports and studies."""

import json
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import torch

from mmbert import api
from mmbert.ablation.by_example import compare_by_example
from mmbert.data.collate import describe_row
from mmbert.evaluation.predictions import PREDICTIONS_FILE, load_predictions
from mmbert.tracking.run_folder import RunFolder, read_log
from mmbert.training import artifacts
from mmbert.training.artifacts import to_json

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "debug.yaml"
SMALL = (
    "inputs.image=null",
    "inputs.sound=null",
    "inputs.series=null",
    "inputs.graph=null",
    "inputs.cells.width=16",
    "trunk.hidden_size=16",
    "trunk.heads=2",
    "trunk.layers=1",
    "train.batch_size=16",
    "train.steps=2",
    "evaluate.batch_size=4",
    "data.generated.rows=120",
)


def train(out, *settings):
    return api.train(RECIPE, overrides=[*SMALL, *settings], out=out, resume="never")


def lines(run):
    return [json.loads(line) for line in (run / "examples.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("artifacts")


@pytest.fixture(scope="module")
def run(folder):
    train(folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def opened(run):
    return api.open_run(run, data=True)


def test_saved_predictions_give_the_scores_of_the_result(run, opened):
    test, saved = json.loads((run / "result.json").read_text())["test"], load_predictions(run / PREDICTIONS_FILE)
    assert {*saved} == {*test} == {"kind", "topics", "amount", "words"}
    for task, (predictions, targets) in saved.items():
        assert len(predictions.blocks) > 1
        assert opened.model.tasks[task].score(predictions.rows(), targets.rows()) == test[task]


def test_each_example_is_a_labelled_test_row_with_its_prediction(run, opened):
    samples = {sample.id: sample for sample in opened.splits["test"][0]}
    examples, predicted = lines(run), load_predictions(run / PREDICTIONS_FILE)
    labelled = {sample.id for sample in samples.values() if sample.targets}
    assert [line["id"] for line in examples] == sorted(labelled)
    assert any("text" not in sample.inputs for sample in samples.values())  # absent: 0.2
    for line in examples:
        sample = samples[line["id"]]
        assert line["row"] == describe_row(sample)
        text = sample.inputs.get("text", "")
        assert line["text"] == (text if isinstance(text, str) else " ".join(text))[:200]
        assert line["group"] == sample.attributes.get("group")
        assert line["true"] == {task: to_json(label) for task, label in sample.targets.items()}
        assert line["predicted"] == {
            task: opened.model.tasks[task].decode(predicted[task].predictions[sample.id]) for task in sample.targets
        }


def test_examples_are_limited_to_the_lowest_ids_and_predictions_are_not(folder, run, monkeypatch):
    monkeypatch.setattr(artifacts, "MOST_EXAMPLES", 5)
    monkeypatch.setattr(artifacts, "MOST_LETTERS", 3)
    train(folder / "few")
    assert [line["id"] for line in lines(folder / "few")] == [line["id"] for line in lines(run)][:5]
    assert {len(line["text"]) for line in lines(folder / "few")} <= {0, 1, 2, 3}
    assert (folder / "few" / PREDICTIONS_FILE).read_bytes() == (run / PREDICTIONS_FILE).read_bytes()


def test_the_cost_is_time_parameters_and_memory(run, opened, tmp_path):
    cost = json.loads((run / "cost.json").read_text())
    times = [line["time"] for line in read_log(run) if line["split"] == "validation"]
    assert cost["seconds"] == times[-1] > 0
    for name, (learning, count) in cost["parameters"].items():
        part = opened.model.get_submodule(name)
        assert learning == count == sum(parameter.numel() for parameter in part.parameters())
    assert sum(count for _, count in cost["parameters"].values()) == sum(
        parameter.numel() for parameter in opened.model.parameters()
    )
    assert cost["device"] == "cpu"
    line = {"step": 1, "task": "kind", "metric": "loss", "value": 0.5}
    logged = [{**line, "split": split, "time": seconds} for split, seconds in (("train", 3.0), ("test", 9.0))]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in logged))
    assert artifacts.cost(opened, tmp_path, torch.device("cpu"))["seconds"] == 3.0
    assert 50 < cost["memory_mb"] < 20_000


def test_two_seeds_of_two_arms_are_compared_from_their_folders(folder, run):
    arms = {"wide": {}, "narrow": {}}
    for arm, changes in (("wide", ()), ("narrow", ("inputs.cells=null",))):
        for seed in (1, 2):
            arms[arm][seed] = folder / f"{arm}-{seed}"
            train(arms[arm][seed], f"train.seed={seed}", *changes)
    comparison = compare_by_example(
        arms["narrow"], arms["wide"], "kind", "log_loss", lambda path: api.open_run(path).model.tasks["kind"], draws=5
    )
    test = {
        arm: np.mean(
            [json.loads((path / "result.json").read_text())["test"]["kind"]["log_loss"] for path in runs.values()]
        )
        for arm, runs in arms.items()
    }
    assert comparison.difference.difference == pytest.approx(test["narrow"] - test["wide"], rel=1e-9)
    assert comparison.mcnemar.keys() == {1, 2}


@pytest.mark.parametrize("forget", ["clear", "rewind"])
def test_artifacts_of_an_earlier_end_are_removed(tmp_path, forget):
    folder = RunFolder(tmp_path / "run", writes=True)
    ends = {"result.json": {}, PREDICTIONS_FILE: b"\x00\xff", "examples.jsonl": "{}\n", "cost.json": {}}
    for name, content in ends.items():
        folder.write(name, content)
    assert (folder.path / PREDICTIONS_FILE).read_bytes() == b"\x00\xff"
    folder.clear() if forget == "clear" else folder.rewind([], 0, evaluated=False)
    assert not {path.name for path in folder.path.iterdir()} & {*ends}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("é", "é"),
        (True, True),
        (3, 3),
        (None, None),
        (float("nan"), None),
        (np.float64("-inf"), None),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.array([1.5, np.nan]), [1.5, None]),
        (torch.tensor([1]), [1]),
        ([("a", 2)], [["a", 2]]),
        ({1: {"x": (None,)}}, {"1": {"x": [None]}}),
        (date(2026, 1, 2), "2026-01-02"),
    ],
)
def test_any_raw_label_becomes_a_json_value(value, expected):
    assert to_json(value) == expected
    assert type(to_json(value)) is type(expected)
