"""Fields of nodes, edges or other rows without names: labels as indices, floats standardised, and their embedding."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag, pad

from mmbert.errors import DataError, SampleError
from mmbert.layers.cells import LARGEST, STEEPEST

Field = dict[str, Any]  # {"size", "known"} of a categorical field, {"mean", "deviation"} of a numeric one
UNKNOWN = 0


def fit_fields(kind: str, rows: Sequence[Sequence]) -> list[Field]:
    """What there is to know of each field: categorical where it holds strings, ints or bools, numeric with a float.

    ``kind`` ("node") is what errors call a row. Raises DataError where rows differ in length or mix labels and floats.
    """
    if len({len(row) for row in rows}) > 1:
        raise DataError(f"expected as many fields for every {kind}, found {sorted({len(row) for row in rows})}")
    fields: list[Field] = []
    for column in zip(*rows, strict=True):
        if any(isinstance(cell, float | np.floating) for cell in column):
            numbers = _numbers(kind, column)
            mean, deviation = float(numbers.mean()), float(numbers.std())
            constant = deviation <= 1e-12 * abs(mean)  # but for rounding
            fields.append({"mean": mean, "deviation": 1.0 if constant else deviation})
        else:
            known = sorted({_label(kind, cell) for cell in column})
            fields.append({"size": len(known) + 1, "known": {label: index for index, label in enumerate(known, 1)}})
    return fields


def apply_fields(kind: str, fields: Sequence[Field], rows: Sequence[Sequence]) -> tuple[np.ndarray, np.ndarray]:
    """Indices [rows, categorical fields] int64, 0 for a new label, and standardised numbers [rows, numeric fields].

    Raises SampleError on a row of another length, on what is no number in a numeric field, on NaN, and on numbers
    beyond 1e30.
    """
    for row in rows:
        if len(row) != len(fields):
            raise SampleError(f"expected {len(fields)} fields for every {kind}, as in training, found {len(row)}")
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(fields)
    indices, numbers = np.zeros((0, len(rows)), np.int64), np.zeros((0, len(rows)))
    for field, column in zip(fields, columns, strict=True):
        if "known" in field:
            found = [field["known"].get(_label(kind, cell), UNKNOWN) for cell in column]
            indices = np.concatenate([indices, np.array([found], dtype=np.int64)])
        else:
            standard = (_numbers(kind, column) - field["mean"]) / field["deviation"]
            numbers = np.concatenate([numbers, standard[None].clip(-STEEPEST, STEEPEST)])
    return indices.T, numbers.T


def _label(kind: str, cell: Any) -> str:
    if not isinstance(cell, str | int | np.integer | np.bool):
        raise SampleError(f"expected a label (a string, an int or a bool) as a field of every {kind}, found {cell!r}")
    return str(cell)


def _numbers(kind: str, column: Sequence) -> np.ndarray:
    for cell in column:
        if not isinstance(cell, float | int | np.floating | np.integer) or not abs(cell) <= LARGEST:
            raise SampleError(f"expected a number up to {LARGEST:g} in this field of every {kind}, found {cell!r:.40}")
    return np.array(column, dtype=float)


class FieldEmbedding(nn.Module):
    """The sum of an embedding of each categorical field, a linear map of the numbers, and a bias.

    Embeddings are multiplied by ``scale`` and start as much smaller (Vaswani et al. 2017 take sqrt(width)). Adam moves
    a label that is seen ten times by about ten learning rates; multiplied, that counts beside where it started.

    **Shapes**: indices [rows, categorical fields] int64 and numbers [rows, numeric fields + values] -> [rows, width].
    """

    first: Tensor
    scale: float

    def __init__(self, fields: Sequence[Field], width: int, *, values: int = 0, scale: float = 1.0):
        super().__init__()
        sizes = [field["size"] for field in fields if "size" in field]
        self.register_buffer("first", torch.tensor([0, 1, *sizes])[: 1 + len(sizes)].cumsum(0))
        self.table = nn.Parameter(
            torch.randn(1 + sum(sizes), width) / scale * (1 + len(sizes)) ** -0.5
        )  # the first is the bias
        self.scale = scale
        numeric = len(fields) - len(sizes) + values
        self.numbers = nn.Parameter(torch.randn(numeric, width) * max(1, numeric) ** -0.5)

    def forward(self, indices: Tensor, numbers: Tensor) -> Tensor:
        places = pad(indices, (1, 0)) + self.first
        return self.scale * embedding_bag(places, self.table, mode="sum") + numbers.to(self.table.dtype) @ self.numbers
