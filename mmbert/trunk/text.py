"""The text processor: raw text to token ids."""

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
    """Text, or a list of words, as token ids with the word that each belongs to.

    A str is split into words by the tokenizer; a list of words is taken as it is, and is what ``tagging`` labels. Half
    of a surrogate pair, which no encoding can carry, is read as U+FFFD. Special tokens are added by the trunk.

    Args:
        vocabulary: shared by all texts of the model.
        max_length: tokens kept, without special tokens.
        truncation: which end of a longer text is kept: ``head`` or ``tail``.

    Raises:
        SampleError: when called on anything but a str or a list of str.

    Shape:
        ``tokens`` and ``unit`` [length] an item; with ``mask`` [present, length] together.
    """

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
        keep = slice(None, self.max_length) if self.truncation == "head" else slice(-self.max_length, None)
        words = [-1 if word is None else word for word in encoding.word_ids[keep]]
        return {
            "tokens": torch.tensor(encoding.ids[keep], dtype=torch.int64),
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
