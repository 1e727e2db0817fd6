"""Tests of the multimodal adaptation gate against its formula."""

import pytest
import torch

from mmbert.fusion.mag import Mag
from mmbert.layers.masked import masked_mean, zero_masked
from tests.fusion.test_fusion_contract import DIM, LENGTHS, inputs, make_fusion, make_trunk

WITH_STREAM = [0, 1, 2, 4]  # the rows in which a stream is present


def before_and_moved(fusion, trunk):
    """The text tokens after the first layer, and after the shift before LayerNorm."""
    text, streams = inputs(trunk)
    seen = []
    with torch.no_grad(), fusion.norm.register_forward_pre_hook(lambda module, args: seen.append(args[0])):
        fusion(trunk, text, streams)
        values = trunk.layers[0](zero_masked(text.values, text.mask), text.mask)
    return values[WITH_STREAM][text.mask[WITH_STREAM]], seen[0][WITH_STREAM][text.mask[WITH_STREAM]]


def largest_weights(fusion, factor):
    with torch.no_grad():
        for name in fusion.names:
            fusion.shifts[name].value.weight.mul_(factor)
        fusion.bias.mul_(factor)


def test_a_beta_of_zero_is_a_layer_norm_between_two_layers():
    trunk, fusion = make_trunk(), make_fusion("mag")
    fusion.beta = 0.0
    text, streams = inputs(trunk)
    first, second = trunk.layers
    expected = second(fusion.norm(first(zero_masked(text.values, text.mask), text.mask)), text.mask)
    actual = fusion(trunk, text, streams).streams["text"].values
    torch.testing.assert_close(actual[WITH_STREAM], zero_masked(expected, text.mask)[WITH_STREAM])


@pytest.mark.parametrize("after", [1, 2, 3])
def test_layers_below_read_the_text_alone_and_those_above_what_it_became(after):
    trunk = make_trunk(layers=4)
    fusion = Mag(DIM, dict.fromkeys(LENGTHS, False), after=after, beta=0.0).double().eval()
    with torch.no_grad():  # a norm as it starts would leave what comes out of a norm as it is
        fusion.norm.weight += torch.linspace(-1, 1, DIM)
    text, streams = inputs(trunk)
    values = zero_masked(text.values, text.mask)
    for number, layer in enumerate(trunk.layers, start=1):
        values = layer(values, text.mask)
        values = fusion.norm(values) if number == after else values
    actual = fusion(trunk, text, streams).streams["text"].values
    torch.testing.assert_close(actual[WITH_STREAM], zero_masked(values, text.mask)[WITH_STREAM])


@pytest.mark.parametrize("beta", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("factor", [1e-3, 1.0, 1e6])
def test_a_token_moves_by_at_most_beta_of_its_length(beta, factor):
    trunk, fusion = make_trunk(), make_fusion("mag")
    fusion.beta = beta
    largest_weights(fusion, factor)
    before, moved = before_and_moved(fusion, trunk)
    ratio = (moved - before).norm(dim=-1) / before.norm(dim=-1)
    assert ratio.max() <= beta * (1 + 1e-9)
    if factor > 1:
        torch.testing.assert_close(ratio, torch.full_like(ratio, beta))


def test_the_shift_is_the_paper_s():
    trunk, fusion = make_trunk(), make_fusion("mag")
    text, streams = inputs(trunk)
    before = trunk.layers[0](zero_masked(text.values, text.mask), text.mask)
    expected = torch.zeros_like(before)
    for row in WITH_STREAM:
        for place in range(int(text.mask[row].sum())):
            shift = fusion.bias.clone()
            for name in LENGTHS:
                real = streams[name].values[row][streams[name].mask[row]]
                if len(real):
                    shift_module = fusion.shifts[name]
                    pooled = shift_module.norm(real.mean(0))
                    gate = torch.cat([shift_module.gate_of_text.weight, shift_module.gate_of_stream.weight], dim=1)
                    opened = gate @ torch.cat([before[row, place], pooled]) + shift_module.gate_of_text.bias
                    shift = shift + opened.clamp(min=0) * (shift_module.value.weight @ pooled)
            scale = min(fusion.beta * before[row, place].norm() / shift.norm(), 1.0)
            expected[row, place] = before[row, place] + scale * shift
    torch.testing.assert_close(before_and_moved(fusion, trunk)[1], expected[WITH_STREAM][text.mask[WITH_STREAM]])


def test_an_absent_stream_contributes_nothing():
    """A fusion built for one stream gives the same result for rows that have no other stream."""
    trunk, both = make_trunk(), make_fusion("mag")
    text, streams = inputs(trunk)
    for row, name in ((1, "long"), (2, "short")):
        single = Mag(DIM, {name: False}).double().eval()
        single.load_state_dict({key: value for key, value in both.state_dict().items() if key in single.state_dict()})
        alone = single(trunk, text, {name: streams[name]}).summary[row]
        torch.testing.assert_close(both.eval()(trunk, text, streams).summary[row], alone)


def test_dropout_leaves_rows_without_a_stream_alone():
    trunk = make_trunk().eval()
    fusion = Mag(DIM, dict.fromkeys(LENGTHS, False), dropout=0.5).double().train()
    text, streams = inputs(trunk)
    plain = masked_mean(trunk(text).values, text.mask)
    torch.manual_seed(0)
    first, second = (fusion(trunk, text, streams).summary for _ in range(2))
    torch.testing.assert_close(first[3], plain[3])
    torch.testing.assert_close(second[3], plain[3])
    assert ((first - second).abs().amax(1) > 0).tolist() == [True, True, True, False, True]


def test_a_shift_of_zero_has_a_finite_gradient():
    trunk, fusion = make_trunk(), make_fusion("mag")
    largest_weights(fusion, 0.0)
    text, streams = inputs(trunk)
    fusion(trunk, text, streams).summary.square().sum().backward()
    assert all(
        parameter.grad.isfinite().all() for parameter in (*fusion.parameters(), *trunk.model.encoder.parameters())
    )


def test_streams_are_handed_on_as_encoded():
    trunk, fusion = make_trunk(), make_fusion("mag")
    text, streams = inputs(trunk)
    fused = fusion(trunk, text, streams)
    assert all(fused.streams[name] is tokens for name, tokens in streams.items())
