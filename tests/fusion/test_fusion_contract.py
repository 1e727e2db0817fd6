"""Contract tests of every registered fusion, in float64 on a 2-layer trunk."""

import pytest
import torch
from transformers import AutoModel, BertConfig

from mmbert.fusion import FUSIONS
from mmbert.layers.masked import masked_mean
from mmbert.registry import recipe_options
from mmbert.trunk.huggingface import HuggingFaceTrunk
from mmbert.trunk.vocabulary import Vocabulary
from mmbert.types import Fused, Present, Tokens

ROWS, DIM = 5, 16
LENGTHS = {"long": 21, "short": 3}
PRESENT = {"long": [True, True, False, False, True], "short": [True, False, True, False, True]}


def make_trunk(layers=2):
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=30,
        hidden_size=DIM,
        num_attention_heads=4,
        intermediate_size=24,
        num_hidden_layers=layers,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model = AutoModel.from_config(config, add_pooling_layer=False)
    return HuggingFaceTrunk(model, Vocabulary("", cls=1, sep=2, pad=0, size=30), ("text",)).double()


def make_fusion(name, tagged=()):
    """A fusion whose zero-initialised parts hold small random values."""
    fusion = FUSIONS.get(name)(DIM, {stream: stream in tagged for stream in LENGTHS}).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in fusion.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    for module in fusion.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if isinstance(module, torch.nn.MultiheadAttention):
            module.dropout = 0.0
    return fusion


def inputs(trunk, filling=0.0, lengths=LENGTHS):
    generator = torch.Generator().manual_seed(2)
    tokens = torch.randint(3, 30, (ROWS, 9), generator=generator)
    mask = torch.arange(9) < torch.tensor([9, 4, 2, 6, 0])[:, None]
    unit = torch.arange(9).expand(ROWS, 9)
    text = trunk.embed({"text": Present(torch.arange(ROWS), {"tokens": tokens, "mask": mask, "unit": unit})}, ROWS)
    streams = {}
    for name, length in lengths.items():
        values = torch.randn(ROWS, length, DIM, generator=generator, dtype=torch.float64)
        real = torch.rand(ROWS, length, generator=generator) < 0.7
        real[:, 0] = True
        real &= torch.tensor(PRESENT[name])[:, None]
        values = torch.where(real[..., None], values, filling)
        streams[name] = Tokens(values, real, torch.arange(length).expand(ROWS, length))
    return text, streams


def difference(first: Fused, second: Fused, rows=slice(None)):
    text, text_of_second = first.streams["text"], second.streams["text"]
    summary = (first.summary - second.summary)[rows].abs().max()
    return max(summary, torch.where(text.mask[..., None], text.values - text_of_second.values, 0.0)[rows].abs().max())


every_fusion = pytest.mark.parametrize("name", FUSIONS.names())


@every_fusion
def test_rows_without_streams_take_the_plain_trunk(name):
    trunk, fusion = make_trunk(), make_fusion(name)
    text, streams = inputs(trunk)
    fused = fusion(trunk, text, streams)
    plain = trunk(text)
    alone = FUSIONS.get(name)(DIM, {}).double()(trunk, text, {})
    assert (fused.summary[3] - alone.summary[3]).abs().max() < 1e-9
    assert (fused.streams["text"].values[3] - plain.values[3])[text.mask[3]].abs().max() < 1e-9
    if FUSIONS.get(name).joins:
        assert (fused.summary[0] - alone.summary[0]).abs().max() > 1e-6


@every_fusion
def test_an_absent_key_equals_an_empty_mask(name):
    trunk, fusion = make_trunk(), make_fusion(name)
    text, streams = inputs(trunk)
    for gone in ([*LENGTHS], ["long"], ["short"]):
        without_gone = {stream: tokens for stream, tokens in streams.items() if stream not in gone}
        empty = {stream: tokens._replace(mask=tokens.mask & (stream not in gone)) for stream, tokens in streams.items()}
        assert difference(fusion(trunk, text, without_gone), fusion(trunk, text, empty)) < 1e-9


