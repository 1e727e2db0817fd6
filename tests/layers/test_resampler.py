"""Tests of MissingToken, the learned token of an absent input."""

import torch

from mmbert.layers.resampler import MissingToken
from mmbert.types import Tokens

DIM = 4


def stream():
    """Row 0 has two tokens, row 1 none."""
    values = torch.where(torch.tensor([True, False])[:, None, None], torch.ones(2, 3, DIM), float("nan"))
    mask = torch.tensor([[True, True, False], [False] * 3])
    return Tokens(values, mask, torch.arange(3).expand(2, 3))


def test_it_enters_the_rows_that_have_no_token_and_no_other():
    missing = MissingToken(DIM)
    filled = missing(stream(), 2)
    assert torch.equal(filled.values[1, 0], missing.token)
    assert filled.mask.tolist() == [[True, True, False], [True, False, False]]
    assert filled.unit.tolist() == [[0, 1, 2], [-1, 1, 2]]
    assert torch.equal(filled.values[0], stream().values[0])


def test_a_stream_that_is_not_there_at_all_equals_one_without_a_token():
    missing = MissingToken(DIM)
    absent, filled = missing(None, 2), missing(stream(), 2)
    assert torch.equal(absent.values[1, 0], filled.values[1, 0])
    assert absent.mask.tolist() == [[True], [True]]
    assert absent.unit.tolist() == [[-1], [-1]]


def test_its_gradient_comes_from_those_rows_alone():
    for rows, expected in (([0], 0.0), ([1], 1.0), ([0, 1], 1.0)):
        missing = MissingToken(DIM)
        filled = missing(stream(), 2).at(torch.tensor(rows))
        torch.where(filled.mask[..., None], filled.values, 0.0).sum().backward()
        assert missing.token.grad.tolist() == [expected] * DIM
