"""Multilabel classification: any number of labels per row, each true, false or unknown."""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Le, Lt
from torch import Tensor
from torch.nn import functional

from mmbert.contracts import Processor, Task
from mmbert.errors import DataError, SampleError
from mmbert.layers.head import build_head
from mmbert.preprocessing.labels import UNSEEN, Label, class_index, to_plain_label, unseen_labels
from mmbert.types import AdditiveScore, Fused, RankedValues


class MultilabelLabel(Processor):
    """The labels of a row: a list of the true labels, or a mapping label -> true, false or None (unknown).

    A label that a list does not name is false; a label that a mapping does not name is unknown and ignored. Several
    columns of 0 and 1 (``column: [red, round]``) are a mapping. The labels are those of the training split, sorted.
    ``unseen`` counts the true labels that the training split does not have. A row without any known or unseen label
    counts as absent.

    Args:
        delimiter: the text between labels in a cell that holds several ("red, round"); empty: cells hold none.

    Raises:
        SampleError: on what is neither a list nor a mapping of labels.
        DataError: where the training split has no labels.

    Example:
        >>> labels = MultilabelLabel()
        >>> labels.fit([["red", "round"], ["sweet"]])
        >>> labels({"red": True, "sweet": False})
        {'target': tensor([1., 0., 0.]), 'known': tensor([ True, False,  True]), 'unseen': tensor(0)}
    """

    delimiter: str = ""  # of checkpoints from before there was this option

    def __init__(self, *, delimiter: str = "") -> None:
        self.delimiter = delimiter
        self.classes: list[Label] = []
        self.positives: list[int] = []  # number of training rows in which each label is true
        self.negatives: list[int] = []  # number of training rows in which it is false

    def fit(self, values: Iterable[Any]) -> None:
        true, false, listed, lists = Counter(), Counter(), Counter(), 0
        for value in values:
            truths = _truths(value, self.delimiter)
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
        unseen = 0
        for label, truth in _truths(value, self.delimiter).items():
            index = class_index(label, self.classes)
            if index == UNSEEN:
                unseen += truth is True
                continue
            target[index] = float(truth is True)
            known[index] = truth is not None
        return {"target": target, "known": known, "unseen": torch.tensor(unseen)} if known.any() or unseen else {}

    def unseen(self, value: Any) -> Collection[Label]:
        return unseen_labels((label for label, truth in _truths(value, self.delimiter).items() if truth), self.classes)

    @classmethod
    def example(cls, rng: np.random.Generator) -> list[str]:
        return [name for name in ("red", "round", "sweet") if rng.random() < 0.5]


def _truths(value: Any, delimiter: str) -> dict[Label, bool | None]:
    """The labels that a raw value lists, each true, false or None (unknown)."""
    if delimiter and not isinstance(value, Mapping) and np.ndim(value) == 0 and not isinstance(value, set | frozenset):
        words = [word.strip() for word in value.split(delimiter)] if isinstance(value, str) else [value]
        value = [word for word in words if word != ""]
    if isinstance(value, list | tuple | set | frozenset | np.ndarray):
        return {to_plain_label(label): True for label in value}
    if not isinstance(value, Mapping):
        hint = ""
        if isinstance(value, str):
            hint = (
                ". JSON Lines and Parquet hold lists; the option 'delimiter' of the task splits text (delimiter: ',')"
            )
        expected = "expected a list of labels or a mapping label -> true, false or None"
        raise SampleError(f"{expected}, found {value!r:.60}{hint}")
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

    A true label that the training split does not have is missed by every prediction: it lowers micro_f1 and average
    precision, and together all such labels are one more label of macro_f1, whose F1 is 0. It has no loss.

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
        - ``unseen``: [rows] int64, true labels that the training split does not have
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

        probability, true, known = _stack(predictions, targets)
        cases = true[known].sum()  # without any, average precision is undefined
        precision = float(average_precision_score(true[known], probability[known])) if cases else 0.0
        counts, unseen = self._counts(predictions, targets).sum(0), _unseen(targets).sum()
        return {
            "micro_f1": float(_f1("micro_f1", counts)),
            "macro_f1": float(_f1("macro_f1", counts)),
            "average_precision": precision * float(cases / (cases + unseen)) if cases else 0.0,  # unseen: never found
        }

    def additive(
        self,
        metric: str,
        predictions: Sequence[Tensor],
        targets: Sequence[Mapping[str, Tensor]],
        group: Tensor,
    ) -> AdditiveScore | None:
        if metric == "average_precision":  # of ranks among all rows
            return None
        rows = self._counts(predictions, targets)
        sums = rows.new_zeros(int(group.max()) + 1, *rows.shape[1:]).index_add(0, group, rows)
        return AdditiveScore(
            sums.flatten(1), lambda sums: _f1(metric, sums.unflatten(-1, (2, -1))), (*self.labels.classes,)
        )

    def ranked(
        self, metric: str, predictions: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]]
    ) -> RankedValues | None:
        if metric != "average_precision":
            return None
        probability, true, known = _stack(predictions, targets)
        return RankedValues(probability[known], true[known], known.nonzero()[:, 0], _unseen(targets))

    def _counts(self, predictions: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]]) -> Tensor:
        """Hits, and true and guessed cases, of each label and of all unseen ones; [rows, 2, labels + 1] float64."""
        probability, true, known = _stack(predictions, targets)
        guess = (probability > 0.5) & known
        true, unseen = true & known, _unseen(targets)[:, None].double()
        hits, cases = (true & guess).double(), true.double() + guess.double()
        return torch.stack([torch.cat([hits, torch.zeros_like(unseen)], 1), torch.cat([cases, unseen], 1)], 1)


def _stack(predictions: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
    """Probabilities, and which labels are true and which are known, [rows, labels] each."""
    known = torch.stack([item["known"] for item in targets]).cpu()
    true = torch.stack([item["target"] for item in targets]).cpu() > 0.5
    return torch.stack(tuple(predictions)).detach().cpu(), true, known


def _unseen(targets: Sequence[Mapping[str, Tensor]]) -> Tensor:
    """The number of unseen labels of each row; runs of before they were counted have none."""
    return torch.tensor([int(item["unseen"]) if "unseen" in item else 0 for item in targets])


def _f1(metric: str, counts: Tensor) -> Tensor:
    """F1 of counts [..., 2, labels + 1]; a label without any case has 0, except the last, which then does not count."""
    hits, cases = counts.unbind(-2)
    if metric == "micro_f1":
        return 2 * hits.sum(-1) / cases.sum(-1).clamp(min=1)
    return (2 * hits / cases.clamp(min=1)).sum(-1) / (hits.shape[-1] - 1 + (cases[..., -1] > 0))
