"""Tests of the token store: stored tokens equal computed ones and depend only on the sequence of ids."""

import numpy as np
import pytest
import torch
from transformers import AutoModel, BertConfig, DistilBertConfig, ModernBertConfig, RobertaConfig

from mmbert.layers.dropout import set_dropout
from mmbert.trunk import store as module
from mmbert.trunk.huggingface import HuggingFaceTrunk
from mmbert.trunk.store import Sequences, TokenStore
from mmbert.trunk.vocabulary import Vocabulary
from mmbert.types import Present

SMALL = {"vocab_size": 50, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24}
CONFIGS = {
    "bert": BertConfig(**SMALL, num_hidden_layers=3),
    "roberta": RobertaConfig(**SMALL, num_hidden_layers=3, pad_token_id=1),
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
    "distilbert": DistilBertConfig(vocab_size=50, dim=16, n_heads=2, hidden_dim=24, n_layers=2),
}
LENGTHS = [1, 40, 40, 7, 12]


def trunk_of(kind, tune, packing=True):
    torch.manual_seed(0)
    kwargs = {"add_pooling_layer": False} if kind in ("bert", "roberta") else {}
    model = AutoModel.from_config(CONFIGS[kind], **kwargs)
    vocabulary = Vocabulary("", cls=3, sep=4, pad=1, size=50)
    return HuggingFaceTrunk(model, vocabulary, ("name",), tune=tune, packing=packing).double().train()


def texts(seed=0, width=None):
    """A text for each row except the last; it does not depend on the width of the padding."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(width or max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    tokens = torch.ones(mask.shape, dtype=torch.int64)
    tokens[mask] = torch.randint(5, 50, (sum(LENGTHS),), generator=generator)
    unit = torch.arange(mask.shape[1]).expand_as(mask).masked_fill(~mask, -1)
    return {"name": Present(torch.arange(len(LENGTHS)), {"tokens": tokens, "mask": mask, "unit": unit})}


def collected(trunk, *batches):
    return Sequences.collect(trunk.build_sequences(batch, len(LENGTHS) + 1)[::2] for batch in batches)


def stored(trunk, folder, sequences, kind="float64"):
    folder.mkdir(exist_ok=True)
    fractions = []
    TokenStore.write(folder, sequences, trunk.run_frozen_layers, trunk.dim, np.dtype(kind), fractions.append)
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    return TokenStore(folder)


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize(
    ("kind", "tune"),
    [
        *((kind, "frozen") for kind in CONFIGS),
        *((kind, f"top{layers}") for kind in ("bert", "roberta", "modernbert") for layers in (1, 3)),
    ],
)
def test_stored_and_computed_tokens_are_equal(kind, tune, packing, tmp_path):
    plain, trunk = trunk_of(kind, tune, packing), trunk_of(kind, tune, packing)
    for model in (plain, trunk):
        set_dropout(model, 0.0)
    trunk.store = stored(trunk, tmp_path, collected(trunk, texts()))
    for batch, known in ((texts(), 6), (texts(seed=1), 1)):  # of the second batch only the row without text is stored
        ids, _, mask = trunk.build_sequences(batch, 6)
        assert trunk.store.read(ids, mask)[1].sum() == known
        actual, expected = (model(model.embed(batch, 6)) for model in (trunk, plain))
        torch.testing.assert_close(actual.values, expected.values, rtol=1e-9, atol=1e-9)
        assert torch.equal(actual.mask, expected.mask)
        assert torch.equal(actual.unit, expected.unit)


def test_the_weights_below_and_above_the_cut_are_all_and_disjoint():
    for tune, layers in (("frozen", 3), ("top1", 2), ("top3", 0)):
        trunk = trunk_of("bert", tune)
        below = trunk.frozen_weights()
        assert trunk.cut == layers
        trains = {name: parameter.requires_grad for name, parameter in trunk.model.named_parameters()}
        assert {name for name in trains if not trains[name]} <= {*below}
        assert not {name for name in trains if trains[name]} & {*below}
    assert trunk_of("bert", "full").cut is None


@pytest.mark.parametrize("budget", [1, 50, 10**6])
def test_each_sequence_is_computed_once_in_batches_of_a_bounded_size(budget, monkeypatch):
    monkeypatch.setattr(module, "TOKENS", budget)
    trunk = trunk_of("bert", "frozen")
    sequences = collected(trunk, texts(), texts(width=60), texts(seed=1), {})
    assert len(sequences.digests) == 11  # two batches of five texts, and a row without
    assert list(sequences.digests) == sorted(sequences.digests)
    seen, lengths = [], []
    for rows, ids, mask in sequences.batches():
        assert mask.sum() <= budget or len(rows) == 1
        assert {tuple(row[real].tolist()) for row, real in zip(ids, mask, strict=True)}
        assert np.array_equal(module._digests(ids, mask), sequences.digests[rows])
        seen += rows.tolist()
        lengths += mask.sum(1).tolist()
    assert sorted(seen) == list(range(11))
    assert lengths == sorted(lengths)
    assert sum(lengths) == sequences.tokens


def test_padding_is_no_part_of_the_content_and_single_precision_is_kept(tmp_path):
    trunk = trunk_of("bert", "top1").float()
    store = stored(trunk, tmp_path, collected(trunk, texts()), "float32")
    (narrow, _, short), (wide, _, long) = (
        trunk.build_sequences(texts(), 6),
        tuple(torch.nn.functional.pad(tensor, (0, 9)) for tensor in trunk.build_sequences(texts(), 6)),
    )
    (narrow_values, narrow_stored), (wide_values, wide_stored) = store.read(narrow, short), store.read(wide, long)
    assert narrow_values.dtype == torch.float32
    assert narrow_stored.all()
    assert wide_stored.all()
    assert torch.equal(torch.nn.functional.pad(narrow_values, (0, 0, 0, 9)), wide_values)
    assert (narrow_values[~short] == 0).all()
