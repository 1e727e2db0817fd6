"""Multilabel classification: any number of labels per row, each true, false or unknown."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Le, Lt
from torch import Tensor
from torch.nn import functional

from mmbert.contracts import Processor, Task
from mmbert.errors import DataError, SampleError
from mmbert.layers.head import build_head
from mmbert.preprocessing.labels import Label, class_index, to_plain_label
from mmbert.types import Fused


class MultilabelLabel(Processor):
    """The labels of a row: a list of the true labels, or a mapping label -> true, false or None (unknown).

    Labels that are not in a list are false; labels that are not in a mapping are unknown and ignored. The classes are
    the sorted labels of the training split. A row without known labels is treated as absent.

    Raises:
        SampleError: if a label does not occur in the training split.
        DataError: if the training split has no labels.

    Example:
        >>> labels = MultilabelLabel()
        >>> labels.fit([["red", "round"], ["sweet"]])
        >>> labels({"red": True, "sweet": False})
        {'target': tensor([1., 0., 0.]), 'known': tensor([ True, False,  True])}
    """

    def __init__(self) -> None:
        self.classes: list[Label] = []
        self.positives: list[int] = []  # number of training rows in which each label is true
        self.negatives: list[int] = []  # number of training rows in which it is false

    def fit(self, values: Iterable[Any]) -> None:
        true, false, listed, lists = Counter(), Counter(), Counter(), 0
        for value in values:
            truths = _truths(value)
            if not isinstance(value, Mapping):
                lists += 1
                listed.update(truths)
            true.update({label: int(truth is True) for label, truth in truths.items()})
            false.update({label: int(truth is False) for label, truth in truths.items()})
        self.classes = sorted(true, key=lambda label: (isinstance(label, str), label))
        if not self.classes:
            raise DataError("expected at least one label in the training split, found none")
        self.positives = [true[label] for label in self.classes]
        self.negatives = [false[label] + lists - listed[label] for label in self.classes]

    def __call__(self, value: Any, rng: np.random.Generator | None = None) -> dict[str, Tensor]:
        target = torch.zeros(len(self.classes))
        known = torch.full((len(self.classes),), not isinstance(value, Mapping))
        for label, truth in _truths(value).items():
            index = class_index(label, self.classes)
            target[index] = float(truth is True)
            known[index] = truth is not None
        return {"target": target, "known": known} if known.any() else {}

    @classmethod
    def example(cls, rng: np.random.Generator) -> list[str]:
        return [name for name in ("red", "round", "sweet") if rng.random() < 0.5]


def _truths(value: Any) -> dict[Label, bool | None]:
    """The labels that a raw value lists, each true, false or None (unknown)."""
    if isinstance(value, list | tuple | set | frozenset | np.ndarray):
        return {to_plain_label(label): True for label in value}
    if not isinstance(value, Mapping):
        raise SampleError(f"expected a list of labels or a mapping label -> true, false or None, found {value!r}")
    return {to_plain_label(label): _truth(label, truth) for label, truth in value.items()}


def _truth(label: Any, truth: Any) -> bool | None:
    truth = truth.item() if isinstance(truth, np.generic) else truth
    if truth is None or truth != truth:  # NaN: unknown
        return None
    if truth not in (0, 1):
        raise SampleError(f"expected true, false or None for the label {label!r}, found {truth!r}")
    return bool(truth)


class Multilabel(Task):
    """Multilabel classification with binary cross-entropy over the known labels, divided by log 2.

    Metrics over known labels: micro_f1 and macro_f1 at .5, average_precision (micro). A decoded prediction is the list
    of labels above .5.

    Args:
        dim: width of the fused vectors.
        processor: the label processor, fitted on the training split.
        weight: weight of the loss in the sum over tasks.
        hidden: width of a hidden layer of the head; 0 for none.
        dropout: dropout rate of the head.
        positive_weight: exponent of the weight (negatives / positives in the training split) of a label's positive
            cases. 0: all cases have the same weight; 1: positive and negative cases have the same total weight; values
            in between predict rare labels more often than their odds, which raises F1.

    Shape:
        - output: [rows, labels] logits
        - ``target``: [rows, labels] 0 or 1
        - ``known``: [rows, labels] bool
        - ``predict``: [rows, labels] probabilities
    """

    processor = MultilabelLabel
    metrics = ("micro_f1", "macro_f1", "average_precision")
    baseline = "multilabel"

    def __init__(
        self,
        dim: int,
        processor: MultilabelLabel,
        *,
        weight: Annotated[float, Ge(0)] = 1.0,
        hidden: Annotated[int, Ge(0)] = 0,
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.1,
        positive_weight: Annotated[float, Ge(0), Le(1)] = 0.0,
    ):
        super().__init__()
        self.weight = weight
        self.labels = processor
        # clamped to half a case, so that the odds of labels that are always or never true are finite
        positives = torch.tensor(processor.positives, dtype=torch.float64).clamp(min=0.5)
        negatives = torch.tensor(processor.negatives, dtype=torch.float64).clamp(min=0.5)
        factor = (negatives / positives) ** positive_weight
        prior = (factor * positives / negatives).log()
        self.register_buffer("prior", prior.float(), persistent=False)  # logits of the best constant predictor
        self.register_buffer("factor", factor.float() if positive_weight else None, persistent=False)
        self.prior: Tensor
        self.factor: Tensor | None
        self.head = build_head(dim, self.prior, hidden=hidden, dropout=dropout)

    def forward(self, fused: Fused) -> Tensor:
        return self.head(fused.summary)

    def constant(self, fused: Fused) -> Tensor:
        return self.prior.to(fused.summary.dtype).expand(len(fused.summary), -1)

    def count(self, targets: Mapping[str, Tensor]) -> int:
        return int(targets["known"].sum())

    def loss(self, output: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        target = targets["target"].to(output.dtype)
        each = functional.binary_cross_entropy_with_logits(output, target, reduction="none", pos_weight=self.factor)
        return torch.where(targets["known"], each, 0.0).sum() / math.log(2)

    def likelihood(self, output: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        of_true = torch.where(targets["target"] > 0.5, output, -output).sigmoid()
        return torch.where(targets["known"], of_true, 0.0).sum()

    def predict(self, output: Tensor) -> Tensor:
        return output.sigmoid()

    def decode(self, prediction: Tensor) -> list[Label]:
        return [self.labels.classes[index] for index in (prediction > 0.5).nonzero().flatten().tolist()]

    def score(self, predictions: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]]) -> dict[str, float]:
        from sklearn.metrics import average_precision_score  # slow to import

        probability = torch.stack(tuple(predictions)).detach().cpu()
        known = torch.stack([item["known"] for item in targets]).cpu()
        true = torch.stack([item["target"] for item in targets]).cpu() > 0.5
        guess = probability > 0.5
        hits = (true & guess & known).sum(0).double()
        named = ((true & known).sum(0) + (guess & known).sum(0)).double()
        any_true = bool((true & known).any())  # average precision is undefined without true labels
        precision = average_precision_score(true[known], probability[known]) if any_true else 0.0
        return {  # F1 is 0 for a label without true cases and guesses
            "micro_f1": float(2 * hits.sum() / named.sum().clamp(min=1)),
            "macro_f1": float((2 * hits / named.clamp(min=1)).mean()),
            "average_precision": float(precision),
        }
