"""One label a row, out of the classes of the training split."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Ge, Lt
from sklearn.metrics import accuracy_score, f1_score
from torch import Tensor
from torch.nn import functional

from mmbert.contracts import Processor, Task
from mmbert.layers.head import head
from mmbert.preprocessing.labels import Label, count_classes, index_of
from mmbert.types import Fused


class ClassificationLabel(Processor):
    """A label (a string, an integer or a truth value) as the index of its class.

    Raises ``SampleError`` on a label that the training split does not have, ``DataError`` where that has
    one class only.

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
        return {"target": torch.tensor(index_of(value, self.classes))}

    @classmethod
    def example(cls, rng: np.random.Generator) -> str:
        return ["apple", "pear", "plum"][rng.integers(3)]


class Classification(Task):
    """Cross-entropy over K classes, divided by log K.

    **Shapes.** Output [rows, classes] logits; ``target`` [rows] int64; ``predict`` [rows, classes] probabilities.

    Options: ``label_smoothing`` spreads that share of each label evenly over all classes; ``hidden`` is the width of an
    extra layer (0: none). Metrics: accuracy, macro_f1 (over the classes that occur), log_loss (nats). A decoded
    prediction is the likeliest label and its probability.
    """

    processor = ClassificationLabel
    metrics = ("accuracy", "macro_f1", "log_loss")
    lower_is_better = frozenset({"log_loss"})
    baseline: ClassVar[Literal["classification"]] = "classification"

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
        self.register_buffer("prior", prior.log().float(), persistent=False)  # minimises the loss over constants
        self.prior: Tensor
        self.head = head(dim, self.prior, hidden=hidden, dropout=dropout)

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
        probabilities = torch.stack(tuple(predictions)).detach().double().cpu()
        true = torch.stack([item["target"] for item in targets]).cpu()
        predicted = probabilities.argmax(-1)
        of_true = probabilities.gather(1, true[:, None]).clamp(min=1e-12)  # a sure mistake costs 27.6, not infinity
        return {
            "accuracy": float(accuracy_score(true, predicted)),
            "macro_f1": float(f1_score(true, predicted, average="macro")),
            "log_loss": float(-of_true.log().mean()),
        }
