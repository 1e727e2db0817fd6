"""The paired bootstrap, against normal theory of means."""

import numpy as np
import pytest
import torch
from scipy.stats import norm

from mmbert.evaluation.bootstrap import paired_bootstrap


def mean_error(predictions, targets):
    return float(np.mean(np.asarray(predictions) - np.asarray(targets)))


def data(size=400, shift=0.1, seed=0):
    rng = np.random.default_rng(seed)
    targets = rng.normal(size=size)
    common = rng.normal(size=size) * 10  # shared by both arms: cancels in a paired test
    return targets, targets + common + shift + rng.normal(size=size), targets + common


def test_interval_and_p_of_a_mean_follow_normal_theory():
    targets, a, b = data()
    result = paired_bootstrap(mean_error, targets, a, b, samples=4000)
    mean, error = (a - b).mean(), (a - b).std() / 400**0.5
    assert result.difference == pytest.approx(mean)
    assert result.low == pytest.approx(mean - 1.96 * error, abs=0.1 * error)
    assert result.high == pytest.approx(mean + 1.96 * error, abs=0.1 * error)
    assert result.p == pytest.approx(2 * norm.sf(abs(mean) / error), abs=0.02)


def test_groups_widen_the_interval_as_if_each_were_one_row():
    targets, a, b = data(100)
    alone = paired_bootstrap(mean_error, targets, a, b)
    repeated = [np.tile(values, 4) for values in (targets, a, b)]
    naive = paired_bootstrap(mean_error, *repeated)
    grouped = paired_bootstrap(mean_error, *repeated, groups=np.tile(np.arange(100), 4))
    assert grouped.high - grouped.low == pytest.approx(alone.high - alone.low, rel=1e-9)
    assert naive.high - naive.low == pytest.approx((alone.high - alone.low) / 2, rel=0.1)


def test_equal_arms_do_not_differ():
    targets, a, _ = data()
    assert paired_bootstrap(mean_error, targets, a, a) == (0.0, 0.0, 0.0, 1.0)


def test_swapping_the_arms_swaps_the_signs():
    targets, a, b = data()
    a_minus_b, b_minus_a = paired_bootstrap(mean_error, targets, a, b), paired_bootstrap(mean_error, targets, b, a)
    assert (a_minus_b.difference, a_minus_b.p) == (pytest.approx(-b_minus_a.difference), b_minus_a.p)
    assert a_minus_b.low == pytest.approx(-b_minus_a.high)


def test_a_clear_difference_has_the_least_p():
    targets, a, b = data(shift=5.0)
    assert paired_bootstrap(mean_error, targets, a, b, samples=999).p == pytest.approx(2 / 1000)


def test_arrays_tensors_and_lists_agree_and_the_seed_decides():
    targets, a, b = data(50)
    first = paired_bootstrap(mean_error, targets, a, b, samples=200)
    assert first == paired_bootstrap(mean_error, *(torch.from_numpy(x) for x in (targets, a, b)), samples=200)
    assert first == paired_bootstrap(mean_error, *(x.tolist() for x in (targets, a, b)), samples=200)
    assert first != paired_bootstrap(mean_error, targets, a, b, samples=200, seed=1)


def test_tensor_groups_are_compared_by_value():
    targets, a, b = data(40)
    groups = np.arange(40) // 4
    expected = paired_bootstrap(mean_error, targets, a, b, groups, samples=100)
    assert paired_bootstrap(mean_error, targets, a, b, torch.from_numpy(groups), samples=100) == expected


def test_unequal_lengths_are_refused():
    with pytest.raises(ValueError, match=r"found \[3, 3, 2, 3\]"):
        paired_bootstrap(mean_error, np.zeros(3), np.zeros(3), np.zeros(2))
    with pytest.raises(ValueError, match="at least one"):
        paired_bootstrap(mean_error, [], [], [])
