"""Tests of the trunk: equality with the library's model, packed or not; no leaks between rows or from padding."""

import copy

import pytest
import torch
from transformers import AutoModel, BertConfig, DistilBertConfig, ModernBertConfig, RobertaConfig

from mmbert.errors import RecipeError
from mmbert.layers.dropout import Dropout, set_dropout
from mmbert.trunk.huggingface import HuggingFaceTrunk
from mmbert.trunk.vocabulary import Vocabulary
from mmbert.types import Present

SMALL = {"vocab_size": 50, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48}
CONFIGS = {
    "bert": BertConfig(**SMALL, num_hidden_layers=3, max_position_embeddings=256),
    "roberta": RobertaConfig(**SMALL, num_hidden_layers=3, max_position_embeddings=256, pad_token_id=1),
    "modernbert": ModernBertConfig(
        **SMALL,
        num_hidden_layers=4,
        local_attention=16,
        pad_token_id=0,
        cls_token_id=1,
        sep_token_id=2,
        bos_token_id=1,
        eos_token_id=2,
    ),
    "distilbert": DistilBertConfig(vocab_size=50, dim=32, n_heads=4, hidden_dim=48, n_layers=2),
}
VOCABULARY = Vocabulary("", cls=3, sep=4, pad=1, size=50)


def trunk_of(kind, texts=("name",), **options):
    torch.manual_seed(0)
    options.setdefault("packing", True)
    kwargs = {"add_pooling_layer": False} if kind in ("bert", "roberta") else {}
    return HuggingFaceTrunk(AutoModel.from_config(CONFIGS[kind], **kwargs), VOCABULARY, texts, **options)


