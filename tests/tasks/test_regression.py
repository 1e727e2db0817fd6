"""Tests of regression: one number per row."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error
from torch.nn import functional

from mmbert.errors import DataError, SampleError
from mmbert.types import Fused
from tasks.regression import Regression, RegressionLabel

VALUES = np.random.default_rng(0).lognormal(3, 1, 200)


def fitted(values=VALUES, **options) -> RegressionLabel:
    labels = RegressionLabel(**options)
    labels.fit(values)
    return labels


@pytest.mark.parametrize("transform", ["none", "log"])
def test_training_targets_are_standardised_and_restored(transform):
    labels = fitted(transform=transform)
    targets = torch.stack([labels(value)["target"] for value in VALUES])
    assert targets.dtype == torch.float32
    assert targets.mean().item() == pytest.approx(0, abs=1e-6)
    assert targets.std(correction=0).item() == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(labels.restore(targets.double()).numpy(), VALUES, rtol=1e-5)


def test_the_transform_is_a_logarithm():
    plain, logarithm = fitted(np.log(VALUES)), fitted(transform="log")
    torch.testing.assert_close(logarithm(5.0), plain(np.log(5.0)))


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), -np.inf, "three", "", "1_0", None, True, np.True_, [1.0], 1e300, 1j]
)
def test_what_is_no_finite_number_is_refused(value):
    with pytest.raises(SampleError, match=r"expected a (finite )?number.*found"):
        fitted()(value)


@pytest.mark.parametrize("value", [3, np.float32(3), np.int8(3), "3", " 3.0 ", "+30e-1"])
def test_any_kind_of_number_is_taken(value):
    torch.testing.assert_close(fitted()(value), fitted()(3.0))


def test_the_logarithm_needs_positive_values():
    with pytest.raises(SampleError, match="above 0"):
        fitted(transform="log")(0)
    with pytest.raises(SampleError, match="above 0"):
        fitted([1.0, -1.0], transform="log")


@pytest.mark.parametrize("values", [[], [2.0, 2.0], [1e300, -1e300]])
def test_training_values_without_a_spread_are_refused(values):
    with pytest.raises(DataError, match="expected"):
        fitted(values)


def test_objectives_agree_with_torch():
    output, target = torch.randn(50, dtype=torch.float64) * 3, torch.randn(50)
    expected = {
        "mse": functional.mse_loss(output, target.double(), reduction="sum"),
        "mae": functional.l1_loss(output, target.double(), reduction="sum"),
        "huber": 2 * functional.huber_loss(output, target.double(), reduction="sum"),
    }
    for objective, value in expected.items():
        torch.testing.assert_close(Regression(4, fitted(), objective=objective).loss(output, {"target": target}), value)


def test_huber_is_the_square_for_small_errors():
    target = torch.randn(50)
    output = target.double() + torch.rand(50).double()
    small = [Regression(4, fitted(), objective=kind).loss(output, {"target": target}) for kind in ("mse", "huber")]
    torch.testing.assert_close(*small)


def test_the_constant_guess_costs_one_a_row():
    labels = fitted()
    task = Regression(4, labels)
    targets = labels.collate([labels(value) for value in VALUES])
    constant = task.constant(Fused(torch.randn(200, 4), {}))
    assert (constant == 0).all()
    assert task.loss(constant, targets).item() == pytest.approx(200, rel=1e-5)
    median = Regression(4, labels, objective="mae").constant(Fused(torch.randn(1, 4, dtype=torch.float64), {}))
    assert labels.restore(median).item() == pytest.approx(np.median(VALUES))


def test_scores_are_in_the_unit_of_the_labels():
    task = Regression(4, fitted(transform="log"))
    items = [task.labels(value) for value in VALUES]
    output = torch.stack([item["target"] for item in items]) + 0.3 * torch.randn(200)
    predictions = task.predict(output)
    score = task.score(list(predictions), items)
    assert next(iter(score)) == "rmse"
    assert task.lower_is_better == {"rmse", "mae"}
    assert score["rmse"] == pytest.approx(root_mean_squared_error(VALUES, predictions), rel=1e-4)
    assert score["mae"] == pytest.approx(mean_absolute_error(VALUES, predictions), rel=1e-4)
    assert score["r2"] == pytest.approx(r2_score(VALUES, predictions), rel=1e-3)
    assert score["spearman"] == pytest.approx(spearmanr(VALUES, predictions)[0], abs=1e-6)
    assert task.decode(predictions[0]) == pytest.approx(predictions[0].item())


def test_a_constant_prediction_ranks_nothing():
    task = Regression(4, fitted())
    score = task.score(list(torch.full((3,), 5.0)), [task.labels(value) for value in (1.0, 2.0, 3.0)])
    assert score["spearman"] == 0
