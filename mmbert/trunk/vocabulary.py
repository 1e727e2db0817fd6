"""Vocabulary shared by all texts of a model: a serialised fast tokenizer and its special tokens."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from mmbert.errors import RecipeError, SampleError

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer as JSON of the ``tokenizers`` library, and the ids of the tokens that the trunk adds."""

    tokenizer: str
    cls: int
    sep: int
    pad: int
    size: int


def load_vocabulary(folder: str | Path) -> Vocabulary:
    """Load the vocabulary of a checkpoint.

    Args:
        folder: a folder or a hub name.

    Raises:
        RecipeError: if it has no fast tokenizer, or no special tokens that start and end a text.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    if not tokenizer.is_fast:
        raise RecipeError(f"trunk.checkpoint '{folder}' must have a fast tokenizer (tokenizer.json); it has none")
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    return Vocabulary(
        backend.to_str(),
        cls=_first(tokenizer.cls_token_id, tokenizer.bos_token_id),
        sep=_first(tokenizer.sep_token_id, tokenizer.eos_token_id),
        pad=_first(tokenizer.pad_token_id, 0),
        size=len(tokenizer),
    )


def train_vocabulary(texts: Iterable[str | list[str]], size: int) -> Vocabulary:
    """Learn a lower-case WordPiece vocabulary from training texts.

    The result depends only on the words and their counts, not on the order of the texts, the run or the process.

    Args:
        texts: texts or lists of words. They are iterated twice; a one-shot iterator is copied to a list first.
        size: maximum number of entries of the vocabulary.

    Raises:
        SampleError: if a value is neither a text nor a list of words.

    Reference:
        Wu et al. 2016, Google's Neural Machine Translation System.
    """
    texts = list(texts) if iter(texts) is texts else texts
    learner = _word_pieces(models.WordPiece(unk_token="[UNK]"))
    # the library numbers continuation tokens in random order and breaks ties by number: fix the order here
    first = [*SPECIAL, *(f"##{letter}" for letter in _continuing(learner, _plain(texts)))]
    trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=first, show_progress=False)
    learner.train_from_iterator(_plain(texts), trainer)
    tokenizer = _word_pieces(models.WordPiece(learner.get_vocab(), unk_token="[UNK]"))
    tokenizer.add_special_tokens(list(SPECIAL))
    pad, _, cls, sep, _ = (cast(int, tokenizer.token_to_id(token)) for token in SPECIAL)
    return Vocabulary(tokenizer.to_str(), cls=cls, sep=sep, pad=pad, size=tokenizer.get_vocab_size())


def check_text(value: Any) -> str | list[str]:
    """Check that a raw value is a text or a list of words.

    Args:
        value: any raw value.

    Raises:
        SampleError: if it is neither.
    """
    if isinstance(value, str):
        return value
    listed = isinstance(value, list | tuple | np.ndarray)  # data frames of lists hold arrays
    if listed and all(isinstance(word, str) for word in value):
        return list(value)
    raise SampleError(f"expected a text or a list of words, found {type(value).__name__}: {str(value)[:40]!r}")


def _plain(texts: Iterable[Any]) -> Iterator[str]:
    return (text if isinstance(text, str) else " ".join(text) for text in map(check_text, texts))


def _word_pieces(model: models.WordPiece) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def _continuing(tokenizer: Tokenizer, texts: Iterable[str]) -> list[str]:
    """The sorted letters that occur in a word after its first letter."""
    letters: set[str] = set()
    for text in texts:
        for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(text)):
            letters.update(word[1:])
    return sorted(letters)


def _first(*candidates: int | None) -> int:
    ids = [candidate for candidate in candidates if candidate is not None]
    if not ids:
        raise RecipeError("the tokenizer of trunk.checkpoint has neither the special tokens of BERT nor <s> and </s>")
    return ids[0]
