"""Tests of concat, cross-attention and joint fusion against hand-computed results."""

import pytest
import torch
from torch import nn

from mmbert.fusion.concat import Concat
from mmbert.fusion.cross_attention import CrossAttention
from mmbert.fusion.joint import Joint
from mmbert.layers.masked import masked_mean
from mmbert.types import Tokens
from tests.fusion.test_fusion_contract import DIM, LENGTHS, inputs, make_fusion, make_trunk


def test_concat_without_a_streams_weights_has_no_influence_of_it():
    trunk, fusion = make_trunk(), make_fusion("concat")
    first = next(module for module in fusion.late.mix.layers if isinstance(module, nn.Linear))
    with torch.no_grad():
        first.weight[:, DIM : 2 * DIM] = 0.0  # the streams follow the text in the order of their names
    text, streams = inputs(trunk)
    flipped = {**streams, "long": streams["long"]._replace(values=streams["long"].values.flip(0))}
    assert torch.equal(fusion(trunk, text, streams).summary[:3:2], fusion(trunk, text, flipped).summary[:3:2])


@pytest.mark.parametrize("name", LENGTHS)
def test_concat_reads_the_vector_of_what_is_absent(name):
    trunk, fusion = make_trunk(), make_fusion("concat")
    text, streams = inputs(trunk)
    row = {"long": 2, "short": 1}[name]  # lacks only this stream
    with torch.no_grad():
        for place, stream in enumerate(fusion.late.mix.absent):
            fusion.late.mix.absent[stream].fill_(1.0 + place)
    vectors, _ = fusion.late.vectors({"text": trunk(text), **streams}, text.values[:, 0])
    at = ("text", *LENGTHS).index(name)
    vectors[row, at] = fusion.late.mix.absent[name]
    expected = fusion.late.mix.layers(vectors[row].flatten())
    torch.testing.assert_close(fusion(trunk, text, streams).summary[row], expected)


def test_cross_attention_starts_as_the_plain_trunk():
    trunk = make_trunk()
    fusion = CrossAttention(DIM, dict.fromkeys(LENGTHS, False)).double()
    text, streams = inputs(trunk)
    assert torch.equal(fusion(trunk, text, streams).summary, masked_mean(trunk(text).values, text.mask))


def test_cross_attention_to_one_token_gives_that_token():
    """With identity value and output projections and an open gate the result does not depend on the queries."""
    trunk = make_trunk()
    fusion = CrossAttention(DIM, {"short": False}, layers=1, gate=1, dropout=0.0).double()
    attend_round = fusion.rounds[0]
    with torch.no_grad():
        attend_round.cross["short"].in_proj_weight[2 * DIM :] = torch.eye(DIM)
        attend_round.cross["short"].out_proj.weight.copy_(torch.eye(DIM))
        for gate in (attend_round.self_gate, attend_round.feed_gate):
            gate.zero_()
    text, streams = inputs(trunk)
    token = Tokens(*(part[:, :1] for part in streams["short"]))
    given = torch.where(token.mask[..., None], torch.nn.functional.layer_norm(token.values, (DIM,)), 0.0)
    expected = trunk(text).values + torch.tanh(torch.ones(())) * given
    read = fusion(trunk, text, {"short": token}).streams["text"]
    torch.testing.assert_close(read.values[text.mask], expected[text.mask])


def test_joint_does_not_care_which_name_comes_first():
    """Swapping two streams together with their facets and norms changes nothing."""
    trunk, fusion = make_trunk(), make_fusion("joint", tagged=tuple(LENGTHS))
    text, streams = inputs(trunk)
    swapped = Joint(DIM, dict.fromkeys(LENGTHS, True)).double()
    turn = {"long": "short", "short": "long"}
    state = {
        key.replace("long", "#").replace("short", "long").replace("#", "short"): value
        for key, value in fusion.state_dict().items()
    }
    swapped.load_state_dict(state)
    result = swapped(trunk, text, {turn[name]: tokens for name, tokens in streams.items()})
    assert (fusion(trunk, text, streams).summary - result.summary).abs().max() < 1e-9


@pytest.mark.parametrize("tokens", [1, 4])
def test_joint_lets_few_tokens_of_a_long_stream_in(tokens):
    trunk = make_trunk()
    seen = []
    trunk.register_forward_hook(lambda module, args, result: seen.append(args[0].mask.shape[1]))
    fusion = Joint(DIM, dict.fromkeys(LENGTHS, False), tokens=tokens).double()
    text, streams = inputs(trunk)
    fusion(trunk, text, streams)
    assert seen == [text.mask.shape[1] + sum(min(tokens, length) for length in LENGTHS.values())]


def test_joint_reads_a_row_of_few_tokens_as_it_is_beside_a_longer_one():
    trunk = make_trunk()
    fusion = Joint(DIM, dict.fromkeys(LENGTHS, False), tokens=8).double()
    text, streams = inputs(trunk)
    mask = streams["long"].mask.clone()
    mask[1] &= torch.arange(LENGTHS["long"]) % 3 == 2  # few real tokens, all over the row
    streams["long"] = streams["long"]._replace(mask=mask)
    assert mask[0].sum() > 8 >= mask[1].sum() > 1
    few = mask[1].nonzero()[:, 0]
    alone = {name: tokens.at(torch.tensor([1])) for name, tokens in streams.items()}
    alone["long"] = Tokens(*(part[:, few] for part in alone["long"]))
    whole = fusion(trunk, text, streams).summary[1]
    torch.testing.assert_close(whole, fusion(trunk, text.at(torch.tensor([1])), alone).summary[0])
    fusion.shorten["long"].resample.queries.data.normal_()
    torch.testing.assert_close(whole, fusion(trunk, text, streams).summary[1])


def test_concat_pools_as_told():
    trunk = make_trunk()
    text, _ = inputs(trunk)
    cls = Concat(DIM, {}, pooling="cls")(trunk, text, {}).summary
    assert torch.equal(cls, trunk(text).values[:, 0])


def test_concat_runs_the_trunk_for_rows_with_text_or_with_nothing_else():
    trunk, fusion = make_trunk(), make_fusion("concat")
    text, streams = inputs(trunk)  # row 4 has streams only, row 3 text only
    sizes = []
    trunk.register_forward_hook(lambda module, args, result: sizes.append(len(args[0].mask)))
    whole = fusion(trunk, text, streams)
    assert sizes == [4]
    assert not whole.streams["text"].mask[4].any()
    only = torch.tensor([4])
    row_streams = {name: tokens.at(only) for name, tokens in streams.items()}
    fused = fusion(trunk, text.at(only), row_streams)  # the trunk runs on one row, whose result is not read
    assert sizes == [4, 1]
    assert not fused.streams["text"].mask.any()
    torch.testing.assert_close(fused.summary[0], whole.summary[4])
    fused.summary.sum().backward()
    assert all(torch.equal(p.grad, torch.zeros_like(p)) for p in trunk.model.encoder.parameters())
    nothing = fusion(trunk, text.at(only), {})
    torch.testing.assert_close(nothing.summary, trunk(text.at(only)).values[:, :2].mean(1))
