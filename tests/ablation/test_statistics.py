"""Statistics of differences over seeds, against scipy, closed forms and simulation."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats

from mmbert.ablation import statistics
from mmbert.ablation.statistics import (
    can_decide,
    compare_paired,
    holm_adjust,
    seeds_needed,
    sign_flip_p_value,
    smallest_p,
)


def arms(n, shift=0.5, seed=0):
    rng = np.random.default_rng(seed)
    common = rng.normal(size=n) * 3
    return common + shift + rng.normal(size=n), common + rng.normal(size=n)


@pytest.mark.parametrize("n", [2, 3, 7, 12, 40])
def test_the_interval_and_the_effect_are_those_of_the_paired_t_test(n):
    a, b = arms(n)
    result, expected = compare_paired(a, b), scipy.stats.ttest_rel(a, b)
    interval = expected.confidence_interval(0.95)
    assert (result.low, result.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert result.difference == pytest.approx((a - b).mean())
    assert result.sd == pytest.approx((a - b).std(ddof=1))
    assert result.effect * n**0.5 == pytest.approx(expected.statistic)  # t = d_z sqrt(n)
    assert result.n == n


@pytest.mark.parametrize("n", [2, 3, 7, 10])
@pytest.mark.parametrize("shift", [0.0, 0.7])
def test_p_is_the_exact_one_of_all_sign_flips(n, shift):
    a, b = arms(n, shift)
    expected = scipy.stats.permutation_test(
        (a, b), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=np.inf
    )
    assert compare_paired(a, b).p == pytest.approx(expected.pvalue, rel=1e-12)


def test_ties_with_the_observed_difference_count_as_extreme():
    assert sign_flip_p_value(np.array([1.0, 1.0, -1.0])) == 1.0  # all eight sums are 1, 3, -1 or -3
    assert sign_flip_p_value(np.array([2.0, 1.0, -1.0])) == 6 / 8  # 2: and 4, 2, 2 and their mirror images; not 0
    a, b = np.array([0.9, 0.8, 0.4]), np.array([0.8, 0.7, 0.5])  # three times 0.1, up to rounding
    assert len(set(np.abs(a - b))) > 1
    assert compare_paired(a, b).p == 1.0
    assert compare_paired(a * 1e-9, b * 1e-9).p == 1.0


def test_the_observed_assignment_counts_despite_rounding():
    rng = np.random.default_rng(0)
    for n in (9, 17):
        assert sign_flip_p_value(np.abs(rng.normal(size=n))) == smallest_p(n)
    assert sign_flip_p_value(np.full(20, 0.1)) == 2.0**-19


def test_many_pairs_are_sampled_close_to_the_exact_p(monkeypatch):
    differences = np.random.default_rng(1).normal(size=16) + 0.5
    exact = sign_flip_p_value(differences)
    monkeypatch.setattr(statistics, "ENUMERATED", 15)
    sampled = sign_flip_p_value(differences)
    assert sampled != exact
    assert sampled == pytest.approx(exact, abs=4 * (exact / 1e5) ** 0.5)
    assert sampled == sign_flip_p_value(differences)
    assert sign_flip_p_value(np.ones(64)) == smallest_p(64) == 1 / 100_001  # never 0
    assert sign_flip_p_value(np.zeros(64)) == 1.0


@pytest.mark.parametrize("n", [1, 2, 7, 20, 30])
def test_equal_arms_do_not_differ(n):
    a, _ = arms(n)
    result = compare_paired(a, a)
    assert (result.difference, result.p) == (0.0, 1.0)
    assert math.isnan(result.effect)
    if n > 1:
        assert (result.sd, result.low, result.high) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("n", [2, 6, 11, 25])
def test_swapping_the_arms_swaps_the_signs(n):
    a, b = arms(n)
    forward, backward = compare_paired(a, b), compare_paired(b, a)
    assert (forward.difference, forward.low, forward.effect) == (-backward.difference, -backward.high, -backward.effect)
    assert forward.sd == backward.sd
    assert forward.p == pytest.approx(backward.p, abs=0.01 if n > 20 else 0)


def test_order_of_seeds_and_unit_change_nothing():
    a, b = arms(9)
    result = compare_paired(a, b)
    order = np.random.default_rng(3).permutation(9)
    assert compare_paired(a[order], b[order]).p == result.p
    scaled = compare_paired(1000 * a, 1000 * b)
    assert (scaled.p, scaled.effect) == (result.p, pytest.approx(result.effect))
    assert scaled.high == pytest.approx(1000 * result.high)


def test_one_seed_has_a_difference_and_nothing_more():
    result = compare_paired([0.9], [0.5])
    assert (result.n, result.difference, result.p) == (1, pytest.approx(0.4), 1.0)
    assert all(map(math.isnan, (result.sd, result.low, result.high, result.effect)))


def test_no_seed_has_nothing():
    result = compare_paired([], [])
    assert (result.n, result.p) == (0, 1.0)
    assert math.isnan(result.difference)


def test_a_constant_difference_has_no_effect_size():
    result = compare_paired([0.3, 0.4, 0.9], [0.2, 0.3, 0.8])  # 0.1 each, up to rounding
    assert result.sd == 0.0
    assert math.isnan(result.effect)
    assert result.low == result.high == result.difference
    assert result.p == 0.25


def test_rounding_errors_are_no_difference():
    result = compare_paired([0.1 + 0.2, 0.5], [0.3, 0.5])
    assert (result.difference, result.low, result.high, result.p) == (0.0, 0.0, 0.0, 1.0)
    assert compare_paired([1e-9], [0.0]).difference == 1e-9


def test_a_diverged_run_is_refused_by_its_position():
    with pytest.raises(ValueError, match="found nan at index 1, inf at index 2 of b"):
        compare_paired([1.0, 2.0, 3.0], [1.0, math.nan, math.inf])
    with pytest.raises(ValueError, match="-inf at index 0 of a"):
        compare_paired([-math.inf], [1.0])


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="found 3 and 2"):
        compare_paired([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match="must be a list"):
        compare_paired(np.zeros((2, 2)), np.zeros((2, 2)))


@pytest.mark.parametrize("n", [3, 7])
def test_the_95_percent_interval_has_its_coverage(n):
    rng = np.random.default_rng(n)
    a, b = rng.normal(0.3, 1, size=(3000, n)), rng.normal(0, 1, size=(3000, n))
    results = [compare_paired(*pair) for pair in zip(a, b, strict=True)]
    assert np.mean([result.low <= 0.3 <= result.high for result in results]) == pytest.approx(0.95, abs=0.02)


def test_the_false_positive_rate_is_the_level():
    differences = np.random.default_rng(5).normal(size=(3000, 7))
    p = np.array([sign_flip_p_value(sample) for sample in differences])
    for level in (0.05, 0.25, 0.5):
        step = math.floor(level * 64) / 64  # p is a multiple of 2 / 2^7
        assert (p <= level).mean() == pytest.approx(step, abs=0.03)


def test_holm_by_hand():
    assert holm_adjust([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm_adjust([0.02]) == [0.02]
    assert holm_adjust([1.0, 0.5, 0.016]) == pytest.approx([1.0, 1.0, 0.048])
    assert holm_adjust([]) == []


@pytest.mark.parametrize("seed", range(5))
def test_holm_is_the_closed_test_of_bonferronis(seed):
    p = np.random.default_rng(seed).uniform(size=6) ** 3
    p[3] = p[1]
    sets = [members for size in range(1, 7) for members in itertools.combinations(range(6), size)]
    expected = [
        max(min(len(members) * p[list(members)].min(), 1) for members in sets if place in members) for place in range(6)
    ]
    assert holm_adjust(p.tolist()) == pytest.approx(expected, rel=1e-12)


def test_the_design_gives_its_smallest_p():
    assert [smallest_p(n) for n in (0, 1, 2, 6, 7)] == [1.0, 1.0, 0.5, 2 / 64, 2 / 128]
    assert [seeds_needed(k) for k in (1, 2, 3, 10)] == [6, 7, 7, 9]
    for k in range(1, 60):
        assert seeds_needed(k) == math.ceil(1 + math.log2(k / 0.05))
    with pytest.raises(ValueError, match="found -1"):
        smallest_p(-1)
    for wrong in (0, 5001):
        with pytest.raises(ValueError, match=f"found {wrong}"):
            seeds_needed(wrong)


def test_a_design_can_be_significant_from_the_needed_seeds_on():
    for k in (1, 2, 3):
        assert can_decide([seeds_needed(k)] * k) == [True] * k
        assert can_decide([seeds_needed(k) - 1] * k) == [False] * k
    assert can_decide([7, 6]) == [True, True]  # the second only needs p < .05 where the first has p < .025
    assert can_decide([7, 5, 0]) == [True, False, False]
