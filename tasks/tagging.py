"""Tagging: one tag for each unit (word, node, step, cell) of a stream."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Lt
from einops import rearrange
from torch import Tensor
from torch.nn import functional

from mmbert.contracts import Processor, Task
from mmbert.errors import RecipeError, SampleError, nearest
from mmbert.layers.head import build_head
from mmbert.layers.masked import pad_and_stack, zero_masked
from mmbert.preprocessing.labels import UNSEEN, Label, class_index, count_classes, unseen_labels
from mmbert.types import AdditiveScore, Fused, Tokens

IGNORED = -100  # the target of a unit without a label
NONE = -1  # the predicted tag after the last unit of a row
UNKNOWN = "B-\0"  # the name of a tag that training did not have: a span of its own, which no prediction can hit


class TaggingLabel(Processor):
    """The tags of a row, one per unit in order; units with None have no label and are ignored.

    A row without any label counts as absent. A tag that the training split does not have is ``UNSEEN``.

    Raises:
        SampleError: on what is no list of tags.
        DataError: where the training split has fewer than two tags.

    Example:
        >>> tags = TaggingLabel()
        >>> tags.fit([["noun", "verb"]])
        >>> tags(["verb", None, "noun"])
        {'target': tensor([   1, -100,    0])}
    """

    one_per_unit = True

    def __init__(self) -> None:
        self.classes: list[Label] = []
        self.counts: list[int] = []

    def fit(self, values: Iterable[Any]) -> None:
        self.classes, self.counts = count_classes(tag for value in values for tag in _tags(value) if tag is not None)

    def __call__(self, value: Any, rng: np.random.Generator | None = None) -> dict[str, Tensor]:
        indices = [IGNORED if tag is None else class_index(tag, self.classes) for tag in _tags(value)]
        return {"target": torch.tensor(indices)} if any(index != IGNORED for index in indices) else {}

    def unseen(self, value: Any) -> Collection[Label]:
        return unseen_labels((tag for tag in _tags(value) if tag is not None), self.classes)

    def collate(self, items: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        return {"target": pad_and_stack([item["target"] for item in items], IGNORED)}

    @classmethod
    def example(cls, rng: np.random.Generator) -> list[str]:
        return [["noun", "verb", "other"][index] for index in rng.integers(3, size=rng.integers(1, 6))]


def _tags(value: Any) -> list[Any]:
    if not isinstance(value, list | tuple | np.ndarray):
        raise SampleError(f"expected a list of tags, one per unit, found {value!r}")
    return [None if isinstance(tag, float) and math.isnan(tag) else tag for tag in value]


class Tagging(Task):
    """Tagging with cross-entropy over K tags per labelled unit, divided by log K.

    The vector of a unit is the mean of its real tokens; a unit without tokens (truncated, or empty) is a zero vector.
    Metrics: span_f1 (micro, see ``spans``) and accuracy per unit. Labelled units that were truncated count as wrong.
    So do those whose tag the training split does not have; they have no loss. A decoded prediction is the list of tags.

    Args:
        dim: width of the fused vectors.
        processor: the label processor, fitted on the training split.
        weight: weight of the loss in the sum over tasks.
        of: name of the stream whose units are tagged.
        hidden: width of a hidden layer of the head; 0 for none.
        dropout: dropout rate of the head.

    Raises:
        RecipeError: if the model has no such stream.

    Shape:
        - output: [rows, units + 1, tags + 1]. The last unit is empty; its logits are used for all further units. The
          last channel is 1 for the units of a row and 0 after its last.
        - ``target``: [rows, units] int64, -100 for units without a label; its length may differ from the output's
        - ``predict``: [rows, units + 1] index of the tag, -1 after the last unit
    """

    processor = TaggingLabel
    metrics = ("span_f1", "accuracy")

    def __init__(
        self,
        dim: int,
        processor: TaggingLabel,
        *,
        weight: Annotated[float, Ge(0)] = 1.0,
        of: str = "text",
        hidden: Annotated[int, Ge(0)] = 0,
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.1,
    ):
        super().__init__()
        self.weight = weight
        self.of = of
        self.labels = processor
        counts = torch.tensor(processor.counts, dtype=torch.float64)
        self.register_buffer("prior", (counts / counts.sum()).log().float(), persistent=False)
        self.prior: Tensor
        self.head = build_head(dim, self.prior, hidden=hidden, dropout=dropout)

    def forward(self, fused: Fused) -> Tensor:
        vectors, real = pool_units(self._stream(fused))
        logits = self.head(vectors)
        return torch.cat([logits, real[..., None].to(logits.dtype)], -1)

    def constant(self, fused: Fused) -> Tensor:
        vectors, real = pool_units(self._stream(fused))
        logits = self.prior.to(vectors.dtype).expand(*real.shape, -1)
        return torch.cat([logits, real[..., None].to(logits.dtype)], -1)

    def count(self, targets: Mapping[str, Tensor]) -> int:
        return int(((targets["target"] != IGNORED) & (targets["target"] != UNSEEN)).sum())

    def loss(self, output: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        logits, target = output[..., :-1], targets["target"]
        units = target.shape[1]
        empty = logits[:, -1:].expand(-1, max(units - logits.shape[1], 0), -1)
        logits = rearrange(torch.cat([logits[:, :units], empty], 1), "rows units tags -> (rows units) tags")
        target = rearrange(target.masked_fill(target == UNSEEN, IGNORED), "rows units -> (rows units)")
        total = functional.cross_entropy(logits, target, ignore_index=IGNORED, reduction="sum")
        return total / math.log(len(self.labels.classes))

    def predict(self, output: Tensor) -> Tensor:
        return torch.where(output[..., -1] > 0.5, output[..., :-1].argmax(-1), NONE)

    def decode(self, prediction: Tensor) -> list[Label]:
        return [self.labels.classes[index] for index in prediction.tolist() if index != NONE]

    def score(self, predictions: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]]) -> dict[str, float]:
        counts = self._counts(predictions, targets).sum(0)
        return {metric: float(_metric(metric, counts)) for metric in self.metrics}

    def additive(
        self,
        metric: str,
        predictions: Sequence[Tensor],
        targets: Sequence[Mapping[str, Tensor]],
        group: Tensor,
    ) -> AdditiveScore | None:
        rows = self._counts(predictions, targets)
        sums = rows.new_zeros(int(group.max()) + 1, rows.shape[1]).index_add(0, group, rows)
        return AdditiveScore(sums, lambda counts: _metric(metric, counts))

    def _counts(self, predictions: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]]) -> Tensor:
        """Of each row: spans found, spans predicted or true, units right, units with a label; [rows, 4] float64."""
        bio = all(str(tag) == "O" or str(tag).startswith(("B-", "I-")) for tag in self.labels.classes)
        counts = []
        for prediction, item in zip(predictions, targets, strict=True):
            true = item["target"].tolist()
            guess = prediction.tolist()[: len(true)]
            guess += [NONE] * (len(true) - len(guess))
            labelled = [index != IGNORED for index in true]
            right = sum(a == b for a, b in zip(true, guess, strict=True))
            guess = [index if has_label else NONE for index, has_label in zip(guess, labelled, strict=True)]
            in_target, in_guess = spans(self._tag_names(true), bio), spans(self._tag_names(guess), bio)
            counts.append((len(in_target & in_guess), len(in_guess) + len(in_target), right, sum(labelled)))
        return torch.tensor(counts, dtype=torch.float64)

    def _tag_names(self, indices: Sequence[int]) -> list[str | None]:
        names = (str(self.labels.classes[index]) if index >= 0 else None for index in indices)
        return [UNKNOWN if index == UNSEEN else name for index, name in zip(indices, names, strict=True)]

    def _stream(self, fused: Fused) -> Tokens:
        if self.of not in fused.streams:
            hint = nearest(self.of, fused.streams)
            raise RecipeError(f"tagging (of: {self.of}) needs the stream '{self.of}', which does not exist. {hint}")
        return fused.streams[self.of]


def _metric(metric: str, counts: Tensor) -> Tensor:
    """A metric of sums of counts [..., 4]."""
    hits, named, right, units = counts.unbind(-1)
    return 2 * hits / named.clamp(min=1) if metric == "span_f1" else right / units.clamp(min=1)


def pool_units(stream: Tokens) -> tuple[Tensor, Tensor]:
    """Pool tokens to units: the mean of the real tokens of each unit, zero for a unit without tokens.

    Args:
        stream: tokens, values [rows, length, dim].

    Returns:
        Vectors [rows, units + 1, dim], of which the last is an empty unit, and the mask of a row's units, bool
        [rows, units + 1]: True up to the row's last unit with a token.
    """
    rows, dim = stream.values.shape[0], stream.values.shape[-1]
    mask = stream.mask & (stream.unit >= 0)
    # padded with -1 for a stream without tokens
    size = int(functional.pad(stream.unit.masked_fill(~mask, -1).flatten(), (0, 1), value=-1).max()) + 2
    index = stream.unit.masked_fill(~mask, size - 1)  # masked tokens are zero and add nothing to the empty unit
    index = (index + size * torch.arange(rows, device=index.device)[:, None]).flatten()
    values = zero_masked(stream.values, mask)
    total = values.new_zeros(rows * size, dim).index_add(0, index, values.flatten(0, 1))
    tokens = values.new_zeros(rows * size).index_add(0, index, mask.flatten().to(values.dtype))
    vectors = rearrange(total / tokens.clamp(min=1)[:, None], "(rows units) dim -> rows units dim", units=size)
    tokens = rearrange(tokens, "(rows units) -> rows units", units=size)
    return vectors, tokens.flip(1).cumsum(1).flip(1) > 0


def spans(tags: Sequence[str | None], bio: bool) -> set[tuple[int, int, str]]:
    """Extract the spans (start, end, name) of a sequence of tags.

    Args:
        tags: the tags; "O" and None are outside of spans.
        bio: whether tags are B-name and I-name; otherwise a run of equal tags is a span. As in conlleval, an I-name
            that does not continue its span starts one.

    Example:
        >>> sorted(spans(["B-city", "I-city", "B-city", "O"], bio=True))
        [(0, 2, 'city'), (2, 3, 'city')]
        >>> sorted(spans(["city", "city", "O", "street"], bio=False))
        [(0, 2, 'city'), (3, 4, 'street')]
    """
    result, start, inside = set(), 0, None
    for position, tag in enumerate([*tags, None]):
        name = None if tag in (None, "O") else tag[2:] if bio else tag
        if name != inside or (bio and tag is not None and tag.startswith("B-")):
            if inside is not None:
                result.add((start, position, inside))
            start, inside = position, name
    return result
