"""Tests of the CPU dropout: rate, expectation, independence, seeding and gradient."""

import copy

import pytest
import torch
from torch import nn

from mmbert.layers.dropout import LEVELS, Dropout, draw_mask, replace_dropout, set_dropout

COUNT = 400_000


def dropped(rate, seed=0, count=COUNT):
    torch.manual_seed(seed)
    return Dropout(rate)(torch.ones(count, dtype=torch.float64))


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5, 0.9])
def test_as_many_values_are_kept_as_the_rate_says(rate):
    share = (dropped(rate) != 0).double().mean()
    assert abs(share - (1 - rate)) < 5 * (rate * (1 - rate) / COUNT) ** 0.5 + 1 / LEVELS


@pytest.mark.parametrize("rate", [1e-9, 0.1, 1 / 3, 1 - 1e-9])
def test_scale_times_the_share_of_levels_kept_is_one(rate):
    mask, scale = draw_mask((COUNT,), rate)
    levels_kept = round(LEVELS / scale)
    assert scale * (levels_kept / LEVELS) == pytest.approx(1, abs=1e-12)
    assert abs(levels_kept / LEVELS - (1 - rate)) <= 1 / LEVELS
    assert mask.dtype == torch.uint8
    assert mask.max() <= 1


def test_the_expectation_is_the_input():
    assert abs(dropped(0.1).mean() - 1) < 5 * (0.1 / 0.9 / COUNT) ** 0.5


@pytest.mark.parametrize("lag", [1, 2, 3, 4, 64, 384])
def test_neighbours_are_dropped_independently(lag):
    centred = (dropped(0.5) != 0).double() - 0.5
    assert abs((centred[lag:] * centred[:-lag]).mean()) < 5 * 0.25 / COUNT**0.5


def test_the_same_seed_draws_the_same_mask_and_each_call_another():
    assert torch.equal(dropped(0.3, seed=1), dropped(0.3, seed=1))
    assert not torch.equal(dropped(0.3, seed=1), dropped(0.3, seed=2))
    torch.manual_seed(1)
    layer, ones = Dropout(0.3), torch.ones(999)
    assert not torch.equal(layer(ones), layer(ones))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_gradient_is_mask_times_scale(dtype):
    values = torch.randn(5, 7, 3).to(dtype).requires_grad_()
    torch.manual_seed(0)
    Dropout(0.4)(values).sum().backward()
    torch.manual_seed(0)
    mask, scale = draw_mask(values.shape, 0.4)
    assert values.grad.dtype == dtype
    assert torch.equal(values.grad, mask.to(dtype) * scale)
    assert 0 < mask.sum() < mask.numel()


def test_nothing_is_dropped_in_evaluation_or_at_rate_zero():
    values = torch.randn(9)
    assert torch.equal(Dropout(0.5).eval()(values), values)
    assert torch.equal(Dropout(0.0)(values), values)


def test_replacing_changes_no_name_no_weight_and_no_mode():
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Dropout(0.2), nn.Dropout(0.3).eval()), nn.Dropout2d(0.1))
    before = copy.deepcopy(model)
    replace_dropout(model)
    assert [type(layer) for layer in (*model[1], model[2])] == [Dropout, Dropout, nn.Dropout2d]
    assert [layer.p for layer in model[1]] == [0.2, 0.3]
    assert [layer.training for layer in model[1]] == [True, False]
    assert [name for name, _ in model.named_modules()] == [name for name, _ in before.named_modules()]
    assert model.state_dict().keys() == before.state_dict().keys()


def test_set_dropout_reaches_it():
    model = nn.Sequential(Dropout(0.2))
    set_dropout(model, 0.0)
    assert torch.equal(model(torch.ones(9)), torch.ones(9))
