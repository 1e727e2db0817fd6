"""The bootstrap standard error against its closed form."""

import numpy as np
import pytest

from mmbert.evaluation.bootstrap import standard_error


def test_the_standard_error_of_a_mean_is_that_of_theory():
    values = np.random.default_rng(0).normal(size=200)
    error = standard_error(lambda rows: values[rows].mean(), range(200), samples=2000)
    assert error == pytest.approx(values.std() / 200**0.5, rel=0.05)


def test_groups_widen_it_as_if_each_were_one_row():
    values = np.random.default_rng(0).normal(size=50)
    once = standard_error(lambda rows: values[rows].mean(), range(50))
    tiled = np.tile(values, 4)
    assert standard_error(lambda rows: tiled[rows].mean(), [*range(50)] * 4) == pytest.approx(once)


def test_the_seed_decides():
    values = np.random.default_rng(0).normal(size=20)
    errors = [standard_error(lambda rows: values[rows].mean(), range(20), seed=seed) for seed in (0, 0, 1)]
    assert errors[0] == errors[1] != errors[2]
