"""The section of a report about contributions of inputs: complete, escaped, robust to damaged files."""

import json
import math
from functools import cache

import pytest
from markupsafe import escape
from page_parts import Parsed
from report_parts import write_run, write_study

from mmbert.report import curves, heatmaps, page
from mmbert.report.page import run_report, study_report

RATES = [0.0, 0.5, 1.0]


def scores(value):
    return {"kind": {"accuracy": value, "log_loss": 1 - value}, "price": {"rmse": 2 - value, "r2": value}}


def curve(*values, **areas):
    return {"scores": [scores(value) for value in values], "areas": areas}


def measured(text="text", photo="photo"):
    subsets = [([], 0.5), ([photo], 0.6), ([text], 0.7), ([photo, text], 0.9)]
    return {
        "split": "test",
        "rows": 100,
        "of": 120,
        "seed": 7,
        "inputs": [photo, text],
        "tasks": {"kind": {"metric": "accuracy", "rows": 100}, "price": {"metric": "rmse", "rows": 99}},
        "constant": scores(0.5),
        "rates": RATES,
        "subsets": [{"inputs": inputs, "scores": scores(value)} for inputs, value in subsets],
        "contributions": {
            "kind": {"accuracy": {photo: 0.15, text: 0.25}},
            "price": {"rmse": {photo: -0.125, text: 0.5}},
        },
        "curves": {
            "absent at random": curve(0.9, 0.8, 0.65, kind=0.625, price=0.5),
            f"{text} corrupted": curve(0.9, 0.7, 0.6, kind=0.375),
        },
        "additive": {
            "rows": 64,
            "tasks": {
                "kind": {
                    "rows": 64,
                    "model": {"accuracy": 0.875},
                    "additive": {"accuracy": 0.75},
                    "difference": {"difference": 0.125, "low": 0.0625, "high": 0.1875, "p": 0.01},
                }
            },
        },
        "calibration": {
            "kind": {
                "before": {"ece": 0.123, "brier": 0.5, "nll": 1.5},
                "temperature": 1.75,
                "after": {"ece": 0.0625, "brier": 0.25, "nll": 1.25},
            }
        },
        "notes": ["price: rmse is no better than chance"],
    }


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "SECTIONS", (page.contribution_section,))
    return write_run(tmp_path / "run", full=False)


@pytest.fixture
def undrawn(monkeypatch):
    """Replace figures by their titles and read the template once, for speed."""
    monkeypatch.setattr(page, "_environment", cache(page._environment))
    for module in (heatmaps, curves):
        monkeypatch.setattr(module, "draw", lambda name, title, *_: escape(title))


def report(run, content):
    (run / "inputs.json").write_text(json.dumps(content))
    return run_report(run)


def test_the_section_shows_everything_that_was_measured(run):
    text = report(run, measured())
    parsed = Parsed(text)
    assert "<h2>What each input contributes</h2>" in text
    assert "Measured on 100 of 120 rows of the test split." in parsed.text
    for row in (
        "absent at random 0.625 0.5",
        "text corrupted 0.375 \N{EN DASH}",
        "none: the constant 0.5 1.5",
        "photo, text 0.9 1.1",
        "kind accuracy 64 0.875 0.75 +0.125 +0.0625 to +0.1875",
        "kind 0.123 0.5 1.5 1.75 0.0625 0.25 1.25",
        "price: rmse is no better than chance",
    ):
        assert row in parsed.text, row
    labels = [value for tag, name, value in parsed.attributes if tag == "svg" and name == "aria-label"]
    assert labels[0].startswith("Contribution of each input to each task. kind photo: +0.15; kind text: +0.25;")
    assert labels[1:] == [
        f"{title} by share of rows of absent at random, text corrupted, constant"
        for title in ("kind: accuracy", "price: rmse")
    ]
    # blue where an input helps, red where it harms
    heat = text[text.index("<svg") : text.index("</svg>")].lower()
    assert heat.count("fill: #0072b2") == 3
    assert heat.count("fill: #d55e00") == 1
    assert "without" not in heat


def test_a_run_without_measurements_has_no_section(run):
    assert "What each input contributes" not in run_report(run)


def test_a_study_shows_the_first_seed_of_the_reference_that_was_measured(tmp_path, monkeypatch, undrawn):
    monkeypatch.setattr(page, "SECTIONS", (page.contribution_section,))
    outcome, _ = write_study(tmp_path, ("a", "b"), seeds=(0, 1))
    (outcome.arms[1].runs[0] / "inputs.json").write_text(json.dumps(measured()))
    assert "What each input contributes" not in study_report(outcome)
    (outcome.arms[0].runs[1] / "inputs.json").write_text(json.dumps(measured()))
    assert "Measured with seed 1 on 100 of 120 rows" in Parsed(study_report(outcome)).text


def test_foreign_names_are_escaped(run):
    evil = "</svg><script>alert(1)</script> $\\frac{1}{0}$"
    content = measured(text=evil)
    content["notes"] = [f"{evil}: no"]
    text = report(run, content)
    assert "<script" not in text
    assert evil in Parsed(text).text


def test_missing_and_damaged_values_are_skipped(run, undrawn):
    broken = (7, {"kind": 3}, {"kind": {"accuracy": "x", "metric": 1}}, [[1], None])
    for key in measured():
        for value in broken:
            report(run, measured() | {key: value})
        report(run, {name: value for name, value in measured().items() if name != key})
    (run / "inputs.json").write_text('{"half')
    assert "What each input contributes" not in run_report(run)


def test_values_that_are_not_finite_are_not_drawn(run):
    content = measured()
    content["contributions"]["kind"]["accuracy"]["text"] = math.nan
    content["curves"]["absent at random"]["scores"][1]["kind"]["accuracy"] = math.inf
    content["curves"]["text corrupted"]["scores"] = [{}, {}, {}]
    parsed = Parsed(report(run, content))
    assert "nan" not in parsed.text.lower().split()
    assert "kind: accuracy by share of rows of absent at random, constant" in parsed.values("aria-label")


def test_many_inputs_are_cut_with_a_note(run, undrawn):
    content = measured()
    names = [f"input {place}" for place in range(40)]
    content["contributions"]["kind"]["accuracy"] = dict.fromkeys(names, 0.1)
    content["curves"] = {name: curve(0.9, 0.8, 0.7, kind=0.5) for name in names}
    text = Parsed(report(run, content)).text
    assert "12 more inputs are not shown here." in text  # of 42; price has two others
    assert "33 more curves are not shown here." in text