def text(lengths, rows=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    longest = max(lengths)
    mask = torch.arange(longest) < torch.tensor(lengths)[:, None]
    tokens = torch.randint(5, 50, mask.shape, generator=generator).masked_fill(~mask, VOCABULARY.pad)
    unit = torch.arange(longest).expand_as(mask).masked_fill(~mask, -1)
    rows = torch.arange(len(lengths)) if rows is None else torch.tensor(rows)
    return Present(rows, {"tokens": tokens, "mask": mask, "unit": unit})


def library(trunk, tokens):
    """The result of the library's model with its own attention for the same ids."""
    lengths = tokens.tensors["mask"].sum(1)
    ids, _, mask = trunk.build_sequences({"name": tokens}, len(lengths))
    model = copy.deepcopy(trunk.model)
    model.set_attn_implementation("sdpa")
    return model(input_ids=ids, attention_mask=mask.long()).last_hidden_state, mask


@pytest.mark.parametrize("kind", CONFIGS)
def test_equal_lengths_equal_the_library_bit_for_bit(kind):
    trunk = trunk_of(kind).eval()
    tokens = text([60, 60, 60])
    expected, _ = library(trunk, tokens)
    assert torch.equal(trunk(trunk.embed({"name": tokens}, 3)).values, expected)


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("kind", CONFIGS)
def test_ragged_texts_equal_the_library(kind, packing):
    trunk = trunk_of(kind, packing=packing).double().eval()
    tokens = text([3, 70, 0, 33])
    expected, mask = library(trunk, tokens)
    actual = trunk(trunk.embed({"name": tokens}, 4)).values
    assert (actual - expected).abs()[mask].max() < 1e-9
    assert (actual[~mask] == 0).all()


@pytest.mark.parametrize("kind", ["bert", "roberta", "modernbert"])
def test_a_step_of_training_is_the_same_packed_or_not(kind):
    results = []
    for packing in (True, False):
        trunk = trunk_of(kind, packing=packing).double().train()
        set_dropout(trunk, 0.0)
        values = trunk(trunk.embed({"name": text([3, 70, 0, 33, 31])}, 5)).values
        values.sin().sum().backward()
        results.append([values, *(parameter.grad for parameter in trunk.parameters())])
    assert all((packed - padded).abs().max() < 1e-9 for packed, padded in zip(*results, strict=True))


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_names_of_weights_are_the_library_s(kind):
    trunk = trunk_of(kind)
    kwargs = {"add_pooling_layer": False} if kind in ("bert", "roberta") else {}
    assert trunk.model.state_dict().keys() == AutoModel.from_config(CONFIGS[kind], **kwargs).state_dict().keys()
    assert "_attn_implementation" not in trunk.model.config.to_dict()
    dropouts = [module for module in trunk.modules() if isinstance(module, torch.nn.Dropout)]
    assert dropouts
    assert all(type(module) is Dropout for module in dropouts)


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("part", ["hidden", "attention"])
def test_dropout_acts_where_the_configuration_says(part, packing):
    trunk = trunk_of("bert", packing=packing).train()
    for name, module in trunk.named_modules():
        if isinstance(module, Dropout):
            module.p = 0.3 if name.endswith("self.dropout") == (part == "attention") else 0.0
    tokens, results = trunk.embed({"name": text([9, 4])}, 2), []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        results.append(trunk(tokens).values)
    assert torch.equal(results[0], results[1])
    assert (results[0] - results[2])[tokens.mask].abs().min() > 0


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("kind", CONFIGS)
def test_masked_tokens_reach_neither_output_nor_gradient(kind, packing):
    trunk = trunk_of(kind, packing=packing).double().eval()
    tokens = trunk.embed({"name": text([3, 20, 7])}, 3)
    gap = torch.cat([tokens.mask[:, :1], torch.zeros(3, 5, dtype=torch.bool), tokens.mask[:, 1:]], 1)
    results, gradients = [], []
    for filling in (0.0, float("nan")):
        filled = torch.full((3, 5, 32), filling, dtype=torch.float64)
        values = torch.cat([tokens.values[:, :1], filled, tokens.values[:, 1:]], 1).detach()
        unit = torch.full(gap.shape, -1)
        trunk.zero_grad()
        result = trunk(tokens._replace(values=values, mask=gap, unit=unit)).values
        result.square().sum().backward()
        results.append(result)
        gradients.append([p.grad.clone() for p in trunk.parameters() if p.grad is not None])
    assert torch.equal(results[0], results[1])
    assert all(torch.equal(a, b) and a.isfinite().all() for a, b in zip(*gradients, strict=True))
    if kind != "distilbert":  # its forward counts masked positions
        plain = trunk(tokens).values
        assert (torch.cat([results[0][:, :1], results[0][:, 6:]], 1) - plain).abs().max() < 1e-9


def test_several_texts_are_joined_in_the_order_of_names():
    trunk = trunk_of("bert", texts=("b", "a"))
    first, second = text([2, 1], rows=[0, 2], seed=1), text([3], rows=[0], seed=2)
    tokens = trunk.embed({"b": second, "a": first}, 3)
    ids, _, mask = trunk.build_sequences({"b": second, "a": first}, 3)
    a_of_row_0, b_of_row_0 = first.tensors["tokens"][0].tolist(), second.tensors["tokens"][0].tolist()
    assert ids[0].tolist() == [3, *a_of_row_0, 4, *b_of_row_0, 4]
    assert ids[1][mask[1]].tolist() == [3, 4]
    assert ids[2][mask[2]].tolist() == [3, *first.tensors["tokens"][1, :1].tolist(), 4]
    streams = trunk.split(tokens)
    assert streams["a"].unit[0].tolist() == [-1, 0, 1, -1, -1, -1, -1, -1]
    assert streams["b"].unit[0].tolist() == [-1, -1, -1, -1, 0, 1, 2, -1]
    assert streams["b"].mask.sum(1).tolist() == [3, 0, 0]


def test_a_token_of_no_word_has_no_unit_in_any_text():
    trunk = trunk_of("bert", texts=("a", "b"))
    second = text([3])
    second.tensors["unit"][0, 1] = -1
    streams = trunk.split(trunk.embed({"a": text([2]), "b": second}, 1))
    assert streams["a"].unit[0].tolist() == [-1, 0, 1, -1, -1, -1, -1, -1]
    assert streams["b"].unit[0].tolist() == [-1, -1, -1, -1, 0, -1, 2, -1]


def test_facets_start_at_zero_and_learn():
    trunk = trunk_of("bert", texts=("a", "b")).eval()
    both = {"a": text([4, 4]), "b": text([5, 5], seed=3)}
    before = trunk.embed(both, 2).values
    trunk.embed(both, 2).values.square().sum().backward()
    assert (trunk.facet.weight.grad.abs().sum(1) > 0).all()
    with torch.no_grad():
        trunk.facet.weight[1] = 1.0
    moved = (trunk.embed(both, 2).values - before).abs().sum(-1)[0] > 0
    assert moved.tolist() == [False] * 6 + [True] * 5 + [False]


@pytest.mark.parametrize(("tune", "learning"), [("full", None), ("frozen", set()), ("top2", {"1", "2"})])
def test_tune_says_what_learns(tune, learning):
    trunk = trunk_of("bert", tune=tune).train()
    named = [name.split(".") for name, p in trunk.named_parameters() if p.requires_grad]
    if learning is None:
        assert len(named) == len(list(trunk.parameters()))
        return
    assert {parts[3] for parts in named} == learning
    dropouts = {name: m.training for name, m in trunk.model.named_modules() if isinstance(m, torch.nn.Dropout)}
    assert dropouts
    for name, training in dropouts.items():
        assert training == any(f"layer.{index}." in name for index in learning)


def test_more_layers_than_there_are():
    with pytest.raises(RecipeError, match=r"'top9' needs 9 layers.*shows 3"):
        trunk_of("bert", tune="top9")


def test_positions_of_roberta_start_at_two():
    trunk = trunk_of("roberta")
    assert trunk.max_length == 254
