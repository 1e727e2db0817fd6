"""Tests of the mean fusion: the mean over the inputs that a row has."""

import torch
from torch.nn.functional import layer_norm

from tests.fusion.test_fusion_contract import DIM, inputs, make_fusion, make_trunk


def mapped(fusion, trunk, text, streams):
    """W_m LayerNorm(mean of the stream's tokens) by name, computed row by row from the tokens."""
    vectors = {}
    for name, tokens in {"text": trunk(text), **streams}.items():
        norm, weight = fusion.late.vectors.norms[name], fusion.late.mix.maps[name].weight
        rows = [values[mask].mean(0) for values, mask in zip(tokens.values, tokens.mask, strict=True)]
        vectors[name] = layer_norm(torch.stack(rows), (DIM,), norm.weight, norm.bias) @ weight.T
    return vectors


def test_it_is_the_plain_mean_where_all_is_present():
    trunk, fusion = make_trunk(), make_fusion("mean")
    text, streams = inputs(trunk)
    fused = fusion(trunk, text, streams)
    each = mapped(fusion, trunk, text, streams)
    torch.testing.assert_close(fused.summary[0], sum(each.values())[0] / 3)


def test_what_is_absent_does_not_count():
    trunk, fusion = make_trunk(), make_fusion("mean")
    text, streams = inputs(trunk)  # row 1 has no "short", row 2 no "long", row 4 no text
    fused = fusion(trunk, text, streams)
    each = mapped(fusion, trunk, text, streams)
    torch.testing.assert_close(fused.summary[1], (each["text"] + each["long"])[1] / 2)
    torch.testing.assert_close(fused.summary[2], (each["text"] + each["short"])[2] / 2)
    torch.testing.assert_close(fused.summary[4], (each["long"] + each["short"])[4] / 2)


def test_the_size_of_a_stream_does_not_matter():
    """Every stream is normed: none outweighs the rest by its scale."""
    trunk, fusion = make_trunk(), make_fusion("mean")
    text, streams = inputs(trunk)
    louder = {name: tokens._replace(values=tokens.values * 1000) for name, tokens in streams.items()}
    torch.testing.assert_close(
        fusion(trunk, text, louder).summary, fusion(trunk, text, streams).summary, rtol=0, atol=1e-4
    )
