"""Regression: one number per row."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge, Lt
from torch import Tensor
from torch.nn import functional

from mmbert.contracts import Processor, Task
from mmbert.errors import DataError, SampleError
from mmbert.layers.head import build_head
from mmbert.types import AdditiveScore, Fused

Objective = Literal["mse", "huber", "mae"]
Transform = Literal["none", "log"]
NUMERAL = re.compile(r"\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)


class RegressionLabel(Processor):
    """A number, standardised by the mean and standard deviation of the training split.

    A text such as "1.5" is parsed as a number: a single word makes a whole CSV column text, but only that word is an
    error.

    Args:
        transform: ``log`` takes the logarithm first, for positive targets that span several orders of magnitude.

    Raises:
        SampleError: if the value is not a finite number, or not above 0 with ``log``.
        DataError: if all training values are equal.

    Example:
        >>> label = RegressionLabel()
        >>> label.fit([1.0, 3.0])
        >>> label(4.0)
        {'target': tensor(2.)}
    """

    def __init__(self, *, transform: Transform = "none"):
        self.transform = transform
        self.mean = 0.0
        self.std = 1.0
        self.centres: dict[str, float] = {"mse": 0.0, "huber": 0.0, "mae": 0.0}  # best constant of each objective

    def fit(self, values: Iterable[Any]) -> None:
        from scipy.optimize import root_scalar  # slow to import

        numbers = np.array([self._number(value) for value in values], dtype=np.float64)
        if len(numbers) == 0 or np.ptp(numbers) == 0:
            raise DataError(f"expected different values in the training split, found {numbers[:1].tolist() or 'none'}")
        with np.errstate(over="ignore"):
            self.mean, self.std = float(numbers.mean()), float(numbers.std())
        if not math.isfinite(self.std):
            raise DataError(f"expected values whose variance is finite, found up to {np.abs(numbers).max()}")
        scaled = (numbers - self.mean) / self.std

        def slope(centre: float) -> float:
            return float(np.clip(scaled - centre, -1, 1).sum())

        self.centres = {
            "mse": 0.0,
            "huber": float(root_scalar(slope, bracket=(scaled.min(), scaled.max())).root),
            "mae": float(np.median(scaled)),
        }

    def __call__(self, value: Any, rng: np.random.Generator | None = None) -> dict[str, Tensor]:
        target = torch.tensor((self._number(value) - self.mean) / self.std, dtype=torch.float32)
        if not target.isfinite():
            raise SampleError(f"expected a number near those of the training split, found {value!r}")
        return {"target": target}

    def restore(self, standardised: Tensor) -> Tensor:
        """Convert standardised values to the unit of the labels."""
        values = standardised * self.std + self.mean
        return values.exp() if self.transform == "log" else values

    @classmethod
    def example(cls, rng: np.random.Generator) -> float:
        return float(rng.uniform(1.0, 10.0))

    def _number(self, value: Any) -> float:
        number = value.item() if isinstance(value, np.generic) else value
        if isinstance(number, str) and NUMERAL.fullmatch(number):
            number = float(number)
        if not isinstance(number, Real) or isinstance(number, bool) or not math.isfinite(number):
            raise SampleError(f"expected a finite number, found {value!r}")
        if self.transform == "none":
            return float(number)
        if number <= 0:
            raise SampleError(f"expected a number above 0 (transform: log), found {value!r}")
        return math.log(number)


class Regression(Task):
    """Regression on standardised targets; predictions and metrics are in the unit of the labels.

    Metrics: rmse, mae, r2 (0 if all targets are equal), spearman (0 if targets or predictions are constant). A
    decoded prediction is a number.

    Args:
        dim: width of the fused vectors.
        processor: the label processor, fitted on the training split.
        weight: weight of the loss in the sum over tasks.
        hidden: width of a hidden layer of the head; 0 for none.
        dropout: dropout rate of the head.
        objective: ``mse``, ``mae`` or ``huber`` (the squared error up to one standard deviation, 2 |error| - 1
            beyond).

    Shape:
        - output: [rows], standardised
        - ``target``: [rows], standardised
        - ``predict``: [rows], in the unit of the labels
    """

    processor = RegressionLabel
    metrics = ("rmse", "mae", "r2", "spearman")
    lower_is_better = frozenset({"rmse", "mae"})
    baseline = "regression"

    def __init__(
        self,
        dim: int,
        processor: RegressionLabel,
        *,
        weight: Annotated[float, Ge(0)] = 1.0,
        hidden: Annotated[int, Ge(0)] = 0,
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.1,
        objective: Objective = "mse",
    ):
        super().__init__()
        self.weight = weight
        self.objective: Objective = objective
        self.labels = processor
        self.centre = processor.centres[objective]  # best constant predictor: 0 for mse, the median for mae
        self.head = build_head(dim, torch.tensor([self.centre]), hidden=hidden, dropout=dropout)

    def forward(self, fused: Fused) -> Tensor:
        return self.head(fused.summary).squeeze(-1)

    def constant(self, fused: Fused) -> Tensor:
        return fused.summary.new_full((len(fused.summary),), self.centre)

    def count(self, targets: Mapping[str, Tensor]) -> int:
        return len(targets["target"])

    def loss(self, output: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        target = targets["target"].to(output.dtype)
        if self.objective == "mse":
            return functional.mse_loss(output, target, reduction="sum")
        if self.objective == "mae":
            return functional.l1_loss(output, target, reduction="sum")
        return 2 * functional.huber_loss(output, target, reduction="sum")

    def predict(self, output: Tensor) -> Tensor:
        return self.labels.restore(output)

    def decode(self, prediction: Tensor) -> float:
        return prediction.item()

    def score(self, predictions: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]]) -> dict[str, float]:
        from scipy.stats import rankdata  # slow to import

        predicted = torch.stack(tuple(predictions)).detach().double().cpu().numpy()
        true = self.labels.restore(torch.stack([item["target"] for item in targets]).double().cpu()).numpy()
        error = predicted - true
        spread = np.square(true - true.mean()).sum()
        constant = np.ptp(true) == 0 or np.ptp(predicted) == 0
        return {
            "rmse": float(np.sqrt(np.square(error).mean())),
            "mae": float(np.abs(error).mean()),
            "r2": float(1 - np.square(error).sum() / spread) if spread else 0.0,
            "spearman": 0.0 if constant else float(np.corrcoef(rankdata(predicted), rankdata(true))[0, 1]),
        }

    def additive(
        self,
        metric: str,
        predictions: Sequence[Tensor],
        targets: Sequence[Mapping[str, Tensor]],
        group: Tensor,
    ) -> AdditiveScore | None:
        if metric == "spearman":  # of ranks among all rows
            return None
        predicted = torch.stack(tuple(predictions)).detach().double().cpu()
        true = self.labels.restore(torch.stack([item["target"] for item in targets]).double().cpu())
        error, centred = predicted - true, true - true.mean()
        rows = torch.stack([error.square(), error.abs(), centred, centred.square(), torch.ones_like(error)], 1)
        sums = rows.new_zeros(int(group.max()) + 1, rows.shape[1]).index_add(0, group, rows)
        return AdditiveScore(sums, lambda sums: _metric(metric, sums))


def _metric(metric: str, sums: Tensor) -> Tensor:
    """A metric of sums [..., 5] over rows: squared errors, absolute errors, labels, squared labels, ones."""
    squares, absolutes, labels, squared_labels, rows = sums.unbind(-1)
    if metric == "rmse":
        return (squares / rows).sqrt()
    if metric == "mae":
        return absolutes / rows
    spread = squared_labels - labels.square() / rows
    return torch.where(spread > 0, 1 - squares / spread.where(spread > 0, 1.0), 0.0)
