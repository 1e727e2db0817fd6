"""Results beside baselines: fingerprints of data, the best of several results, and their cache."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mmbert.contracts import Processors
from mmbert.evaluation import results
from mmbert.evaluation.baselines import BaselineResult
from mmbert.evaluation.evaluate import Evaluation
from mmbert.evaluation.results import (
    Result,
    best_result,
    cached_baselines,
    compare,
    fingerprint,
    from_evaluation,
    primary_metric,
)
from mmbert.types import Sample
from tasks.regression import Regression, RegressionLabel


def hash_of(value, **changes):
    """The fingerprint of one sample with this value."""
    fields = {"id": 7, "source": "shop", "inputs": {"a": value}, "targets": {"y": 1.0}} | changes
    return fingerprint({"train": [Sample(**fields)]})


LONG = np.arange(5000.0)
PAIRS = [
    ("one", "two"),
    ("", " "),
    ("ä", "a"),
    ("\ud800", "\ud801"),
    (1, 2),
    (1, 1.0),
    (1, True),
    (1, "1"),
    (0.1, 0.1 + 1e-16),
    (0.0, float("nan")),
    (None, "None"),
    (["a", "b"], ["b", "a"]),
    (["a", "b"], ["a, b"]),
    ({"x": 1, "y": 2}, {"x": 2, "y": 1}),
    ({"x": 1}, {"y": 1}),
    ([[1, 2], [3]], [[1], [2, 3]]),
    (b"one", b"two"),
    (LONG, np.where(LONG == 2500, -1, LONG)),  # in the middle, which repr abbreviates
    (LONG, LONG.reshape(50, 100)),
    (LONG, LONG.astype(np.float32)),
    (LONG * 1e-12, LONG * 1e-12 + 1e-20),
    ((LONG, 8000), (np.where(LONG == 2500, -1, LONG), 8000)),
    ({"sound": LONG}, {"sound": np.where(LONG == 2500, -1, LONG)}),
    (np.array(["a", None], dtype=object), np.array(["b", None], dtype=object)),
    (np.float32(1), np.float32(2)),
]


@pytest.mark.parametrize(("first_value", "second_value"), PAIRS, ids=range(len(PAIRS)))
def test_a_fingerprint_sees_every_value(first_value, second_value):
    assert hash_of(first_value) == hash_of(first_value)
    assert hash_of(first_value) != hash_of(second_value)


def test_a_fingerprint_sees_names_targets_ids_and_splits():
    hashes = {
        hash_of(1),
        hash_of(1, id=8),
        hash_of(1, inputs={"b": 1}),
        hash_of(1, inputs={}),
        hash_of(1, targets={}),
        hash_of(1, targets={"y": 2.0}),
        fingerprint({"test": [Sample(7, "shop", {"a": 1}, {"y": 1.0})]}),
        fingerprint({"train": [], "test": []}),
    }
    assert len(hashes) == 8


def test_a_fingerprint_does_not_see_the_order_of_names_or_where_a_row_stood():
    expected = fingerprint({"train": [Sample(7, "shop", {"a": 1, "b": 2}, {"y": 1, "z": 2}, {"where": "row 1"})]})
    assert expected == fingerprint(
        {"train": [Sample(7, "shop", {"b": 2, "a": 1}, {"z": 2, "y": 1}, {"where": "row 9"})]}
    )


def test_a_file_counts_by_name_and_size(tmp_path):
    for name, content in (("a.png", b"123"), ("deep/a.png", b"456"), ("b.png", b"123"), ("long/a.png", b"1234")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    assert hash_of(tmp_path / "a.png") == hash_of(tmp_path / "deep" / "a.png")  # independent of the folder
    assert hash_of(tmp_path / "a.png") != hash_of(tmp_path / "b.png")
    assert hash_of(tmp_path / "a.png") != hash_of(tmp_path / "long" / "a.png")
    assert hash_of([tmp_path / "a.png"]) != hash_of([tmp_path / "long" / "a.png"])


@pytest.fixture
def task():
    label = RegressionLabel()
    label.fit([0.0, 2.0])  # mean 1, deviation 1
    return Regression(4, label)


def result(arm, **scores):
    return Result(arm, {"amount": scores}, {})


def test_the_primary_metric_is_the_first():
    assert primary_metric({"rmse": 1.0, "mae": 0.5}) == "rmse"
    assert primary_metric({"mae": 0.5, "rmse": 1.0}) == "mae"


def test_the_best_is_the_lowest_error_or_the_highest_score(task):
    arms = [result("a", rmse=2.0, r2=0.9), result("b", rmse=1.0, r2=0.1), Result("c", {}, {}), result("d", rmse=3.0)]
    assert best_result(arms, "amount", task).arm == "b"
    highs = [result("a", r2=0.1), result("b", r2=0.9)]
    assert best_result(highs, "amount", task).arm == "b"


def test_a_difference_is_ours_minus_the_other_over_the_same_rows(task):
    targets = {row: {"target": torch.tensor(0.0)} for row in range(40)}  # labels of 1
    off = {row: torch.tensor(1.0 + (2.0 if row % 2 else 0.0)) for row in targets}
    right = {row: torch.tensor(1.0) for row in reversed(range(40))}  # in another order
    ours = Result("mmbert", {"amount": {"rmse": 0.0}}, {"amount": right})
    theirs = Result("linear", {"amount": {"rmse": 2**0.5}}, {"amount": off})
    difference = compare(ours, theirs, "amount", task, targets, {})
    assert difference.difference == pytest.approx(-(2**0.5))
    assert difference.low < difference.difference < difference.high < 0
    assert compare(ours, ours, "amount", task, targets, {}).difference == 0


def test_an_evaluation_becomes_a_line():
    evaluation = Evaluation({}, {}, {"amount": {"rmse": 1.0}}, {"amount": {3: torch.tensor(1.0)}}, {})
    assert from_evaluation("mmbert", evaluation) == Result("mmbert", evaluation.scores, evaluation.predictions)


def test_a_file_counts_by_its_name_and_size(tmp_path):
    photo = tmp_path / "a.png"

    def current_hash():
        return fingerprint({"train": [Sample(7, "shop", {"photo": str(photo)}, {})]}, {"photo"})

    photo.write_bytes(b"one")
    before = current_hash()
    assert current_hash() == before
    photo.write_bytes(b"another")
    assert current_hash() != before


def test_baselines_are_computed_once_for_the_same_data_and_options(tmp_path, monkeypatch, task):
    runs = []

    def run(splits, processors, texts, tasks):
        runs.append(1)
        predictions = {5: torch.tensor(1.5), 2**62: torch.tensor(0.1)}
        for split in ("validation", "test"):
            yield BaselineResult("amount", "constant", (), split, {"rmse": 1 / 3}, predictions)
            yield BaselineResult("amount", "linear", ("names", "cells"), split, {"rmse": 0.25}, predictions)

    monkeypatch.setattr(results, "run_baselines", run)

    def cached(data="one", label=task.labels, options=("mse",)):
        arguments = ({}, Processors({}, {"amount": label}), [], {"amount": task})
        return cached_baselines(tmp_path / "cache", *arguments, data=data, options={"amount": options})

    first, second = cached(), cached()
    assert len(runs) == 1
    assert [result.arm for result in first] == [result.arm for result in second] == ["constant", "linear (all inputs)"]
    for result in (*first, *second):
        assert result.scores == {"amount": {"rmse": 1 / 3 if result.arm == "constant" else 0.25}}
        torch.testing.assert_close(result.predictions["amount"], {5: torch.tensor(1.5), 2**62: torch.tensor(0.1)})
    cached(data="two")
    cached(label=RegressionLabel(transform="log"))
    cached(options=("huber",))
    assert len(runs) == 4
    assert {file.suffix for file in Path(tmp_path / "cache").iterdir()} == {".json"}
    assert all(json.loads(file.read_text()) for file in Path(tmp_path / "cache").iterdir())
