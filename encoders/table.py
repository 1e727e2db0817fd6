"""Tables: rows of named cells, numbers and categories, one token per cell."""

import warnings
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge, Interval, MultipleOf
from scipy.special import ndtri
from torch import Tensor, nn

from mmbert.contracts import Encoder, Processor
from mmbert.errors import DataError, SampleError, nearest
from mmbert.layers.embeddings import LinearEmbedding, PeriodicEmbedding, PiecewiseEmbedding
from mmbert.layers.transformer import TransformerLayer
from mmbert.preprocessing.synthetic import record
from mmbert.preprocessing.tabular import MAX_DEVIATIONS, get_cell, is_number, parse_category, parse_number
from mmbert.types import Tokens

MISSING, UNKNOWN = 0, 1  # first two category indices of each column
GRID = 1001  # stored quantiles per numeric column


class TableProcessor(Processor):
    """Turns a dict {column: cell} into numbers and category indices.

    ``fit`` determines the type of each column: numeric if its cells are numbers, categorical if they are strings or
    bools (a bool, and "TRUE" or "false" in any case, is the category "true" or "false"). None, NaN and an absent key
    are missing cells. A column without values in the training split is dropped with a warning. Columns are sorted by
    name.

    Tensors of one row: ``numbers`` [numeric columns] float32, zero where missing; ``observed`` [numeric columns]
    bool; ``categories`` [categorical columns] int64 (0 missing, 1 not seen in training).

    A column not seen by ``fit`` is ignored, with one warning.

    Args:
        numeric: "standard" subtracts the mean and divides by the standard deviation of the training split; "quantile"
            first maps ranks to a normal distribution, which limits heavy tails and outliers.
        categorical: columns of numeric codes to read as categories.
        minimum_count: minimum number of occurrences in training for a category to have its own index.

    Raises:
        SampleError: for inf, a number beyond 1e30 or a cell of the wrong type. The message names the column.
        DataError: from ``fit``, if a column mixes numbers with strings, a column of ``categorical`` does not exist, or
            no column has a value.

    Example:
        >>> processor = TableProcessor()
        >>> processor.fit([{"mass": 1.0, "solid": "TRUE"}, {"mass": 3.0, "solid": False}])
        >>> {name: tensor.tolist() for name, tensor in processor({"mass": 3.0, "solid": None}).items()}
        {'numbers': [1.0], 'observed': [True], 'categories': [0]}
    """

    example_with_bit = staticmethod(record)

    def __init__(
        self,
        *,
        numeric: Literal["standard", "quantile"] = "standard",
        categorical: tuple[str, ...] = (),
        minimum_count: Annotated[int, Ge(1)] = 1,
    ):
        self.numeric = numeric
        self.categorical = tuple(categorical)
        self.minimum_count = minimum_count
        self.grids: dict[str, list[float]] = {}  # numeric column -> its quantiles, in the unit of the data
        self.mean: list[float] = []
        self.deviation: list[float] = []
        self.categories: dict[str, dict[str, int]] = {}  # categorical column -> category -> index
        self.ignored: list[str] = []  # columns already warned about

    def fit(self, values: Iterable[Mapping[str, Any]]) -> None:
        cells: dict[str, _Cells] = {}
        for value in values:
            row = _row(value)
            for column in row:
                cells.setdefault(column, _Cells()).add(column, get_cell(row, column), column in self.categorical)
        for column in self.categorical:
            if column not in cells:
                raise DataError(f"the table has no column '{column}', named in 'categorical'. {nearest(column, cells)}")
        self.grids, self.categories, self.ignored, transformed = {}, {}, [], []
        for column, collected in sorted(cells.items()):
            if not collected.numbers and not collected.counts:
                warnings.warn(f"the table column '{column}' is dropped: no training row has a value", stacklevel=2)
                self.ignored.append(column)
            elif not collected.numbers:
                frequent = sorted(
                    category for category, count in collected.counts.items() if count >= self.minimum_count
                )
                self.categories[column] = {
                    category: index for index, category in enumerate(frequent, start=UNKNOWN + 1)
                }
            elif not collected.counts:
                numbers = np.array(collected.numbers)
                self.grids[column] = np.quantile(numbers, np.linspace(0, 1, GRID)).tolist()
                transformed.append(self._shape(column, numbers))
            else:
                mixed = f"mixes numbers, such as {collected.numbers[0]:g}, with {collected.word!r}"
                raise DataError(f"the table column '{column}' {mixed}")
        if not self.grids and not self.categories:
            raise DataError("a table needs a column with a value in the training split, found none")
        self.mean = [float(column.mean()) for column in transformed]
        spread = [float(column.std()) for column in transformed]
        pairs = zip(spread, self.mean, strict=True)
        self.deviation = [value if value > 1e-12 * abs(mean) else 1.0 for value, mean in pairs]

    def __call__(self, value: Mapping[str, Any], rng: np.random.Generator | None = None) -> dict[str, Tensor]:
        value = _row(value)
        if extra := [column for column in value if not self._knows(column)]:
            warnings.warn(f"table columns that training did not have are ignored: {', '.join(extra)}", stacklevel=2)
            self.ignored += extra
        numbers, observed = np.zeros(len(self.grids)), np.zeros(len(self.grids), dtype=bool)
        for index, column in enumerate(self.grids):
            cell = get_cell(value, column)
            if cell is not None:
                number = self._shape(column, np.array(parse_number(column, cell)))
                numbers[index] = (number - self.mean[index]) / self.deviation[index]
                observed[index] = True
        categories = []
        for column, known in self.categories.items():
            cell = get_cell(value, column)
            if cell is None:
                categories.append(MISSING)
            elif is_number(cell) and column not in self.categorical:
                raise SampleError(f"the table column '{column}' holds categories, found the number {cell!r}")
            else:
                categories.append(known.get(parse_category(column, cell), UNKNOWN))
        return {
            "numbers": torch.tensor(numbers.clip(-MAX_DEVIATIONS, MAX_DEVIATIONS), dtype=torch.float32),
            "observed": torch.tensor(observed),
            "categories": torch.tensor(categories, dtype=torch.int64),
        }

    def features(self, item: dict[str, Tensor]) -> np.ndarray:
        """Standardised numbers, whether each is observed, and one-hot categories (including unknown and missing)."""
        onehot = [np.eye(size)[index] for size, index in zip(self.sizes(), item["categories"].tolist(), strict=True)]
        return np.concatenate([item["numbers"].numpy(), item["observed"].numpy(), *onehot])

    def sizes(self) -> list[int]:
        """The number of indices (missing, unknown, each category) of each categorical column."""
        return [len(known) + 2 for known in self.categories.values()]

    def edges(self, bins: int) -> Tensor:
        """Quantiles of the standardised numeric columns: [numeric columns, bins + 1] float32.

        Args:
            bins: number of bins between the quantiles.
        """
        ranks = np.linspace(0, GRID - 1, bins + 1).round().astype(int)
        rows = [self._shape(column, np.array(grid)[ranks]) for column, grid in self.grids.items()]
        edges = np.array(rows).reshape(-1, bins + 1) - np.array(self.mean)[:, None]
        edges = edges / np.array(self.deviation)[:, None]
        return torch.tensor(edges, dtype=torch.float32)

    @classmethod
    def example(cls, rng: np.random.Generator) -> dict[str, Any]:
        number = None if rng.random() < 0.2 else float(rng.normal())
        return {"count": int(rng.integers(9)), "kind": str(rng.choice(["a", "b", "c"])), "size": number}

    def _knows(self, column: str) -> bool:
        return column in self.grids or column in self.categories or column in self.ignored

    def _shape(self, column: str, numbers: np.ndarray) -> np.ndarray:
        if self.numeric == "standard":
            return numbers
        grid, ranks = np.array(self.grids[column]), np.linspace(0, 1, GRID)
        # tied quantiles form a step: a number on it maps to the middle of the step
        below, above = np.interp(numbers, grid, ranks), 1 - np.interp(-numbers, -grid[::-1], ranks)
        return ndtri(((below + above) / 2).clip(1e-3, 1 - 1e-3))


