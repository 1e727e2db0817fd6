"""Tests of the text processor: any text is tokenised, long texts are truncated, other values are refused."""

import time

import numpy as np
import pytest

from mmbert.errors import SampleError
from mmbert.trunk.text import TextProcessor
from mmbert.trunk.vocabulary import train_vocabulary

VOCABULARY = train_vocabulary(["one shared trunk reads the names of molecules"] * 3, 120)


def processor(**options):
    return TextProcessor(VOCABULARY, **options)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("   ", id="spaces"),
        pytest.param("\t\n", id="blanks"),
        pytest.param("x" * 1_000_000, id="1 MB word"),
        pytest.param("😀 one", id="emoji"),
        pytest.param("👩‍👩‍👧 trunk", id="joined emoji"),
        pytest.param("שלום עולם", id="Hebrew"),
        pytest.param("مرحبا", id="Arabic"),
        pytest.param("one\0trunk", id="NUL"),
        pytest.param("\ud800 one", id="lone surrogate"),
        pytest.param("\ufeffone", id="byte order mark"),
        pytest.param("e\u0301", id="combining"),
        pytest.param("\u202eone", id="override"),
        pytest.param("一二三", id="Chinese"),
        pytest.param("one " * 100_000, id="100,000 tokens"),
    ],
)
def test_any_text_gives_tokens_of_the_vocabulary(text):
    start = time.process_time()
    item = processor(max_length=16)(text)
    assert time.process_time() - start < 3
    tokens, unit = item["tokens"], item["unit"]
    assert tokens.shape == unit.shape
    assert len(tokens) <= 16
    assert ((tokens >= 0) & (tokens < VOCABULARY.size)).all()
    batch = processor().collate([item, processor()("one trunk")])
    assert batch["tokens"].shape == batch["mask"].shape
    assert batch["mask"][0].sum() == len(tokens)


def test_a_long_text_is_cut_at_the_end_or_at_the_beginning():
    text = " ".join(["one", *["shared"] * 100_000, "trunk"])
    whole = processor(max_length=200_000)(text)["tokens"]
    assert len(whole) > 100_000
    assert processor(max_length=8)(text)["tokens"].equal(whole[:8])
    assert processor(max_length=8, truncation="tail")(text)["tokens"].equal(whole[-8:])


def test_half_of_a_surrogate_pair_is_the_replacement_character():
    assert processor()("one \ud800")["tokens"].equal(processor()("one \ufffd")["tokens"])


@pytest.mark.parametrize(
    "value", [None, 3, 2.5, True, b"one", ["one", 2], [None], {"one": 1}, np.array([1.0]), object()]
)
def test_what_is_no_text_is_refused_with_what_was_found(value):
    with pytest.raises(SampleError, match="expected a text or a list of words, found"):
        processor()(value)


def test_words_keep_their_numbers():
    units = processor()(["one", "", "molecules", "\0"])["unit"].tolist()
    assert units == sorted(units)
    assert {0, 2} <= {*units} <= {0, 1, 2, 3}
