"""Layout of the table of a study: columns, digits, marks, and notes on missing values."""

import dataclasses
import math

import pytest

from mmbert.ablation.layout import failed_runs, make_layout
from mmbert.tracking.outcome import ArmOutcome, StudyOutcome


def arm(name, accuracies, **options):
    scores = {
        seed: {"amount": {"rmse": 10.0 + seed, "mae": 1.0}, "label": {"log_loss": 0.1, "accuracy": value}}
        for seed, value in enumerate(accuracies)
    }
    return ArmOutcome(name, scores=scores, **options)


def study(*arms, **options):
    fields = {"lower_is_better": False, "seeds": range(3), **options}
    return StudyOutcome("s", "label", "accuracy", arms=arms, **fields)


REFERENCE = arm("reference", [0.8, 0.9, 1.0])


def texts(rows):
    return [[cell.text for cell in row.cells] for row in rows]


def best(*arms, **options):
    return [row.name for row in make_layout(study(*arms, **options)).arms if row.cells[0].best]


def test_the_primary_metric_then_the_first_of_each_other_task():
    baselines = {"constant": {"label": {"log_loss": 1.0, "accuracy": 0.5}, "tags": {"span_f1": 0.2}}}
    layout = make_layout(study(REFERENCE, arm("one", [0.7]), baselines=baselines))
    assert layout.columns == (("label", "accuracy"), ("amount", "rmse"), ("tags", "span_f1"))
    assert texts(layout.arms) == [["0.900 ± 0.100", "11.00 ± 1.00", ""], ["0.700", "10.00", ""]]
    assert texts(layout.baselines) == [["0.500", "", "0.200"]]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.00012345, "0.000123"),
        (0.0123, "0.0123"),
        (0.5, "0.500"),
        (4.5, "4.500"),
        (45.678, "45.68"),
        (456.78, "456.8"),
        (45678.9, "45679"),
        (0.0, "0.000"),
        (-0.5, "-0.500"),
    ],
)
def test_digits_follow_the_size(value, text):
    assert texts(make_layout(study(arm("reference", [value]))).arms)[0][0] == text


def test_rows_say_how_many_seeds_they_have():
    failed = arm("failed", [0.1, 0.2], failed={2: "killed", 1: "the first time"})
    layout = make_layout(study(REFERENCE, arm("early", [0.1]), failed, arm("none", [], failed={0: "no"})))
    assert [row.seeds for row in layout.arms] == ["3", "1 of 3", "2 of 3, 1 failed", "0 of 3, 1 failed"]
    assert failed_runs(study(REFERENCE, failed)) == [("failed", 2, "killed")]


def test_values_that_are_not_finite_are_left_out_and_reported():
    layout = make_layout(study(REFERENCE, arm("some", [0.5, math.nan, 0.7]), arm("all", [math.inf, math.nan])))
    assert [row.cells[0].text for row in layout.arms[1:]] == ["0.600 ± 0.141 (n = 2)", "not finite"]
    assert best(REFERENCE, arm("all", [math.inf] * 3)) == ["reference"]


def test_reference_masked_arms_and_baselines_are_marked():
    base = dataclasses.replace(REFERENCE, name="base")
    layout = make_layout(study(base, arm("image", [0.1], masked=True), baselines={"constant": {}}))
    assert [row.mark for row in layout.arms] == ["reference", "masked at test"]
    assert [row.mark for row in layout.baselines] == ["baseline"]
    assert make_layout(study(REFERENCE)).arms[0].mark == ""


def test_the_best_is_among_arms_with_the_most_seeds():
    wide, lucky = arm("wide", [0.9, 0.9, 1.0]), arm("lucky", [1.0, 1.0])
    assert best(REFERENCE, wide, lucky) == ["wide"]
    assert best(REFERENCE, wide, lucky, lower_is_better=True) == ["reference"]
    assert best(REFERENCE, dataclasses.replace(REFERENCE, name="twin")) == ["reference", "twin"]
    assert best(arm("reference", []), arm("wide", [])) == []


def test_a_baseline_is_never_the_best():
    layout = make_layout(study(REFERENCE, baselines={"perfect": {"label": {"accuracy": 1.0}}}))
    assert [cell.best for row in layout.baselines for cell in row.cells] == [False, False]
    assert layout.arms[0].cells[0].best
    assert not layout.arms[0].cells[1].best  # the direction of its metric is unknown