class _Cells:
    """Compact statistics of a column for ``fit``: numbers at 8 bytes each, and category counts."""

    def __init__(self):
        self.numbers, self.counts, self.word = array("d"), Counter[str](), None

    def add(self, column: str, cell: Any, is_category: bool) -> None:
        if cell is None:
            return
        if is_number(cell) and not is_category:
            self.numbers.append(parse_number(column, cell))
            return
        self.counts[parse_category(column, cell)] += 1
        self.word = cell if self.word is None else self.word


def _row(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(column, str) for column in value):
        raise SampleError(f"expected a table row as a dict {{column: cell}}, found {str(value)[:80]}")
    return value


class TableEncoder(Encoder):
    """FT-Transformer (Gorishniy et al. 2021), one token per cell.

    Args:
        dim: width of the output tokens.
        processor: the fitted processor of the input; gives the columns and their categories.
        width: width of the transformer over cells, with one attention head per 8.
        layers: number of transformer layers. With 0 cells do not interact.
        embedding: embedding of numbers: "linear", "periodic" (fits oscillating functions) or "piecewise" (32 quantile
            bins, fits steps), as in Gorishniy et al. 2022.
        dropout: dropout rate.

    Shape:
        numbers and observed [present, numeric columns], categories [present, categorical columns] -> Tokens [present,
        columns, dim]: the numeric columns by name, then the categorical ones. ``unit`` is the column's index in this
        order.

    Example:
        >>> processor = TableProcessor()
        >>> processor.fit([{"mass": 1.0, "phase": "solid"}, {"mass": 2.0, "phase": "gas"}])
        >>> tensors = processor.collate([processor({"mass": 1.5, "phase": "plasma"})])
        >>> TableEncoder(16, processor)(**tensors).values.shape
        torch.Size([1, 2, 16])
    """

    processor = TableProcessor
    first: Tensor

    def __init__(
        self,
        dim: int,
        processor: TableProcessor,
        *,
        width: Annotated[int, Interval(ge=8), MultipleOf(8)] = 64,
        layers: Annotated[int, Ge(0)] = 2,
        embedding: Literal["linear", "periodic", "piecewise"] = "linear",
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.1,
    ):
        super().__init__()
        numeric, sizes = len(processor.grids), processor.sizes()
        match embedding:
            case "linear":
                self.numeric = LinearEmbedding(numeric, width)
            case "periodic":
                self.numeric = PeriodicEmbedding(numeric, width)
            case "piecewise":
                self.numeric = PiecewiseEmbedding(processor.edges(bins=32), width)
        self.missing = nn.Parameter(torch.zeros(numeric, width))
        first = torch.tensor([0, *sizes[:-1]], dtype=torch.int64).cumsum(0)[: len(sizes)]
        self.register_buffer("first", first)  # start of each column's entries
        entries = torch.randn(sum(sizes), width) * width**-0.5
        entries[first + MISSING] = entries[first + UNKNOWN] = 0.0  # zero if training has no such cell
        self.category = nn.Parameter(entries)
        self.column = nn.Parameter(torch.randn(numeric + len(sizes), width) * width**-0.5)
        self.layers = nn.ModuleList(TransformerLayer(width, width // 8, dropout=dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, dim)

    def forward(self, numbers: Tensor, observed: Tensor, categories: Tensor) -> Tokens:  # pyright: ignore[reportIncompatibleMethodOverride]
        numbers = torch.where(observed, numbers, 0.0).to(self.column.dtype)
        numeric = torch.where(observed[..., None], self.numeric(numbers), self.missing)
        values = torch.cat([numeric, nn.functional.embedding(categories + self.first, self.category)], 1) + self.column
        mask = torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)
        for layer in self.layers:
            values = layer(values, mask)
        unit = torch.arange(values.shape[1], device=values.device).expand(len(values), -1)
        return Tokens(self.out(self.norm(values)), mask, unit)
