"""The HTML report: complete, escaped, self-contained, of limited size and reproducible."""

import json
import math
import re
from dataclasses import replace

import pytest
from page_parts import Parsed
from report_parts import KINDS, lines, scores, write_run, write_study

from mmbert.errors import IntegrityError
from mmbert.report import page
from mmbert.report.blocks import LADDER
from mmbert.report.page import MAX_BYTES, run_report, study_report
from mmbert.report.reproducibility import data_section, environment_section, recipe_section
from mmbert.tracking.outcome import ArmOutcome, StudyOutcome


def words(text: str) -> set[str]:
    return set(text.split())


HTML = words(
    "html head meta title style body header h1 p nav a main section h2 ul li div table thead tbody tr th "
    "td strong figure figcaption details summary pre footer"
)
SVG = {"svg", "g", "path", "defs", "use", "text", "tspan", "clippath", "rect"}
ATTRIBUTES = words(
    "lang charset name content http-equiv id class href scope dir tabindex role aria-label open d style "
    "viewbox x y width height clip-path transform stroke-linejoin font-family fill"
)
EVIL = (
    "$\\frac{1}{0}$ & </title><script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "{{ 7 * 7 }} {% raw %} \U0001f34e עברית",
    "long" * 40,
)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    outcome, differences = write_study(tmp_path_factory.mktemp("study"), ("joint", "late fusion"), seeds=(0, 1, 2))
    text = study_report(outcome, differences=differences, sentences=["joint is better than late fusion."])
    return outcome, differences, text


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = write_run(tmp_path_factory.mktemp("runs") / "run", seed=7)
    return folder, run_report(folder)


@pytest.fixture(scope="module")
def evil(tmp_path_factory):
    outcome, differences = write_study(
        tmp_path_factory.mktemp("evil"), EVIL, seeds=(0,), text="<script>alert(2)</script>", classes=EVIL
    )
    arms = [outcome.arms[0], *(replace(arm, runs={}) for arm in outcome.arms[1:])]
    arms += [ArmOutcome("x", ("a -> <i>b</i>",), failed={0: "<u>out</u>\x00\ud800\u202e"})]
    baselines = {"<svg onload=alert(3)>": scores(0.5), **outcome.baselines}
    outcome = replace(outcome, name="</title><b>study</b>", arms=arms, baselines=baselines)
    return study_report(outcome, differences=differences, sentences=["<b>bold</b>"])


def check(text: str) -> Parsed:
    """Assert that a page has only known tags, unique ids, no scripts and no external resources."""
    parsed = Parsed(text)
    assert parsed.tags <= HTML | SVG
    assert {name for _, name, _ in parsed.attributes} <= ATTRIBUTES
    ids = parsed.values("id")
    assert len(ids) == len(set(ids))
    assert {value.removeprefix("#") for value in parsed.values("href")} <= set(ids)
    assert set(re.findall(r"url\(#([^)]*)\)", text)) <= set(ids)
    assert "@import" not in text
    assert re.findall(r"url\([^#]", text) == []
    assert "://" not in "".join(value for _, name, value in parsed.attributes if name != "aria-label")
    assert len(text.encode()) < MAX_BYTES
    return parsed


def headings(text: str) -> list[str]:
    return re.findall("<h2>(.*?)</h2>", text)


def test_a_study_has_all_sections_and_its_findings(study):
    outcome, _, text = study
    parsed = check(text)
    assert headings(text) == [
        "Summary",
        "Arms",
        "Comparisons",
        "Tasks",
        "Predictions",
        "Inputs and tasks",
        "Learning curves",
        "Cost",
        "Data",
        "Environment",
        "Recipe",
    ]
    mean = sum(outcome.reference.values("kind", "accuracy").values()) / 3
    assert f"The reference has a mean of {mean:.4f} ±" in parsed.text
    assert "No arm has a better mean than the reference." in parsed.text
    assert "The mean of the reference is better than the best of 3 baselines, linear (text): 0.7." in parsed.text
    assert "joint is better than late fusion." in parsed.text
    assert "fusion.type: joint -> late fusion" in parsed.text
    assert "500 (44 % absent)" in parsed.text
    assert "resumed at step 4" in parsed.text
    assert "expected a number, found 'x'" in parsed.text


def test_foreign_names_and_texts_are_escaped(evil):
    parsed = check(evil)
    for name in (
        "$\\frac{1}{0}$ & </title><script>alert(1)</script>",
        "<script>alert(2)</script>",
        "<b>bold</b>",
        "</title><b>study</b>",
        "a -> <i>b</i>",
        "<svg onload=alert(3)>",
        "<u>out</u>\ufffd\ufffd\ufffd",
        "{{ 7 * 7 }} {% raw %} \U0001f34e",
        "long" * 40,
    ):
        assert name in parsed.text, name
    assert "\x00" not in evil
    assert "\u202e" not in evil


def test_labels_of_figures_are_escaped(evil):
    drawn = " ".join(re.findall(r"<svg.*?</svg>", evil, re.DOTALL))
    assert "$\\frac{1}{0}$ &amp; &lt;/title&gt;" in drawn
    assert "<script" not in drawn


def test_every_figure_says_what_it_shows(study):
    parsed = Parsed(study[2])
    labels = [value for tag, name, value in parsed.attributes if tag == "svg" and name == "aria-label"]
    assert len(labels) == sum(tag == "svg" and name == "viewbox" for tag, name, _ in parsed.attributes) > 8
    assert all(labels)


def test_the_same_input_gives_the_same_bytes(run):
    folder, text = run
    assert run_report(folder) == text


