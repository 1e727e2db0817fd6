"""The area under a robustness curve: 1 if flat, 0 at chance, undefined if the model is at chance."""

import pytest

from mmbert.errors import NumericalError
from mmbert.evaluation.attribution import retained_performance


def test_a_flat_curve_has_area_1_and_one_at_chance_0():
    assert retained_performance([0.8, 0.8, 0.8], 0.5, error=0.01) == 1
    assert retained_performance([0.8, 0.5, 0.5], 0.5, error=0.01) == 0


def test_the_area_is_the_mean_retained_gain_at_rates_above_0():
    assert retained_performance([0.9, 0.8, 0.7, 0.4], 0.5, error=0.01) == pytest.approx((0.75 + 0.5 - 0.25) / 3)


def test_for_an_error_a_growing_value_is_a_loss():
    assert retained_performance([1.0, 2.0, 3.0], 3.0, error=0.1, lower_is_better=True) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("start", "lower"),
    [(0.519, False), (0.51, False), (0.5, False), (0.2, False), (0.481, True), (0.9, True), (float("nan"), False)],
)
def test_a_model_within_two_standard_errors_of_chance_has_no_area(start, lower):
    with pytest.raises(NumericalError, match=r"is not better than chance, 0\.5, by more than 2 standard errors"):
        retained_performance([start, 0.5], 0.5, error=0.01, lower_is_better=lower)


def test_a_model_just_above_two_standard_errors_has_an_area():
    assert retained_performance([0.5201, 0.5], 0.5, error=0.01) == 0
    assert retained_performance([0.51, 0.5], 0.5, error=0.0) == 0


def test_a_curve_of_one_point_has_no_area():
    with pytest.raises(ValueError, match="rate above 0"):
        retained_performance([0.8], 0.5, error=0.01)
