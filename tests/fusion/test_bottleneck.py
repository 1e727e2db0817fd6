"""Tests of the bottleneck fusion: which stream reaches which, and when."""

import pytest
import torch

from mmbert.fusion.bottleneck import Bottleneck
from mmbert.layers.masked import masked_mean
from tests.fusion.test_fusion_contract import DIM, LENGTHS, ROWS, inputs, make_fusion, make_trunk

ALL = 0  # the row that has the text and both streams
NAMES = ("text", *LENGTHS)


def build(layers, trunk_layers=2):
    fusion = Bottleneck(DIM, dict.fromkeys(LENGTHS, False), layers=layers, dropout=0.0).double()
    with torch.no_grad():
        fusion.start.mul_(20)
    return make_trunk(trunk_layers), fusion


def reads(trunk, fusion):
    """{(read, wrote): whether output stream "read" depends on input stream "wrote"}, in the row that has all."""
    text, streams = inputs(trunk)
    entering = {name: tokens.values.detach().requires_grad_() for name, tokens in ({"text": text} | streams).items()}
    given = {name: tokens._replace(values=entering[name]) for name, tokens in streams.items()}
    fused = fusion(trunk, text._replace(values=entering["text"]), given).streams
    depends = {}
    for read in NAMES:
        fused[read].values[ALL].sin().sum().backward(retain_graph=True)
        for wrote, values in entering.items():
            depends[read, wrote] = values.grad is not None and bool(values.grad.any())
            values.grad = None
    return depends


@pytest.mark.parametrize(("layers", "crosses"), [(1, False), (2, True)])
def test_one_fused_layer_lets_nothing_across_and_two_do(layers, crosses):
    depends = reads(*build(layers))
    assert depends == {(read, wrote): crosses or read == wrote for read in NAMES for wrote in NAMES}


@pytest.mark.parametrize("layers", [2, 3])
def test_a_constant_bottleneck_cuts_all_cross_talk(layers, monkeypatch):
    trunk, fusion = build(layers, trunk_layers=3)
    monkeypatch.setattr(fusion, "_exchange", lambda wrote, present: fusion.start.expand(ROWS, -1, -1))
    assert reads(trunk, fusion) == {(read, wrote): read == wrote for read in NAMES for wrote in NAMES}


def test_the_next_bottleneck_is_the_mean_over_what_a_row_has(monkeypatch):
    trunk, fusion = build(2)
    exchange, seen = fusion._exchange, []
    monkeypatch.setattr(
        fusion, "_exchange", lambda wrote, present: seen.append((wrote, exchange(wrote, present))) or seen[-1][1]
    )
    fusion(trunk, *inputs(trunk))
    text, long, short = range(3)
    has = {0: [text, long, short], 1: [text, long], 2: [text, short], 3: [text], 4: [long, short]}
    assert len(seen) == 2
    for wrote, mean in seen:
        for row, present in has.items():
            torch.testing.assert_close(mean[row], sum(wrote[stream][row] for stream in present) / len(present))


def test_the_summary_is_the_mean_over_what_a_row_has():
    trunk, fusion = build(2)
    fused = fusion(trunk, *inputs(trunk))
    pooled = {name: masked_mean(tokens.values, tokens.mask) for name, tokens in fused.streams.items()}
    has = {0: NAMES, 1: ("text", "long"), 2: ("text", "short"), 3: ("text",), 4: ("long", "short")}
    for row, present in has.items():
        torch.testing.assert_close(fused.summary[row], sum(pooled[name][row] for name in present) / len(present))


@pytest.mark.parametrize("tokens", [1, 4])
@pytest.mark.parametrize("layers", [1, 2])
def test_the_last_layers_of_the_trunk_read_the_bottleneck_and_those_below_the_text_alone(layers, tokens):
    trunk = make_trunk(3)
    fusion = Bottleneck(DIM, dict.fromkeys(LENGTHS, False), layers=layers, tokens=tokens).double()
    seen = []
    for layer in trunk.model.encoder.layer:
        layer.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape[1]))
    text, streams = inputs(trunk)
    fusion(trunk, text, streams)
    length = text.mask.shape[1]
    assert seen == [length] * (3 - layers) + [length + tokens] * layers


def test_a_row_without_text_writes_nothing_for_it():
    """Another trunk would change it otherwise."""
    trunk, fusion = make_trunk(), make_fusion("bottleneck")
    text, streams = inputs(trunk)
    before = fusion(trunk, text, streams).summary
    with torch.no_grad():
        for parameter in trunk.model.encoder.parameters():
            parameter += 0.1
    moved = (fusion(trunk, text, streams).summary - before).abs().amax(1)
    assert moved[4] == 0
    assert (moved[:4] > 1e-6).all()