def test_a_run_has_the_sections_of_a_study_but_arms(run):
    parsed = check(run[1])
    assert headings(run[1]) == [
        "Summary",
        "Comparisons",
        "Tasks",
        "Predictions",
        "Inputs and tasks",
        "Learning curves",
        "Cost",
        "Data",
        "Environment",
        "Recipe",
    ]
    assert "Trained with seed 7. The weights after step 10 were the best; scored on 120 rows" in parsed.text
    assert "kind: accuracy 0.8. The best baseline, linear (text), has 0.7; the difference is +0.1" in parsed.text
    assert "): better." in parsed.text


def test_optional_files_may_be_missing_or_damaged(tmp_path):
    bare = run_report(write_run(tmp_path / "bare", full=False))
    check(bare)
    assert headings(bare) == ["Summary", "Tasks", "Recipe"]
    run = write_run(tmp_path / "run", rows=10)
    for file in ("data.json", "env.json", "cost.json", "recipe.yaml"):
        (run / file).write_text('{"rows": [1')
    for file in ("metrics.jsonl", "events.jsonl", "bad_samples.jsonl", "examples.jsonl"):
        (run / file).write_text('{"half\n[1]\n{}\nnull\n')
    check(run_report(run))


def test_values_may_be_missing_or_none(tmp_path):
    run = write_run(tmp_path / "run", rows=0)
    result = json.loads((run / "result.json").read_text())
    result["test"]["kind"]["accuracy"] = math.nan
    result["test"]["price"]["rmse"] = None
    result["hidden"]["mmbert without text"] = {"kind": {"accuracy": math.inf}}
    result["baselines"]["constant"] = {"price": {"rmse": "x"}}
    result["against_best_baseline"]["kind"]["accuracy_difference"] = math.nan
    (run / "result.json").write_text(json.dumps(result))
    nothing = {"step": 1, "time": 1.0, "split": "validation", "task": "kind", "metric": "accuracy", "value": math.nan}
    (run / "metrics.jsonl").write_text(lines(nothing, {**nothing, "value": None}, {**nothing, "step": "x"}))
    parsed = check(run_report(run))
    assert "nan" not in parsed.text.lower().split()


def test_a_study_without_run_folders_or_results(tmp_path):
    arms = [ArmOutcome("a", scores={0: scores(0.5), 1: scores(math.nan)}, failed={2: "stopped"}), ArmOutcome("b")]
    outcome = StudyOutcome("half", "kind", "accuracy", False, [0, 1, 2], arms)
    text = study_report(outcome)
    parsed = check(text)
    assert headings(text) == ["Summary", "Arms", "Tasks", "Recipe"]
    assert "4 of 6 planned runs have no result. 1 result is not finite and is left out of the means." in parsed.text
    assert "1 of 3 stopped" in parsed.text


def test_the_better_arm_of_an_error_is_the_lower(tmp_path):
    arms = [ArmOutcome("a", scores={0: scores(0.5)}), ArmOutcome("b", scores={0: scores(0.6)})]
    outcome = StudyOutcome("s", "price", "rmse", True, [0], arms, baselines={"linear": scores(0.55)})
    text = Parsed(study_report(outcome)).text
    assert "The best mean is that of “b”: 1.4, \u22120.1 relative to the reference." in text
    assert "The mean of the reference is worse than the baseline, linear: 1.45." in text


def test_the_page_of_a_huge_study_is_limited_and_says_what_is_cut(tmp_path):
    runs = {0: write_run(tmp_path / "run", rows=3000, steps=700, classes=[f"class {number}" for number in range(300)])}
    with open(runs[0] / "recipe.yaml", "a") as file:
        file.write("# a remark\n" * 10_000)
    names = [f"arm {number} {'n' * 3000}" for number in range(400)]
    arms = [
        ArmOutcome(name, scores={0: scores(0.5)}, runs={} if position else runs) for position, name in enumerate(names)
    ]
    parsed = check(study_report(StudyOutcome("huge", "kind", "accuracy", False, [0], arms)))
    assert "200 more rows not shown" in parsed.text
    assert "370 more arms are not shown here." in parsed.text
    assert "Long curves are drawn with 150 of their points, evenly chosen." in parsed.text
    assert "The 287 rarest classes are merged." in parsed.text
    assert "more letters not shown" in parsed.text


def test_a_page_that_is_too_large_is_cut_further(tmp_path, monkeypatch):
    folder = write_run(tmp_path / "run", full=False)
    (folder / "recipe.yaml").write_text("# a remark\n" * 10_000)
    monkeypatch.setattr(page, "SECTIONS", (recipe_section,))
    full = run_report(folder)
    assert full.count("# a remark") > LADDER[1].block / 11
    monkeypatch.setattr(page, "MAX_BYTES", len(full))
    assert len(run_report(folder)) < len(full) / 2


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "it holds no run"),
        ({"status.json": '{"state": "preempted"}'}, "it holds a run that is preempted"),
        ({"result.json": "[1]"}, "must hold the scores of a run"),
    ],
)
def test_a_folder_without_a_finished_run_is_reported(tmp_path, files, message):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(IntegrityError, match=message):
        run_report(tmp_path)
    with pytest.raises(IntegrityError, match="found no folder"):
        run_report(tmp_path / "nowhere")


def test_runs_with_different_settings_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "SECTIONS", (data_section, environment_section))
    outcome, _ = write_study(tmp_path, ("a", "b"), seeds=(0,), classes=KINDS)
    path = outcome.arms[1].runs[0]
    facts = json.loads((path / "env.json").read_text())
    (path / "env.json").write_text(json.dumps({**facts, "machine": "another", "commit": "f" * 9}))
    (path / "data.json").write_text('{"fingerprint": "beef", "rows": {}}')
    text = Parsed(study_report(outcome)).text
    assert "Other runs differ in machine and commit" in text
    assert "used other data: fingerprints beef" in text
