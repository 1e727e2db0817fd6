"""Contract tests of every registered encoder, in float64 without dropout."""

import pickle
import socket

import numpy as np
import pytest
import torch
from encoder_parts import DIM, every_encoder, joined, make_encoder, make_parts, same

from encoders import ENCODERS
from mmbert.registry import recipe_options


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("reached for the network"))


def with_nan_padding(batch, singles):
    """The batch with NaN in every float of a row that its item alone does not have."""
    filled = {}
    for key, tensor in batch.items():
        filled[key] = tensor.clone()
        for row, single in enumerate(singles if tensor.is_floating_point() else ()):
            real = (row, *map(slice, single[key].shape[1:]))
            filled[key][row] = torch.nan
            filled[key][real] = tensor[real]
    return filled


@every_encoder
def test_tokens_have_the_shapes_of_the_contract(name):
    processor, encoder, items = make_parts(name)
    values, mask, unit = encoder(**joined(processor, items))
    assert values.shape == (len(items), mask.shape[1], DIM)
    assert values.dtype == torch.float64
    assert mask.shape == unit.shape
    assert mask.dtype == torch.bool
    assert unit.dtype == torch.int64
    assert mask.any(1).all()
    assert (unit >= -1).all()
    assert (unit[~mask] == -1).all()
    assert (values[~mask] == 0).all()
    assert values.isfinite().all()
    assert encoder.float()(**processor.collate(items)).values.dtype == torch.float32


@every_encoder
def test_padding_of_any_content_changes_nothing(name):
    processor, encoder, items = make_parts(name)
    batch, singles = joined(processor, items), [joined(processor, [item]) for item in items]
    expected, filled = encoder(**batch), encoder(**with_nan_padding(batch, singles))
    assert filled.values.equal(expected.values)
    for row, single in enumerate(singles):
        alone = encoder(**single)
        length = alone.values.shape[1]
        assert (expected.values[row, :length] - alone.values[0]).abs().max() < 1e-9
        assert expected.mask[row, :length].equal(alone.mask[0])
        assert expected.unit[row, :length].equal(alone.unit[0])
        assert not expected.mask[row, length:].any()
    weights = torch.randn(DIM, dtype=torch.float64)
    totals = [(tokens.values @ weights).square().sum() for tokens in (expected, filled)]
    plain, with_nan = (torch.autograd.grad(total, list(encoder.parameters())) for total in totals)
    assert all(first.equal(second) for first, second in zip(plain, with_nan, strict=True))


@every_encoder
def test_items_do_not_influence_each_other_in_training_mode(name):
    processor, encoder, items = make_parts(name)
    batch = joined(processor, items)
    floats = [tensor.requires_grad_() for tensor in batch.values() if tensor.is_floating_point()]
    expected = encoder(**batch)
    for row in range(len(items)):
        others = [index for index in range(len(items)) if index != row]
        exchanged = [items[row - 1] if place == row else item for place, item in enumerate(items)]
        changed = encoder(**joined(processor, exchanged))
        for index in others:
            length = expected.mask[index].nonzero().max() + 1
            assert (changed.values[index, :length] - expected.values[index, :length]).abs().max() < 1e-9
        total = (expected.values[row] * torch.randn_like(expected.values[row])).sum()
        gradients = torch.autograd.grad(total, floats, retain_graph=True, allow_unused=True) if floats else ()
        assert all((gradient[others] == 0).all() for gradient in gradients if gradient is not None)


@every_encoder
def test_the_order_of_items_permutes_the_tokens(name):
    processor, encoder, items = make_parts(name)
    order = torch.tensor([3, 0, 4, 2, 1])
    tokens = encoder(**joined(processor, items)).at(order)
    turned = encoder(**joined(processor, [items[place] for place in order.tolist()]))
    assert (turned.values - tokens.values).abs().max() < 1e-9
    assert turned.mask.equal(tokens.mask)
    assert turned.unit.equal(tokens.unit)
    assert (turned.values[0, 0] - turned.values[1, 0]).abs().max() > 1e-6  # items matter


@every_encoder
def test_every_parameter_learns(name):
    processor, encoder, items = make_parts(name, count=12)
    tokens = encoder(**joined(processor, items))
    (tokens.values * torch.randn_like(tokens.values)).sum().backward()
    parameters = {key: parameter for key, parameter in encoder.named_parameters() if parameter.numel()}
    assert parameters
    assert [key for key, parameter in parameters.items() if parameter.grad is None or not parameter.grad.any()] == []
    assert all(parameter.grad.isfinite().all() for parameter in parameters.values())


@every_encoder
def test_the_state_holds_all_that_influences_the_tokens(name):
    processor, encoder, items = make_parts(name)
    fresh = make_encoder(name, pickle.loads(pickle.dumps(processor)), seed=1)
    batch = joined(processor, items)
    assert not fresh(**batch).values.equal(encoder(**batch).values)
    fresh.load_state_dict(encoder.state_dict())
    assert fresh(**batch).values.equal(encoder(**batch).values)


@every_encoder
def test_without_dropout_training_equals_evaluation(name):
    processor, encoder, items = make_parts(name)
    batch = joined(processor, items)
    before = {key: tensor.clone() for key, tensor in encoder.state_dict().items()}
    trained = encoder(**batch).values
    assert trained.equal(encoder.eval()(**batch).values)
    assert same(encoder.state_dict(), before)  # no running statistics


@every_encoder
def test_pretrained_is_a_part_of_the_encoder_or_none(name):
    _, encoder, _ = make_parts(name)
    assert encoder.pretrained() is None or encoder.pretrained() in list(encoder.modules())[1:]


@every_encoder
def test_options_have_defaults_that_work(name):
    part = ENCODERS.get(name)
    assert all(option.default is not option.empty for option in recipe_options(part).values())
    processor = part.processor()
    values = [part.processor.example(np.random.default_rng(seed)) for seed in range(9)]
    processor.fit(values)
    assert part(DIM, processor).eval()(**processor.collate([processor(values[0])])).values.isfinite().all()


@every_encoder
def test_an_item_may_be_a_row_of_an_earlier_result(name):
    processor, encoder, items = make_parts(name)
    batch = processor.collate(items)
    rows = [{key: tensor[row] for key, tensor in batch.items()} for row in range(len(items))]
    assert same(processor.collate(rows), batch)
    mixed = encoder(**joined(processor, [rows[0], items[1]]))
    fresh = encoder(**joined(processor, [items[0], items[1]]))
    length = fresh.values.shape[1]
    assert (mixed.values[:, :length] - fresh.values).abs().max() < 1e-9
    assert mixed.mask.sum(1).equal(fresh.mask.sum(1))
