"""Tests of the gated fusion: the formula, and open and closed gates."""

import pytest
import torch

from tests.fusion.test_fusion_contract import DIM, inputs, make_fusion, make_trunk

NAMES = ("text", "long", "short")  # the text first, the streams in the order of their names


def vectors_of(fusion, trunk, text, streams):
    """The pooled and normed streams by name, zero where absent."""
    read = trunk(text)
    read = read._replace(mask=read.mask & (text.unit >= 0).any(1)[:, None])
    values, _ = fusion.late.vectors({"text": read, **streams}, text.values[:, 0])
    return dict(zip(NAMES, values.unbind(1), strict=True))


def test_it_is_the_sum_over_inputs_of_gate_times_content():
    trunk, fusion = make_trunk(), make_fusion("gated")
    text, streams = inputs(trunk)
    vectors = vectors_of(fusion, trunk, text, streams)
    together = torch.cat([*vectors.values()], dim=1)
    mix, expected = fusion.late.mix, 0.0
    for name, vector in vectors.items():
        gate = 1 / (1 + (-(together @ mix.gates[name].weight.T + mix.gates[name].bias)).exp())
        expected = expected + gate * (vector @ mix.maps[name].weight.T).tanh()
    rows = [0, 1, 2, 4]  # row 3 has no stream
    torch.testing.assert_close(fusion(trunk, text, streams).summary[rows], expected[rows])


@pytest.mark.parametrize("name", NAMES)
def test_one_gate_open_and_the_others_shut_give_one_input(name):
    trunk, fusion = make_trunk(), make_fusion("gated")
    with torch.no_grad():
        for stream, gate in fusion.late.mix.gates.items():
            gate.bias.fill_(float("inf") if stream == name else float("-inf"))
    text, streams = inputs(trunk)
    vector = vectors_of(fusion, trunk, text, streams)[name]
    expected = (vector @ fusion.late.mix.maps[name].weight.T).tanh()
    torch.testing.assert_close(fusion(trunk, text, streams).summary[0], expected[0])
    assert not expected[{"text": 4, "long": 2, "short": 1}[name]].any()  # an absent input contributes nothing


def test_a_gate_reads_the_other_inputs():
    """The gate of the text depends on a stream only through that stream's block of weights."""
    trunk, fusion = make_trunk(), make_fusion("gated")
    gates = fusion.late.mix.gates
    block = slice(DIM, 2 * DIM)  # of "long"
    with torch.no_grad():
        for name, gate in gates.items():
            if name != "text":
                gate.bias.fill_(float("-inf"))
    text, streams = inputs(trunk)
    flipped = {**streams, "long": streams["long"]._replace(values=streams["long"].values.flip(2))}
    moved = fusion(trunk, text, streams).summary - fusion(trunk, text, flipped).summary
    assert all(moved[[0, 1]].abs().amax(1) > 1e-3)
    with torch.no_grad():
        gates["text"].weight[:, block] = 0.0
    torch.testing.assert_close(fusion(trunk, text, streams).summary, fusion(trunk, text, flipped).summary)
