"""Bayes-optimal accuracy for every subset of inputs, against closed forms and exhaustive search."""

from itertools import product

import numpy as np
import pytest

from benchmarks.bayes_optimal import additive_accuracies, bayes_accuracies, joint_probabilities

REDUNDANT = {"text": "a", "image": "a"}
UNIQUE = {"text": "a", "image": "noise"}
SYNERGISTIC = {"text": "a", "image": "b"}
BOTH = ("image", "text")


@pytest.mark.parametrize(
    ("flip", "both", "ceiling"), [(0.0, 1.0, 0.75), (0.05, 0.905, 0.7025), (0.1, 0.82, 0.66), (0.5, 0.5, 0.5)]
)
def test_an_exclusive_or(flip, both, ceiling):
    best, late = bayes_accuracies(SYNERGISTIC, flip), additive_accuracies(SYNERGISTIC, flip)
    assert best == pytest.approx({(): 0.5, ("image",): 0.5, ("text",): 0.5, BOTH: both}, abs=1e-12)
    assert best[BOTH] == pytest.approx((1 - flip) ** 2 + flip**2, abs=1e-12)  # right twice or wrong twice
    assert late == pytest.approx({(): 0.5, ("image",): 0.5, ("text",): 0.5, BOTH: ceiling}, abs=1e-12)


def test_redundant_inputs_vote():
    flip = {"text": 0.2, "image": 0.2, "sound": 0.2}
    best = bayes_accuracies({**REDUNDANT, "sound": "a"}, flip)
    assert best["text",] == pytest.approx(0.8)
    assert best[BOTH] == pytest.approx(0.8)  # if the two disagree, either is equally good
    assert best["image", "sound", "text"] == pytest.approx(0.8**3 + 3 * 0.8**2 * 0.2)
    assert additive_accuracies({**REDUNDANT, "sound": "a"}, flip) == pytest.approx(best)  # a vote is a sum
    better = bayes_accuracies(REDUNDANT, {"text": 0.1, "image": 0.3})
    assert better[BOTH] == pytest.approx(0.9)


def test_a_unique_input_is_worth_itself_and_noise_nothing():
    assert bayes_accuracies(UNIQUE, 0.1) == pytest.approx({(): 0.5, ("image",): 0.5, ("text",): 0.9, BOTH: 0.9})
    with_noise = bayes_accuracies({**SYNERGISTIC, "sound": "noise"}, 0.1)
    assert with_noise["image", "sound", "text"] == pytest.approx(with_noise[BOTH])
    assert with_noise["sound", "text"] == pytest.approx(0.5)


def test_flips_of_single_inputs():
    assert bayes_accuracies(SYNERGISTIC, {"text": 0.1})[BOTH] == pytest.approx(0.9)
    assert bayes_accuracies(SYNERGISTIC, {"text": 0.1, "image": 0.3})[BOTH] == pytest.approx(0.9 * 0.7 + 0.1 * 0.3)


def test_three_hidden_bits_need_three_inputs():
    best = bayes_accuracies({**SYNERGISTIC, "sound": "c"}, 0.0)
    assert {names for names, accuracy in best.items() if accuracy > 0.6} == {("image", "sound", "text")}
    assert best["image", "sound", "text"] == 1


def test_the_table_is_a_probability_and_its_margins_are_coins():
    full = joint_probabilities({**SYNERGISTIC, "sound": "a", "cells": "noise"}, 0.1)
    assert full.shape == (2,) * 5
    assert full.sum() == pytest.approx(1, abs=1e-12)
    for axis in range(5):
        np.testing.assert_allclose(full.sum(tuple({*range(5)} - {axis})), 0.5, atol=1e-12)


@pytest.mark.parametrize(
    "carries",
    [
        {"a": "x", "b": "y", "c": "z"},
        {"a": "x", "b": "x", "c": "y"},
        {"a": "x", "b": "x", "c": "x"},
        {"a": "x", "b": "y", "c": "noise"},
    ],
)
def test_the_best_sum_of_scores_is_found(carries):
    """Weights of -2 to 2 give every linear threshold function of three bits (there are 104)."""
    flip = {"a": 0.05, "b": 0.1, "c": 0.3}
    negative, positive = joint_probabilities(carries, flip).reshape(2, 8)
    signs = np.array([*product((-1, 1), repeat=3)])
    scores = np.array([*product(range(-2, 3), repeat=3)]) @ signs.T
    rules = np.unique(np.concatenate([scores > limit for limit in np.arange(-6.5, 7)]), axis=0)
    assert len(rules) == 104
    best = np.where(rules, positive, negative).sum(1).max()
    assert additive_accuracies(carries, flip)["a", "b", "c"] == pytest.approx(best, abs=1e-12)


def test_more_inputs_never_hurt_and_sums_never_beat_the_best():
    carries, flip = {"a": "x", "b": "y", "c": "x", "d": "noise"}, {"a": 0.05, "b": 0.2, "c": 0.3}
    best, late = bayes_accuracies(carries, flip), additive_accuracies(carries, flip)
    for names, accuracy in best.items():
        assert 0.5 - 1e-12 <= late[names] <= accuracy + 1e-12
        for name in names:
            fewer = tuple(left for left in names if left != name)
            assert best[fewer] <= accuracy + 1e-12
            assert late[fewer] <= late[names] + 1e-12
