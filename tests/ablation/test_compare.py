"""Comparisons of arms: which pairs, on which seeds, and how the result is worded."""

import dataclasses
import math

import numpy as np
import pytest

from mmbert.ablation.compare import Comparison, comparisons, sentence
from mmbert.ablation.statistics import compare_paired
from mmbert.tracking.outcome import ArmOutcome, StudyOutcome

SHIFTS = {"without text": -0.03, "wide": 0.02, "noisy": 0.0}


def arm(name, values, **options):
    scores = {seed: {"label": {"accuracy": value, "log_loss": 1.0}} for seed, value in values.items()}
    return ArmOutcome(name, scores=scores, **options)


def study(seeds=7, planned=(("without text", "reference"),), lower_is_better=False, **changes):
    rng = np.random.default_rng(0)
    arms = [arm("reference", {seed: 0.9 + 0.001 * rng.normal() for seed in range(seeds)})]
    for name, shift in SHIFTS.items():
        size = 0.1 if name == "noisy" else 0.001
        arms.append(arm(name, {seed: 0.9 + shift + size * rng.normal() for seed in range(seeds)}))
    return dataclasses.replace(
        StudyOutcome("s", "label", "accuracy", lower_is_better, range(seeds), arms, planned), **changes
    )


def replaced(outcome, name, values, **options):
    arms = [arm(name, values, **options) if existing.name == name else existing for existing in outcome.arms]
    return dataclasses.replace(outcome, arms=arms)


def test_planned_comparisons_come_first_and_all_arms_are_compared():
    compared = comparisons(study(planned=[("wide", "without text"), ("noisy", "reference")]))
    assert [(comparison.arm, comparison.reference, comparison.planned) for comparison in compared] == [
        ("wide", "without text", 2),
        ("noisy", "reference", 2),
        ("without text", "reference", 0),
        ("wide", "reference", 0),
    ]
    assert [comparison.holm is None for comparison in compared] == [False, False, True, True]


def test_differences_are_arm_minus_reference():
    by_arm = {comparison.arm: comparison for comparison in comparisons(study())}
    assert by_arm["without text"].paired.difference == pytest.approx(-0.03, abs=0.002)
    assert by_arm["wide"].paired.difference == pytest.approx(0.02, abs=0.002)
    outcome = study()
    values = [list(outcome.arm(name).values("label", "accuracy").values()) for name in ("wide", "reference")]
    assert by_arm["wide"].paired == compare_paired(*values)


def test_holm_adjusts_planned_comparisons_only():
    [first, *_] = comparisons(study())
    assert first.holm == first.paired.p == 2 / 128
    three = comparisons(study(planned=[(name, "reference") for name in SHIFTS]))
    assert [comparison.holm for comparison in three[:2]] == [pytest.approx(6 / 128)] * 2
    assert three[2].holm == three[2].paired.p > 0.05


@pytest.mark.parametrize(("lower", "words"), [(False, ("worse", "better")), (True, ("better", "worse"))])
def test_better_depends_on_the_metric(lower, words):
    by_arm = {comparison.arm: comparison for comparison in comparisons(study(lower_is_better=lower))}
    assert (by_arm["without text"].better, by_arm["wide"].better) == words
    assert f"accuracy lower by 0.0309, {words[0]} (" in sentence(by_arm["without text"])
    assert f"accuracy higher by 0.01952, {words[1]} (" in sentence(by_arm["wide"])


def comparison(a, b, **options):
    return Comparison("without text", "reference", "label", "accuracy", False, compare_paired(a, b), **options)


def test_the_comparison_as_a_sentence():
    a = 0.8 + 0.0115 * np.array([-1, 1, -1, 1, -1, 1, 0])
    planned = comparison(a, np.full(7, 0.831), planned=3, holm=6 / 128, decidable=True)
    assert sentence(planned) == (
        "without text: accuracy lower by 0.031, worse "
        "(95 % interval 0.020 to 0.042, 7 seeds, p = 0.0156, p (Holm) = 0.0469): significant"
    )
    changed = dataclasses.replace(
        planned, reference="wide", missing=("seed 7 of wide (failed)", "seed 8 of wide (not run)")
    )
    assert sentence(changed).startswith("without text against wide: accuracy lower by")
    assert sentence(changed).endswith(": significant; missing: seed 7 of wide (failed); seed 8 of wide (not run)")
    assert sentence(changed, base="wide").startswith("without text: accuracy lower by")


def test_an_interval_across_zero_is_worded_with_both_directions():
    up, down = [0.1, -0.05, 0.1, -0.05], [-0.1, 0.05, -0.1, 0.05]
    assert "higher by 0.03 (95 % interval 0.11 lower to 0.16 higher" in sentence(comparison(up, [0] * 4))
    assert "lower by 0.03 (95 % interval 0.11 higher to 0.16 lower" in sentence(comparison(down, [0] * 4))


