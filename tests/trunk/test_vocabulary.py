"""Tests of train_vocabulary: the result does not depend on the run, the process or the order of the texts."""

import numpy as np
from tokenizers import Tokenizer

from mmbert.trunk.vocabulary import SPECIAL, train_vocabulary

RNG = np.random.default_rng(0)
WORDS = ["".join(RNG.choice([*"abcdefghij"], size=RNG.integers(2, 7))) for _ in range(400)]
TEXTS = [" ".join(RNG.choice(WORDS, size=8)) for _ in range(200)]  # many pairs are equally frequent


def test_the_same_texts_give_the_same_vocabulary_in_any_order():
    first = train_vocabulary(TEXTS, 200)
    assert first.size == 200
    for texts in (TEXTS, TEXTS[::-1], sorted(TEXTS), (text.split() for text in TEXTS)):
        assert train_vocabulary(texts, 200) == first


def test_special_tokens_come_first_and_words_are_cut_into_known_pieces():
    vocabulary = train_vocabulary(["Where ARE all the pears?", "Über die pears"], 120)
    tokenizer = Tokenizer.from_str(vocabulary.tokenizer)
    assert [tokenizer.id_to_token(index) for index in range(5)] == list(SPECIAL)
    special = [vocabulary.pad, vocabulary.cls, vocabulary.sep]
    assert special == [tokenizer.token_to_id(token) for token in ("[PAD]", "[CLS]", "[SEP]")]
    assert tokenizer.get_vocab_size() == vocabulary.size <= 120
    pieces = tokenizer.encode("pears uber?", add_special_tokens=False).tokens
    assert "".join(piece.removeprefix("##") for piece in pieces) == "pearsuber?"
    assert "pears" in pieces  # frequent enough to be one piece
    assert tokenizer.encode("\u4e2d", add_special_tokens=False).tokens == ["[UNK]"]
    assert tokenizer.encode("##a [CLS]", add_special_tokens=False).tokens[-1] == "[CLS]"


def test_continuations_that_start_no_word_are_in_it():
    pieces = Tokenizer.from_str(train_vocabulary(["ab ac"], 100).tokenizer).get_vocab()
    assert {"a", "##b", "##c", "ab", "ac"} <= pieces.keys()
    assert "##a" not in pieces