@every_fusion
def test_masked_tokens_reach_neither_output_nor_gradient(name):
    trunk, fusion = make_trunk(), make_fusion(name)
    fused, gradients = [], []
    for filling in (0.0, float("nan")):
        fusion.zero_grad()
        trunk.zero_grad()
        fused.append(fusion(trunk, *inputs(trunk, filling)))
        fused[-1].summary.square().sum().backward()
        gradients.append([p.grad.clone() for p in (*fusion.parameters(), *trunk.parameters()) if p.grad is not None])
    assert difference(*fused) == 0
    assert all(torch.equal(first, second) for first, second in zip(*gradients, strict=True))


@every_fusion
def test_rows_do_not_influence_each_other(name):
    trunk, fusion = make_trunk().train(), make_fusion(name).train()
    text, streams = inputs(trunk)
    whole = fusion(trunk, text, streams)
    for row in range(ROWS):
        only = torch.tensor([row])
        alone = fusion(trunk, text.at(only), {stream: tokens.at(only) for stream, tokens in streams.items()})
        assert (alone.summary[0] - whole.summary[row]).abs().max() < 1e-9


@every_fusion
def test_every_parameter_learns(name):
    trunk, fusion = make_trunk(), make_fusion(name)
    fused = fusion(
        trunk, *inputs(trunk, lengths={"long": 40, "short": 30})
    )  # both longer than any number of tokens kept
    fused.summary.square().sum().backward()
    # a softmax does not see a shift of all keys: their bias has a gradient of zero by construction
    still = [n for n, p in fusion.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert [n for n in still if n != "readout.query"] == []


@every_fusion
def test_the_order_of_streams_does_not_matter(name):
    trunk, fusion = make_trunk(), make_fusion(name)
    text, streams = inputs(trunk)
    turned = dict(reversed(streams.items()))
    assert difference(fusion(trunk, text, streams), fusion(trunk, text, turned)) == 0
    assert list(make_fusion(name).state_dict()) == list(
        FUSIONS.get(name)(DIM, {"short": False, "long": False}).state_dict()
    )


@every_fusion
def test_tagged_streams_keep_their_length_and_units(name):
    trunk, fusion = make_trunk(), make_fusion(name, tagged=("long",))
    text, streams = inputs(trunk)
    stream = fusion(trunk, text, streams).streams["long"]
    assert torch.equal(stream.unit, streams["long"].unit)
    assert torch.equal(stream.mask, streams["long"].mask)


@every_fusion
def test_streams_matter(name):
    trunk, fusion = make_trunk(), make_fusion(name)
    text, streams = inputs(trunk)
    for stream, tokens in streams.items():
        shifted = {**streams, stream: tokens._replace(values=tokens.values + torch.linspace(-1, 1, DIM).double())}
        assert (difference(fusion(trunk, text, streams), fusion(trunk, text, shifted)) > 1e-6) == fusion.joins


@every_fusion
def test_what_the_trunk_reads_of_the_text_alone_is_handed_on(name):
    trunk, fusion = make_trunk(), make_fusion(name)
    text, streams = inputs(trunk)
    alone = fusion(trunk, text, streams).unimodal
    assert alone.keys() == ({"text"} if fusion.reads_text_alone else set())
    for token in alone.values():
        written = (text.unit >= 0).any(1)
        expected = masked_mean(trunk(text).values, text.mask)
        assert (token.values[:, 0] - expected)[written].abs().max() < 1e-9
        assert (token.unit < 0).all()


@every_fusion
def test_what_calls_layers_itself_is_never_given_cached_tokens(name):
    """``trunk.layers`` are all layers: those below the cut would run a second time."""
    assert not (make_fusion(name).needs_layers and FUSIONS.get(name).reads_text_alone)


def test_options_have_defaults():
    for name in FUSIONS.names():
        assert all(option.default is not option.empty for option in recipe_options(FUSIONS.get(name)).values())
