"""Classification: one label per row, from the classes of the training split."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Lt
from torch import Tensor
from torch.nn import functional

from mmbert.contracts import Processor, Task
from mmbert.layers.head import build_head
from mmbert.preprocessing.labels import UNSEEN, Label, class_index, count_classes, unseen_labels
from mmbert.types import AdditiveScore, Fused

LEAST = 1e-12  # probability that is scored: a certain mistake costs 27.6 nats, not infinity


class ClassificationLabel(Processor):
    """A label (a string, an integer or a boolean) as the index of its class; ``UNSEEN`` if training does not have it.

    Raises:
        SampleError: on what is no label.
        DataError: where the training split has fewer than two classes.

    Example:
        >>> label = ClassificationLabel()
        >>> label.fit(["pear", "apple", "pear"])
        >>> label("pear")
        {'target': tensor(1)}
    """

    def __init__(self) -> None:
        self.classes: list[Label] = []
        self.counts: list[int] = []

    def fit(self, values: Iterable[Any]) -> None:
        self.classes, self.counts = count_classes(values)

    def __call__(self, value: Any, rng: np.random.Generator | None = None) -> dict[str, Tensor]:
        return {"target": torch.tensor(class_index(value, self.classes))}

    def unseen(self, value: Any) -> Collection[Label]:
        return unseen_labels([value], self.classes)

    @classmethod
    def example(cls, rng: np.random.Generator) -> str:
        return ["apple", "pear", "plum"][rng.integers(3)]


class Classification(Task):
    """Classification with cross-entropy over K classes, divided by log K.

    Metrics: accuracy, macro_f1 (over the classes that occur), log_loss (nats). A decoded prediction is the most
    probable label with its probability.

    A label that the training split does not have is a wrong prediction: it has no probability, and together all such
    labels are one more class, whose F1 is 0. It has no loss, which would be infinite for every model.

    Args:
        dim: width of the fused vectors.
        processor: the label processor, fitted on the training split.
        weight: weight of the loss in the sum over tasks.
        hidden: width of a hidden layer of the head; 0 for none.
        dropout: dropout rate of the head.
        label_smoothing: probability mass of each label spread evenly over all classes.

    Shape:
        - output: [rows, classes] logits
        - ``target``: [rows] int64, ``UNSEEN`` for a label that the training split does not have
        - ``predict``: [rows, classes] probabilities
    """

    processor = ClassificationLabel
    metrics = ("accuracy", "macro_f1", "log_loss")
    lower_is_better = frozenset({"log_loss"})
    baseline = "classification"

    def __init__(
        self,
        dim: int,
        processor: ClassificationLabel,
        *,
        weight: Annotated[float, Ge(0)] = 1.0,
        hidden: Annotated[int, Ge(0)] = 0,
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.1,
        label_smoothing: Annotated[float, Ge(0), Lt(1)] = 0.0,
    ):
        super().__init__()
        self.weight = weight
        self.label_smoothing = label_smoothing
        self.labels = processor
        counts = torch.tensor(processor.counts, dtype=torch.float64)
        prior = (1 - label_smoothing) * counts / counts.sum() + label_smoothing / len(counts)
        self.register_buffer("prior", prior.log().float(), persistent=False)  # logits of the best constant predictor
        self.prior: Tensor
        self.head = build_head(dim, self.prior, hidden=hidden, dropout=dropout)

    def forward(self, fused: Fused) -> Tensor:
        return self.head(fused.summary)

    def constant(self, fused: Fused) -> Tensor:
        return self.prior.to(fused.summary.dtype).expand(len(fused.summary), -1)

    def count(self, targets: Mapping[str, Tensor]) -> int:
        return int((targets["target"] != UNSEEN).sum())

    def loss(self, output: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        options = {"ignore_index": UNSEEN, "label_smoothing": self.label_smoothing}
        total = functional.cross_entropy(output, targets["target"], reduction="sum", **options)
        return total / math.log(len(self.labels.classes))

    def likelihood(self, output: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        return _of_true(output.softmax(-1), targets["target"]).sum()

    def predict(self, output: Tensor) -> Tensor:
        return output.softmax(-1)

    def decode(self, prediction: Tensor) -> dict[str, Any]:
        best = int(prediction.argmax())
        return {"label": self.labels.classes[best], "probability": prediction[best].item()}

    def score(self, predictions: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]]) -> dict[str, float]:
        from sklearn.metrics import accuracy_score, f1_score  # slow to import

        probabilities, true = _stack(predictions, targets)
        predicted = probabilities.argmax(-1)
        return {
            "accuracy": float(accuracy_score(true, predicted)),
            "macro_f1": float(f1_score(true, predicted, average="macro")),
            "log_loss": float(-_of_true(probabilities, true).clamp(min=LEAST).log().mean()),
        }

    def additive(
        self,
        metric: str,
        predictions: Sequence[Tensor],
        targets: Sequence[Mapping[str, Tensor]],
        group: Tensor,
    ) -> AdditiveScore | None:
        probabilities, true = _stack(predictions, targets)
        predicted, groups = probabilities.argmax(-1), int(group.max()) + 1
        if metric == "macro_f1":
            classes = len(self.labels.classes)
            sums = torch.zeros(groups, 2, classes + 1, dtype=torch.float64)  # the last class: of all unseen labels
            true = true.where(true != UNSEEN, classes)
            hit = predicted == true
            sums.index_put_((group[hit], torch.tensor(0), true[hit]), torch.ones((), dtype=sums.dtype), accumulate=True)
            for labels in (true, predicted):
                sums.index_put_((group, torch.tensor(1), labels), torch.ones((), dtype=sums.dtype), accumulate=True)
            return AdditiveScore(sums.flatten(1), _macro_f1, tuple(self.labels.classes))
        score = (predicted == true).double()
        if metric == "log_loss":
            score = -_of_true(probabilities, true).clamp(min=LEAST).log()
        rows = torch.stack([score, torch.ones_like(score)], 1)
        return AdditiveScore(
            rows.new_zeros(groups, 2).index_add(0, group, rows), lambda sums: sums[..., 0] / sums[..., 1]
        )


def _stack(predictions: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]]) -> tuple[Tensor, Tensor]:
    """Probabilities [rows, classes] in float64 and targets [rows]."""
    probabilities = torch.stack(tuple(predictions)).detach().double().cpu()
    return probabilities, torch.stack([item["target"] for item in targets]).cpu()


def _of_true(probabilities: Tensor, true: Tensor) -> Tensor:
    """The probability [rows] of each true class; 0 of one that training did not have."""
    return probabilities.gather(1, true.clamp(min=0)[:, None]).squeeze(1) * (true != UNSEEN)


def _macro_f1(sums: Tensor) -> Tensor:
    """The mean F1 of the classes that occur, of hits and of true and predicted cases, [..., 2 * classes]."""
    hits, cases = sums.unflatten(-1, (2, -1)).unbind(-2)
    return (2 * hits / cases.clamp(min=1)).sum(-1) / (cases > 0).sum(-1).clamp(min=1)
