"""Calibration error and temperature scaling, against closed forms and scikit-learn."""

import numpy as np
import pytest
from scipy.special import log_softmax, logit, softmax
from sklearn.metrics import brier_score_loss, log_loss

from mmbert.evaluation.calibration import TEMPERATURES, best_temperature, class_calibration, ece, label_calibration


def drawn(rows=4000, classes=3, seed=0):
    """Logits, and classes drawn with their probabilities."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(rows, classes)) * 2
    target = (softmax(logits, 1).cumsum(1) < rng.random((rows, 1))).sum(1)
    return logits, target


def test_the_error_is_0_if_accuracy_equals_confidence_in_each_bin():
    confidence = np.repeat([0.6, 0.8, 1.0], 10)
    hit = np.concatenate([np.arange(10) < 6, np.arange(10) < 8, np.ones(10, bool)])
    assert ece(confidence, hit) == pytest.approx(0, abs=1e-15)


def test_the_error_is_the_mean_gap_weighted_by_rows():
    confidence, hit = np.array([0.9, 0.9, 0.9, 0.3]), np.array([1, 0, 0, 1])
    assert ece(confidence, hit, bins=10) == pytest.approx(3 / 4 * abs(1 / 3 - 0.9) + 1 / 4 * abs(1 - 0.3))


def test_bins_are_closed_above():
    hit = np.array([True, False])
    assert ece(np.array([0.5, 0.51]), hit, bins=2) == pytest.approx((0.5 + 0.51) / 2)  # one bin each
    assert ece(np.array([0.5, 0.49]), hit, bins=2) == pytest.approx(0.01 / 2)  # the same bin
    assert ece(np.array([0.0, 1.0]), np.array([False, True])) == 0


def test_classes_agree_with_scikit_learn():
    logits, target = drawn(200)
    measures = class_calibration(logits, target)
    assert measures.nll == pytest.approx(log_loss(target, softmax(logits, 1)))
    assert measures.brier == pytest.approx(np.square(softmax(logits, 1) - np.eye(3)[target]).sum(1).mean())
    logits, target = drawn(200, classes=2)
    assert class_calibration(logits, target).brier == pytest.approx(
        2 * brier_score_loss(target, softmax(logits, 1)[:, 1])
    )


def test_labels_agree_with_scikit_learn_over_known_values():
    rng = np.random.default_rng(1)
    logits, target = rng.normal(size=(50, 4)), (rng.random((50, 4)) < 0.5).astype(np.float32)
    known = rng.random((50, 4)) < 0.7
    measures, probability = label_calibration(logits, target, known), 1 / (1 + np.exp(-logits[known]))
    assert measures.nll == pytest.approx(log_loss(target[known], probability))
    assert measures.brier == pytest.approx(brier_score_loss(target[known], probability))
    assert measures.ece == pytest.approx(ece(probability, target[known] > 0.5))
    target[~known], logits[~known] = 1, np.nan
    assert label_calibration(logits, target, known) == measures


def test_a_confident_correct_predictor_has_no_error():
    logits = np.eye(3) * 1000
    assert class_calibration(logits, np.arange(3)) == (0, 0, 0)
    assert label_calibration(logits * 2 - 1000, np.eye(3), np.ones((3, 3), bool)) == (0, 0, 0)


def test_a_confident_wrong_predictor_has_a_finite_loss():
    assert class_calibration(np.array([[1000.0, 0.0]]), np.array([1])) == (1, 2, 1000)


def test_a_temperature_of_1_changes_nothing():
    logits, target = drawn(100)
    known = np.ones_like(logits, dtype=bool)
    assert class_calibration(logits, target, 1.0) == class_calibration(logits, target)
    assert label_calibration(logits, np.eye(3)[target], known, 1.0) == label_calibration(
        logits, np.eye(3)[target], known
    )


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_a_factor_of_the_logits(factor):
    logits, target = drawn()
    temperature = best_temperature(logits, target)
    assert temperature == pytest.approx(1, abs=0.1)
    assert best_temperature(logits * factor, target) == pytest.approx(temperature * factor, rel=1e-4)
    before, after = (
        class_calibration(logits * factor, target),
        class_calibration(logits * factor, target, temperature * factor),
    )
    assert after.nll <= before.nll + 1e-12
    assert after.ece < 0.03


def test_the_temperature_is_where_the_slope_is_0():
    logits, target = drawn(300)
    temperature = best_temperature(2.5 * logits, target)
    scaled = 2.5 * logits / temperature
    expected, true = (np.exp(log_softmax(scaled, 1)) * scaled).sum(1), scaled[np.arange(len(target)), target]
    assert (expected - true).mean() == pytest.approx(0, abs=1e-4)


def test_labels_have_one_temperature():
    rng = np.random.default_rng(2)
    probability = rng.uniform(0.1, 0.9, size=(3000, 3))
    target, known = (rng.random(probability.shape) < probability).astype(float), rng.random(probability.shape) < 0.8
    assert best_temperature(2 * logit(probability), target, known) == pytest.approx(2, rel=0.1)


def test_if_all_predictions_are_right_the_temperature_is_the_lowest():
    assert best_temperature(np.eye(3), np.arange(3)) == pytest.approx(TEMPERATURES[0], rel=1e-3)
