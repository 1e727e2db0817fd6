"""Classification: one label per row, from the classes of the training split."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Lt
from torch import Tensor
from torch.nn import functional

from mmbert.contracts import Processor, Task
from mmbert.layers.head import build_head
from mmbert.preprocessing.labels import Label, class_index, count_classes
from mmbert.types import Fused


class ClassificationLabel(Processor):
    """A label (a string, an integer or a boolean) as the index of its class.

    Raises:
        SampleError: if a label does not occur in the training split.
        DataError: if the training split has fewer than two classes.

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

    @classmethod
    def example(cls, rng: np.random.Generator) -> str:
        return ["apple", "pear", "plum"][rng.integers(3)]


class Classification(Task):
    """Classification with cross-entropy over K classes, divided by log K.

    Metrics: accuracy, macro_f1 (over the classes that occur), log_loss (nats). A decoded prediction is the most
    probable label with its probability.

    Args:
        dim: width of the fused vectors.
        processor: the label processor, fitted on the training split.
        weight: weight of the loss in the sum over tasks.
        hidden: width of a hidden layer of the head; 0 for none.
        dropout: dropout rate of the head.
        label_smoothing: probability mass of each label spread evenly over all classes.

    Shape:
        - output: [rows, classes] logits
        - ``target``: [rows] int64
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
        return len(targets["target"])

    def loss(self, output: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        smoothing = self.label_smoothing
        total = functional.cross_entropy(output, targets["target"], reduction="sum", label_smoothing=smoothing)
        return total / math.log(len(self.labels.classes))

    def likelihood(self, output: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        return output.softmax(-1).gather(1, targets["target"][:, None]).sum()

    def predict(self, output: Tensor) -> Tensor:
        return output.softmax(-1)

    def decode(self, prediction: Tensor) -> dict[str, Any]:
        best = int(prediction.argmax())
        return {"label": self.labels.classes[best], "probability": prediction[best].item()}

    def score(self, predictions: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]]) -> dict[str, float]:
        from sklearn.metrics import accuracy_score, f1_score  # slow to import

        probabilities = torch.stack(tuple(predictions)).detach().double().cpu()
        true = torch.stack([item["target"] for item in targets]).cpu()
        predicted = probabilities.argmax(-1)
        of_true = probabilities.gather(1, true[:, None]).clamp(
            min=1e-12
        )  # limits the loss of a wrong certain prediction to 27.6
        return {
            "accuracy": float(accuracy_score(true, predicted)),
            "macro_f1": float(f1_score(true, predicted, average="macro")),
            "log_loss": float(-of_true.log().mean()),
        }
