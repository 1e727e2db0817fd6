"""The factor of the learning rate at every step, in closed form."""

import math

import pytest

from mmbert.training.optimizer import learning_rate_factor

CASES = [(steps, rising) for steps in (1, 2, 7, 100) for rising in (0, 1, 3, 7) if rising < steps]


def rates(steps, rising, schedule):
    return [learning_rate_factor(step, steps, warmup=rising / steps, schedule=schedule) for step in range(1, steps + 1)]


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
@pytest.mark.parametrize(("steps", "rising"), CASES)
def test_it_rises_by_equal_steps_to_1_at_the_end_of_the_warmup(schedule, steps, rising):
    found = rates(steps, rising, schedule)
    assert found[:rising] == pytest.approx([step / rising for step in range(1, rising + 1)])
    assert found[rising] == 1.0  # the first step behind the warmup has the full rate


@pytest.mark.parametrize(("steps", "rising"), CASES)
def test_linear_falls_by_equal_steps_and_would_be_0_behind_the_last(steps, rising):
    falling = steps - rising
    found = rates(steps, rising, "linear")
    assert found[rising:] == pytest.approx([1 - index / falling for index in range(falling)])
    assert found[-1] == pytest.approx(1 / falling)


@pytest.mark.parametrize(("steps", "rising"), CASES)
def test_cosine_is_half_a_wave(steps, rising):
    falling = steps - rising
    found = rates(steps, rising, "cosine")
    assert found[rising:] == pytest.approx([math.cos(index / falling * math.pi / 2) ** 2 for index in range(falling)])
    assert found[-1] > 0


@pytest.mark.parametrize(("steps", "rising"), CASES)
def test_constant_stays(steps, rising):
    assert rates(steps, rising, "constant")[rising:] == [1.0] * (steps - rising)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_any_warmup_keeps_it_within_0_and_1(schedule):
    for steps in range(1, 40):
        for warmup in (0.0, 0.01, 0.07, 0.1, 0.5, 0.99):
            found = [
                learning_rate_factor(step, steps, warmup=warmup, schedule=schedule) for step in range(1, steps + 1)
            ]
            assert all(0 < rate <= 1 for rate in found)
            peak = found.index(max(found))
            assert found[: peak + 1] == sorted(found[: peak + 1])
            assert found[peak:] == sorted(found[peak:], reverse=True)


def test_a_fraction_of_steps_is_not_a_step_longer_for_its_rounding():
    assert 0.07 * 100 > 7
    found = [learning_rate_factor(step, 100, warmup=0.07, schedule="linear") for step in range(1, 101)]
    assert found.index(1.0) == 6
    assert learning_rate_factor(1, 10, warmup=0.11, schedule="linear") == 0.5  # a part of a step counts as a step
