"""The factor of the learning rate at every step, in closed form."""

import math

import pytest

from mmbert.training.optimizer import learning_rate_factor

CASES = [(steps, rising) for steps in (1, 2, 7, 100) for rising in (0, 1, 3, 7) if rising < steps]


def rates(steps, rising, schedule):
    return [learning_rate_factor(step, steps, warmup=rising / steps, schedule=schedule) for step in range(1, steps + 1)]


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
@pytest.mark.parametrize(("steps", "rising"), CASES)
def test_warmup_rises_linearly_to_1(schedule, steps, rising):
    factors = rates(steps, rising, schedule)
    assert factors[:rising] == pytest.approx([step / rising for step in range(1, rising + 1)])
    assert factors[rising] == 1.0  # the first step after the warmup has the full rate


@pytest.mark.parametrize(("steps", "rising"), CASES)
def test_linear_falls_to_0_one_step_after_the_last(steps, rising):
    falling = steps - rising
    factors = rates(steps, rising, "linear")
    assert factors[rising:] == pytest.approx([1 - index / falling for index in range(falling)])
    assert factors[-1] == pytest.approx(1 / falling)


@pytest.mark.parametrize(("steps", "rising"), CASES)
def test_cosine_falls_along_a_half_wave(steps, rising):
    falling = steps - rising
    factors = rates(steps, rising, "cosine")
    assert factors[rising:] == pytest.approx([math.cos(index / falling * math.pi / 2) ** 2 for index in range(falling)])
    assert factors[-1] > 0


@pytest.mark.parametrize(("steps", "rising"), CASES)
def test_constant_stays_at_1_after_the_warmup(steps, rising):
    assert rates(steps, rising, "constant")[rising:] == [1.0] * (steps - rising)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_for_any_warmup_the_factor_is_within_0_and_1_with_one_peak(schedule):
    for steps in range(1, 40):
        for warmup in (0.0, 0.01, 0.07, 0.1, 0.5, 0.99):
            factors = [
                learning_rate_factor(step, steps, warmup=warmup, schedule=schedule) for step in range(1, steps + 1)
            ]
            assert all(0 < rate <= 1 for rate in factors)
            peak = factors.index(max(factors))
            assert factors[: peak + 1] == sorted(factors[: peak + 1])
            assert factors[peak:] == sorted(factors[peak:], reverse=True)


def test_rounding_errors_do_not_lengthen_the_warmup():
    assert 0.07 * 100 > 7
    factors = [learning_rate_factor(step, 100, warmup=0.07, schedule="linear") for step in range(1, 101)]
    assert factors.index(1.0) == 6
    assert learning_rate_factor(1, 10, warmup=0.11, schedule="linear") == 0.5  # a part of a step counts as a step
