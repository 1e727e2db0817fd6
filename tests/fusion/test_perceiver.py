"""Tests of the perceiver fusion: which tokens the latents read, and the cost."""

import pytest
import torch

from mmbert.fusion.perceiver import Perceiver
from mmbert.types import Tokens
from tests.fusion.test_fusion_contract import DIM, LENGTHS, inputs, make_fusion, make_trunk

BOTH = dict.fromkeys(LENGTHS, False)


@pytest.mark.parametrize("latents", [1, 5])
def test_what_follows_the_first_reading_does_not_grow_with_the_tokens(latents):
    trunk = make_trunk()
    fusion = Perceiver(DIM, BOTH, latents=latents).double()
    text, streams = inputs(trunk)
    seen = []
    for layer in fusion.layers:
        layer.register_forward_pre_hook(lambda module, args: seen.append(tuple(args[0].shape)))
    shapes = []
    for times in (1, 3):
        longer = {
            name: Tokens(*(torch.cat([part] * times, dim=1) for part in stream)) for name, stream in streams.items()
        }
        shapes.append(fusion(trunk, text, longer).summary.shape)
    assert shapes == [(5, DIM), (5, DIM)]
    assert seen == [(5, latents, DIM)] * 4


@pytest.mark.parametrize("name", ["text", *LENGTHS])
def test_the_order_of_embedded_tokens_does_not_matter(name):
    trunk, fusion = make_trunk(), make_fusion("perceiver")
    text, streams = inputs(trunk)
    expected = fusion(trunk, text, streams).summary
    given = {"text": text, **streams}
    order = torch.randperm(given[name].mask.shape[1], generator=torch.Generator().manual_seed(3))
    given[name] = Tokens(*(part[:, order] for part in given[name]))
    actual = fusion(trunk, given.pop("text"), given).summary
    assert (actual - expected).abs().max() < 1e-9


def test_every_real_token_reaches_the_summary():
    trunk, fusion = make_trunk(), make_fusion("perceiver")
    text, streams = inputs(trunk)
    entering = {name: tokens.values.detach().requires_grad_() for name, tokens in ({"text": text} | streams).items()}
    given = {name: tokens._replace(values=entering[name]) for name, tokens in streams.items()}
    fusion(trunk, text._replace(values=entering["text"]), given).summary.sin().sum().backward()
    for name, tokens in ({"text": text} | streams).items():
        assert torch.equal(entering[name].grad.any(2), tokens.mask), name


def test_a_facet_tells_streams_of_the_same_tokens_apart():
    trunk = make_trunk()
    fusion = Perceiver(DIM, BOTH, dropout=0.0).double()
    text, streams = inputs(trunk)

    def difference():
        as_long = fusion(trunk, text, {"long": streams["long"]}).summary
        as_short = fusion(trunk, text, {"short": streams["long"]}).summary
        return (as_long - as_short).abs().max()

    assert difference() == 0
    with torch.no_grad():
        fusion.facets["long"] += torch.linspace(-1, 1, DIM)
    assert difference() > 1e-6


def test_text_and_streams_are_handed_on_as_encoded():
    trunk, fusion = make_trunk(), make_fusion("perceiver")
    text, streams = inputs(trunk)
    fused = fusion(trunk, text, streams)
    assert torch.equal(fused.streams["text"].values, trunk(text).values)
    assert all(fused.streams[name] is tokens for name, tokens in streams.items())
