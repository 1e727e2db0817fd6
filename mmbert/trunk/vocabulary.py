"""The vocabulary that all texts of a model share: a fast tokenizer as a string, and its special tokens."""

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
    """A tokenizer, as the JSON of the ``tokenizers`` library, with the ids of the tokens that the trunk adds."""

    tokenizer: str
    cls: int
    sep: int
    pad: int
    size: int


def load_vocabulary(folder: str | Path) -> Vocabulary:
    """The vocabulary of a checkpoint.

    Args:
        folder: a folder or a hub name.

    Raises:
        RecipeError: where it has no fast tokenizer, or that has no special tokens to begin and end a text with.
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

    The result depends on the words and their counts alone: not on the order of the texts, the run or the process.

    Args:
        texts: texts or lists of words. They are iterated twice, and not kept unless they can be iterated only once.
        size: the most entries that the vocabulary may have.

    Raises:
        SampleError: where one of the texts is neither a text nor a list of words.

    Reference:
        Wu et al. 2016, Google's Neural Machine Translation System.
    """
    texts = list(texts) if iter(texts) is texts else texts
    learner = _word_pieces(models.WordPiece(unk_token="[UNK]"))
    # the library numbers the continuations of words in another order each time, and ties are broken by number
    first = [*SPECIAL, *(f"##{letter}" for letter in _continuing(learner, _plain(texts)))]
    trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=first, show_progress=False)
    learner.train_from_iterator(_plain(texts), trainer)
    tokenizer = _word_pieces(models.WordPiece(learner.get_vocab(), unk_token="[UNK]"))
    tokenizer.add_special_tokens(list(SPECIAL))
    pad, _, cls, sep, _ = (cast(int, tokenizer.token_to_id(token)) for token in SPECIAL)
    return Vocabulary(tokenizer.to_str(), cls=cls, sep=sep, pad=pad, size=tokenizer.get_vocab_size())


def check_text(value: Any) -> str | list[str]:
    """A raw value that is a text or a list of words.

    Args:
        value: anything that a source gives.

    Raises:
        SampleError: where it is neither.
    """
    if isinstance(value, str):
        return value
    listed = isinstance(value, list | tuple | np.ndarray)  # an array is what a data frame of lists holds
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
    """The letters, sorted, that stand anywhere in a word but at its start."""
    letters: set[str] = set()
    for text in texts:
        for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(text)):
            letters.update(word[1:])
    return sorted(letters)


def _first(*candidates: int | None) -> int:
    found = [candidate for candidate in candidates if candidate is not None]
    if not found:
        raise RecipeError("the tokenizer of trunk.checkpoint has neither the special tokens of BERT nor <s> and </s>")
    return found[0]
