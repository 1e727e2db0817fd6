"""The spread of an input: how much its vectors differ between rows."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from mmbert.evaluation.evaluate import moments, spread
from mmbert.types import Tokens


def token(vectors, real=None):
    mask = torch.ones(len(vectors), 1, dtype=torch.bool) if real is None else torch.tensor(real)[:, None]
    return Tokens(torch.as_tensor(vectors)[:, None], mask, mask.long())


def test_spread_is_deviation_over_size_for_any_batches():
    vectors = np.random.default_rng(0).normal(3.0, 0.5, (50, 6))
    expected = math.sqrt(vectors.var(0).sum() / np.square(vectors).mean(0).sum())
    for cuts in ([0, 50], [0, 1, 20, 50]):
        parts = [moments("x", token(vectors[start:end])) for start, end in pairwise(cuts)]
        assert spread(parts) == {"x": pytest.approx(expected, rel=1e-9)}


def test_rows_without_the_input_do_not_count():
    vectors = [[1.0, 2.0], [1.0, 2.0], [float("nan")] * 2]
    assert spread([moments("x", token(vectors, [True, True, False]))]) == {"x": 0.0}
    assert spread([moments("x", token(vectors, [True, False, False]))]) == {}  # a single row has no spread
    assert spread([]) == {}


def test_rounding_errors_and_zero_vectors_have_no_spread():
    large = np.full((1000, 8), 1234.5678)
    assert spread([moments("x", token(large))])["x"] < 1e-6
    assert spread([moments("x", token(np.zeros((5, 8))))]) == {"x": 0.0}


def test_values_that_are_not_finite_have_a_spread_of_nan():
    assert math.isnan(spread([moments("x", token([[float("nan")], [1.0]]))])["x"])
