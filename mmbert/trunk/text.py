"""Text processor: tokenises raw text."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge
from tokenizers import Tokenizer
from torch import Tensor

from mmbert.contracts import Processor
from mmbert.layers.masked import mask_from_lengths, pad_and_stack
from mmbert.preprocessing.synthetic import sentence
from mmbert.trunk.vocabulary import Vocabulary, check_text


class TextProcessor(Processor):
    """Tokenises a text or a list of words; each token carries the index of its word.

    A str is split into words by the tokenizer; a list of words is used as it is, and ``tagging`` labels these words. A
    lone surrogate, which cannot be encoded, becomes U+FFFD. The trunk adds special tokens.

    Args:
        vocabulary: shared by all texts of the model.
        max_length: maximum number of tokens, without special tokens.
        truncation: which end of a longer text remains: ``head`` or ``tail``.

    Raises:
        SampleError: if called with anything but a str or a list of str.

    Shape:
        ``tokens`` and ``unit`` [length] per item; after ``collate`` [present, length], with ``mask``.
    """

    reads_text = True
    example_with_bit = staticmethod(sentence)

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        max_length: Annotated[int, Ge(1)] = 128,
        truncation: Literal["head", "tail"] = "head",
    ):
        self.vocabulary = vars(vocabulary)
        self.max_length = max_length
        self.truncation = truncation
        self._tokenizer = Tokenizer.from_str(vocabulary.tokenizer)

    def __call__(self, value: Any, rng: np.random.Generator | None = None) -> dict[str, Tensor]:
        text = check_text(value)
        clean = _encodable(text) if isinstance(text, str) else [_encodable(word) for word in text]
        encoding = self._tokenizer.encode(clean, is_pretokenized=not isinstance(text, str), add_special_tokens=False)
        part = slice(None, self.max_length) if self.truncation == "head" else slice(-self.max_length, None)
        words = [-1 if word is None else word for word in encoding.word_ids[part]]
        return {
            "tokens": torch.tensor(encoding.ids[part], dtype=torch.int64),
            "unit": torch.tensor(words, dtype=torch.int64),
        }

    def collate(self, items: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        tokens = pad_and_stack([item["tokens"] for item in items], self.vocabulary["pad"])
        lengths = torch.tensor([len(item["tokens"]) for item in items])
        mask = mask_from_lengths(lengths, tokens.shape[1])
        return {"tokens": tokens, "mask": mask, "unit": pad_and_stack([item["unit"] for item in items], -1)}

    @classmethod
    def example(cls, rng: np.random.Generator) -> str:
        words = ["one", "shared", "trunk", "reads", "names", "of", "molecules", "stamps", "sounds", "and", "streets"]
        return " ".join(rng.choice(words, size=int(rng.integers(1, 12))))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_tokenizer"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._tokenizer = Tokenizer.from_str(self.vocabulary["tokenizer"])


def _encodable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
