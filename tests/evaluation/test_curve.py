"""The area of a curve: 1 where it is flat, 0 at chance, refused where there is nothing to lose."""

import pytest

from mmbert.errors import NumericalError
from mmbert.evaluation.attribution import retained_performance


def test_a_flat_curve_has_area_1_and_one_at_chance_0():
    assert retained_performance([0.8, 0.8, 0.8], 0.5, error=0.01) == 1
    assert retained_performance([0.8, 0.5, 0.5], 0.5, error=0.01) == 0


def test_it_is_the_mean_of_what_is_left_at_rates_above_0():
    assert retained_performance([0.9, 0.8, 0.7, 0.4], 0.5, error=0.01) == pytest.approx((0.75 + 0.5 - 0.25) / 3)


def test_an_error_that_grows_is_a_loss_too():
    assert retained_performance([1.0, 2.0, 3.0], 3.0, error=0.1, lower_is_better=True) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("start", "lower"),
    [(0.519, False), (0.51, False), (0.5, False), (0.2, False), (0.481, True), (0.9, True), (float("nan"), False)],
)
def test_within_two_standard_errors_of_chance_or_below_it_there_is_no_area(start, lower):
    with pytest.raises(NumericalError, match=r"is not better than chance, 0\.5, by more than 2 standard errors"):
        retained_performance([start, 0.5], 0.5, error=0.01, lower_is_better=lower)


def test_just_beyond_them_there_is_one():
    assert retained_performance([0.5201, 0.5], 0.5, error=0.01) == 0
    assert retained_performance([0.51, 0.5], 0.5, error=0.0) == 0


def test_a_curve_of_one_point_is_none():
    with pytest.raises(ValueError, match="rate above 0"):
        retained_performance([0.8], 0.5, error=0.01)
