"""Figures of a report: positions of marks, and foreign settings and names."""

import math
import re

import matplotlib
import pytest

from mmbert.report.confusions import OTHER, count_confusions, number_pairs
from mmbert.report.curves import average_seeds, draw_curves, thin
from mmbert.report.figures import ArmDifference, draw_bars, draw_differences, draw_dots, t_interval
from mmbert.report.heatmaps import draw_confusion, draw_heat_map, draw_scatter
from mmbert.report.svg import draw


def texts(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def at(svg: str, text: str) -> tuple[float, float]:
    """The position of a text."""
    match = re.search(rf"<text([^>]*)>{re.escape(text)}</text>", svg)
    assert match, text
    position = dict(re.findall(r' ([xy])="([^"]*)"', match[1]))
    return float(position["x"]), float(position["y"])


def marks(svg: str, colour: str) -> list[tuple[float, float]]:
    """The positions of the marks of a colour."""
    uses = [
        dict(re.findall(r'(href|x|y|style)="([^"]*)"', attributes)) for attributes in re.findall("<use([^>]*)>", svg)
    ]
    return [
        (float(attributes["x"]), float(attributes["y"]))
        for attributes in uses
        if f"fill: {colour}" in attributes.get("style", "").lower()
    ]


BLUE = "#0072b2"


def test_each_seed_is_a_dot_at_its_value():
    svg = str(draw_dots("d", "accuracy", [("a", {0: 0.5}), ("b", {0: 0.6, 1: 0.7, 2: 0.8})], {}))
    places = [x for x, _ in marks(svg, BLUE)]
    assert len(places) == 3
    assert places[1] - places[0] == pytest.approx(places[2] - places[1], abs=1e-3)
    assert len(marks(svg, "currentcolor")) == 1  # the reference
    assert at(svg, "a")[1] < at(svg, "b")[1]


def test_baselines_are_named_and_one_far_away_stands_at_the_edge():
    arms = [("a", {0: 0.8}), ("b", {0: 0.9})]
    shown = texts(str(draw_dots("d", "accuracy", arms, {"near": 0.85, "far": 0.1, "beyond": 9.0, "none": math.nan})))
    assert {"near 0.85", "← far 0.1", "beyond 9 →"} <= set(shown)
    assert not any("none" in text for text in shown)


def test_an_arm_without_result_says_so():
    assert "no result" in texts(str(draw_dots("d", "accuracy", [("a", {}), ("b", {0: math.nan})], {})))
    assert "no result" in texts(str(draw_differences("d", [ArmDifference("b", "a", "t", "m", math.nan)])))


def test_the_interval_is_that_of_student():
    from scipy.stats import ttest_1samp

    values = [0.81, 0.84, 0.79, 0.83]
    expected = ttest_1samp(values, 0).confidence_interval(0.95)
    assert t_interval([*values, math.nan]) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize(("lower", "direction"), [(True, "← better"), (False, "← worse"), (None, "")])
def test_differences_lie_around_zero_and_name_the_better_side(lower, direction):
    difference = ArmDifference(
        "b", "a", "kind", "accuracy", -0.2, -0.3, -0.1, by_seed={0: -0.25}, lower_is_better=lower
    )
    svg = str(draw_differences("d", [difference]))
    assert any(text.startswith("← ") for text in texts(svg)) == bool(direction)
    assert any(text.startswith(direction) for text in texts(svg))
    assert max(x for x, _ in marks(svg, BLUE)) < at(svg, "0.0")[0]


def test_different_metrics_have_separate_axes():
    differences = [ArmDifference("b", "a", task, "accuracy", 0.1, 0.0, 0.2) for task in ("one", "two", "one")]
    svg = str(draw_differences("d", differences))
    assert texts(svg).count("one accuracy") == texts(svg).count("two accuracy") == 1


def test_curves_join_what_all_seeds_have_and_keep_their_ends():
    curve = average_seeds("a", [[(2, 1.0), (4, 2.0), (6, 3.0)], [(2, 3.0), (4, 0.0)], [(2, 2.0)]])
    assert (curve.steps, curve.middle) == ([2, 4, 6], [2.0, 1.0, 3.0])
    assert (curve.low, curve.high) == ([1.0, 0.0, 3.0], [3.0, 2.0, 3.0])
    long = thin(average_seeds("a", [[(step, 0.5) for step in range(1000)]]), 50)
    assert (len(long.steps), long.steps[0], long.steps[-1]) == (50, 0, 999)


def test_arms_differ_in_colour_and_dashes():
    curves = [average_seeds(name, [[(1, 0.0), (2, 1.0)], [(1, 0.2), (2, 1.2)]]) for name in "abc"]
    svg = str(draw_curves("c", "accuracy", curves, best_step=2))
    strokes = set(re.findall(r"stroke: (#0072b2|#d55e00|currentColor)", svg))
    assert strokes == {"#0072b2", "#d55e00", "currentColor"}
    assert len(set(re.findall("stroke-dasharray: [^;]*", svg))) > 2
    assert {"a", "b", "c", "best"} <= set(texts(svg))


def test_curves_may_run_over_shares():
    curves = [average_seeds("a", [[(0, 0.5), (1, 1.0)]])]
    assert "share of rows" in texts(svg := str(draw_curves("c", "accuracy", curves, axis="share of rows")))
    assert "0.2" in texts(svg)
    assert "accuracy by share of rows of a" in svg
    assert not {"0.2", "0.5"} & {*texts(str(draw_curves("c", "", [average_seeds("a", [[(0, 7.0), (1, 9.0)]])])))}


def row(true, label):
    return {"true": {"kind": true}, "predicted": {"kind": {"label": label, "probability": 0.5}}}


def test_confusions_are_counted_and_rare_classes_joined():
    rows = [row("a", "a"), row("a", "b"), row("a", "b"), row("b", "a"), row("c", "d"), row("b", "b"), row("a", "a")]
    confusions = count_confusions(rows, "kind", max_classes=4)
    assert confusions is not None
    assert (list(confusions.classes), confusions.merged) == (["a", "b", "c", "d"], 0)
    assert [list(counts) for counts in confusions.counts] == [[2, 2, 0, 0], [1, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]]
    assert [(true, guess, len(behind)) for true, guess, behind in confusions.mistakes] == [
        ("a", "b", 2),
        ("b", "a", 1),
        ("c", "d", 1),
    ]
    joined = count_confusions(rows, "kind", max_classes=3)
    assert joined is not None
    assert list(joined.classes) == ["a", "b", OTHER]
    assert [list(counts) for counts in joined.counts] == [[2, 2, 0], [1, 1, 0], [0, 0, 1]]
    assert count_confusions(rows, "price", max_classes=3) is None
    assert number_pairs([*rows, {"true": {"kind": 1}, "predicted": {"kind": None}}, {}], "kind") == []
    assert count_confusions([{"true": {"kind": ["a"]}, "predicted": {"kind": ["a"]}}], "kind", max_classes=3) is None


def test_cells_of_a_confusion_hold_their_counts():
    svg = str(draw_confusion("c", "kind", ["a", "b"], [[7, 2], [0, 5]]))
    assert {"7", "2", "5", "a", "b", "true", "predicted"} <= set(texts(svg))
    assert "0" not in texts(svg)
    assert at(svg, "7")[1] == at(svg, "2")[1] < at(svg, "5")[1]


def test_the_heat_map_marks_what_gets_worse():
    changes = {("text", "kind"): (-0.2, True), ("text", "price"): (0.1, False), ("photo", "kind"): (0.05, None)}
    svg = str(draw_heat_map("h", ["text", "photo"], [("kind", "accuracy"), ("price", "rmse")], changes))
    assert {"\u22120.2", "+0.1", "+0.05"} <= set(texts(svg))
    assert (svg.count("fill: #d55e00"), svg.count("fill: #0072b2")) == (1, 1)
    assert {"text hidden", "photo hidden"} <= set(texts(svg))
    named = str(draw_heat_map("h", ["text"], [("kind", "accuracy")], changes, title="Gain", suffix=" added"))
    assert "text added" in texts(named)
    assert "Gain. kind text added: \u22120.2" in named


def test_numbers_lie_on_the_line_where_they_agree():
    svg = str(draw_scatter("s", "price", [(1.0, 1.0), (2.0, 2.0), (1.0, 2.0)]))
    dots_ = marks(svg, BLUE)
    assert len(dots_) == 3
    assert dots_[1][0] - dots_[0][0] == pytest.approx(dots_[0][1] - dots_[1][1], abs=0.01)  # y points down
    assert (dots_[2][0], dots_[2][1]) == pytest.approx((dots_[0][0], dots_[1][1]))


def test_bars_show_means_and_mark_unknown_values():
    svg = str(draw_bars("b", "seconds", [("a", [10.0, 20.0]), ("b", [math.nan]), ("c", [1e-5])]))
    assert {"15", "not known", "&lt; 0.001"} <= set(texts(svg))


def test_names_are_escaped(recwarn):
    names = ['$x_1$ <b>&"', "\\LaTeX \U0001f98a", "w" * 500]
    svg = str(draw_dots("d", "$y$", [(name, {0: 1.0}) for name in names], {"$z$": 1.0}))
    assert {'$x_1$ &lt;b&gt;&amp;"', "\\LaTeX \U0001f98a", "$z$ 1"} <= set(texts(svg))
    assert "<b>" not in svg
    assert max(map(len, texts(svg))) < 40
    assert not recwarn.list


def test_ids_are_unique_to_a_figure_and_settings_are_not_changed():
    before = dict(matplotlib.rcParams)
    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 9}):
        first = str(draw_dots("one", "m", [("a", {0: 1.0})], {"c": 1.0}))
    assert first == str(draw_dots("one", "m", [("a", {0: 1.0})], {"c": 1.0}))
    second = str(draw_dots("two", "m", [("a", {0: 1.0})], {"c": 1.0}))
    ids = [set(re.findall(r' id="([^"]*)"', svg)) for svg in (first, second)]
    assert not ids[0] & ids[1]
    assert set(re.findall(r"url\(#([^)]*)\)", first)) <= ids[0]
    assert dict(matplotlib.rcParams) == before


def test_a_figure_has_no_background_link_or_style():
    svg = str(draw("n", "a <title>", 2, 1, lambda figure: figure.add_subplot()))
    assert svg.startswith("<svg ")
    assert 'aria-label="a &lt;title&gt;"' in svg
    assert "http" not in svg
    assert "#ffffff" not in svg
    assert "<style" not in svg
