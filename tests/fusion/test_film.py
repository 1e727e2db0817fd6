"""Tests of FiLM: the plain text at the start and in rows without streams; the formula per channel and token."""

import torch
from torch.nn.functional import gelu

from mmbert.fusion.film import Film
from mmbert.layers.masked import masked_mean
from tests.fusion.test_fusion_contract import DIM, LENGTHS, inputs, make_fusion, make_trunk


def test_it_starts_as_the_plain_trunk_with_all_streams_present():
    trunk = make_trunk()
    fusion = Film(DIM, dict.fromkeys(LENGTHS, False)).double()
    text, streams = inputs(trunk)
    fused, plain = fusion(trunk, text, streams), trunk(text)
    assert torch.equal(fused.summary, masked_mean(plain.values, plain.mask))
    assert torch.equal(fused.streams["text"].values, plain.values)


def test_the_first_gradient_reaches_the_modulation_and_the_text():
    """Zeros at the start must not mean zeros for ever."""
    trunk = make_trunk()
    fusion = Film(DIM, dict.fromkeys(LENGTHS, False)).double()
    text, streams = inputs(trunk)
    fusion(trunk, text, streams).summary.square().sum().backward()
    assert all(fusion.modulation.weight.grad.abs().sum(1) > 0)
    assert trunk.model.encoder.layer[0].output.dense.weight.grad.any()


def test_nothing_present_leaves_the_text_as_it_is_whatever_was_learned():
    trunk, fusion = make_trunk(), make_fusion("film")
    with torch.no_grad():
        fusion.modulation.bias += 10.0
        for project in fusion.maps.values():
            project.bias += 10.0
    text, streams = inputs(trunk)
    fused, plain = fusion(trunk, text, streams), trunk(text)
    assert torch.equal(fused.streams["text"].values[3], plain.values[3])  # row 3 has no stream
    assert not torch.allclose(fused.streams["text"].values[0], plain.values[0])
    alone = fusion(trunk, text, {})
    assert torch.equal(alone.streams["text"].values, plain.values)
    assert torch.equal(alone.summary, masked_mean(plain.values, plain.mask))


def test_every_token_is_scaled_and_shifted_by_what_the_present_streams_say():
    trunk, fusion = make_trunk(), make_fusion("film")
    text, streams = inputs(trunk)
    plain, fused = trunk(text), fusion(trunk, text, streams).streams["text"]
    vectors, _ = fusion.vectors(streams, text.values[:, 0])
    mapped = {
        name: vectors[:, index] @ fusion.maps[name].weight.T + fusion.maps[name].bias
        for index, name in enumerate(("long", "short"))
    }
    for row, names in ((0, ("long", "short")), (1, ("long",)), (2, ("short",)), (4, ("long", "short"))):
        condition = sum(mapped[name][row] for name in names) / len(names)
        gamma, beta = (fusion.modulation.weight @ gelu(condition) + fusion.modulation.bias).chunk(2)
        real = plain.mask[row]
        torch.testing.assert_close(fused.values[row][real], (1 + gamma) * plain.values[row][real] + beta)
        assert not fused.values[row][~real].any()