def test_a_difference_that_is_not_detected_is_neither_better_nor_worse():
    [planned, *_] = comparisons(study(planned=[("noisy", "reference")]))
    assert planned.better in ("better", "worse")  # by the mean, as in comparisons.csv
    assert not planned.detected
    text = sentence(planned)
    assert text.endswith(": no detectable difference")
    assert ", worse" not in text
    assert ", better" not in text


def test_a_difference_smaller_than_the_digits_is_worded_so():
    assert "accuracy the same on average (95 % interval 0 to 0, 3 seeds)" in sentence(comparison([1] * 3, [1] * 3))
    assert "accuracy nearly the same on average (" in sentence(comparison([0.5, -0.4999], [0, 0]))


def test_significant_is_written_only_for_a_small_adjusted_p():
    compared = comparisons(study(planned=[("without text", "reference"), ("noisy", "reference")]))
    texts = {comparison.arm: sentence(comparison) for comparison in compared}
    assert texts["without text"].endswith(": significant")
    assert texts["noisy"].endswith(": no detectable difference")
    assert texts["wide"].endswith(": not planned, only described")
    assert [comparison.significant for comparison in compared] == [True, False, False]
    assert "p =" not in texts["wide"]


@pytest.mark.parametrize(("k", "needed"), [(1, 6), (2, 7), (3, 7)])
def test_a_design_with_too_few_seeds_never_says_significant(k, needed):
    planned = [(name, "reference") for name in SHIFTS][:k]
    for seeds in range(1, needed):
        for comparison in comparisons(study(seeds, planned)):
            text = sentence(comparison)
            assert "signific" not in text.lower()
            if comparison.planned:
                among = "this comparison" if k == 1 else f"{k} planned comparisons"
                count = "1 seed" if seeds == 1 else f"{seeds} seeds"
                assert text.endswith(f": {count} cannot decide {among}; {needed} are needed")
    assert sentence(comparisons(study(needed, planned))[0]).endswith(": significant")


def test_one_seed_has_no_interval():
    text = sentence(comparisons(study(1))[0])
    assert "(1 seed, p = 1, p (Holm) = 1)" in text
    assert "interval" not in text


def test_seeds_are_paired_and_what_is_missing_is_named():
    outcome = study(8)
    of_text = outcome.arm("without text").values("label", "accuracy")
    values = {seed: value for seed, value in reversed(of_text.items()) if seed not in (2, 4, 5, 6)}
    outcome = replaced(outcome, "without text", {**values, 4: math.nan}, failed={2: "killed", 3: "first try"})
    base = outcome.reference.values("label", "accuracy")
    del base[7]
    first = comparisons(replaced(outcome, "reference", base))[0]
    seeds = [0, 1, 3]
    assert first.paired == compare_paired([of_text[seed] for seed in seeds], [base[seed] for seed in seeds])
    assert first.missing == (
        "seed 2 of without text (failed)",
        "seed 4 of without text (accuracy is not finite)",
        "seeds 5-6 of without text (not run)",
        "seed 7 of reference (not run)",
    )


def test_an_arm_without_the_task_is_reported():
    outcome = study()
    bare = ArmOutcome("without text", scores={seed: {"amount": {"rmse": 1.0}} for seed in (0, 1, 3, 5, 6)})
    outcome = dataclasses.replace(outcome, arms=[outcome.reference, bare], planned=[])
    [comparison] = comparisons(outcome)
    assert sentence(comparison) == (
        "without text: no seed has accuracy of both arms: not planned, only described; missing: "
        "seeds 0-1, 3, 5-6 of without text (without accuracy); seeds 2, 4 of without text (not run)"
    )
    assert comparison.better == ""


def test_a_planned_comparison_without_runs_still_counts():
    planned = [("without text", "reference"), ("wide", "reference"), ("noisy", "reference")]
    compared = comparisons(replaced(replaced(study(6, planned), "wide", {}), "noisy", {}, failed={0: "out of memory"}))
    assert compared[0].holm == 3 * 2 / 64  # not 2 / 64, which would be below .05
    assert [comparison.holm for comparison in compared[1:]] == [1.0, 1.0]
    assert "signific" not in "".join(sentence(comparison) for comparison in compared)
    assert "no seed has accuracy of both arms: 0 seeds cannot decide 3 planned comparisons; 7 are needed" in sentence(
        compared[1]
    )


def test_a_significant_difference_is_always_decidable():
    rng = np.random.default_rng(2)
    for _ in range(60):
        outcome = study(planned=[(name, "reference") for name in SHIFTS])
        for name in SHIFTS:
            values = outcome.arm(name).values("label", "accuracy")
            outcome = replaced(outcome, name, {seed: values[seed] for seed in range(rng.integers(4, 8))})
        assert all(comparison.decidable >= comparison.significant for comparison in comparisons(outcome))
