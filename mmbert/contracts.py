"""Abstract base classes of the replaceable parts: processors, encoders, trunks, fusions, tasks, sources, builders.

Read types.py first. Code that reads raw values is a Processor; code with parameters is an nn.Module. Positional
parameters of a part are passed by the framework, keyword-only parameters are its recipe options: a part's signature is
its schema. Bounds are written ``Annotated[int, Ge(1)]``; every option has a default.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from mmbert.types import AdditiveScore, Fused, Present, RankedValues, Sample, SourceSummary, Tokens

if TYPE_CHECKING:
    import pandas as pd

Layer = Callable[[Tensor, Tensor], Tensor]  # (values [batch, length, dim], mask) -> values; for mask see Trunk.layers


class Processor(ABC):
    """Turns one raw value (an input or a label) into tensors; light, picklable, runs in data workers.

    It holds statistics fitted on the training split, never parameters. Fitted state is stored in plain attributes
    (numbers, strings, lists, dicts, tensors), which checkpoints save as JSON and tensors. A processor with other
    attributes omits them in ``__getstate__`` and rebuilds them in ``__setstate__``.
    """

    reads_files: ClassVar[bool] = False  # True where a raw value may be the path of a file
    reads_text: ClassVar[bool] = False  # True where a raw value is text as it is written, digits included
    reads_fields: ClassVar[bool] = False  # True where integers and floats that stand in one list stay apart
    one_per_unit: ClassVar[bool] = (
        False  # True for labels that are lists with one entry per unit of the task's stream "of"
    )
    # a function (bit, rng) -> raw value that encodes the bit, as in preprocessing.synthetic; None: not available
    example_with_bit: ClassVar[Callable[[int, np.random.Generator], Any] | None] = None

    def fit(self, values: Iterable[Any]) -> None:  # noqa: B027
        """Fit on the raw values of the training split. By default does nothing."""

    @abstractmethod
    def __call__(self, value: Any, rng: np.random.Generator | None = None) -> dict[str, Tensor]:
        """Convert one raw value to tensors. ``rng`` (keyed by seed, epoch and sample; training only) augments.

        Draw random numbers only from ``rng``: a result made without a draw is cached for all epochs.

        An empty dict means that the value is empty (a graph without nodes); it is then treated as absent.
        Raises ``SampleError`` on a bad value; the message says what was expected and what was found.
        """

    def collate(self, items: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Collate items into tensors whose first axis is ``present``. By default they are stacked.

        For an input, the result names the parameters of the encoder's ``forward``; for a target, the entries that the
        task's ``loss`` and ``count`` read. An item may be a one-row slice of an earlier result, with its padding.
        """
        return {name: torch.stack([item[name] for item in items]) for name in items[0]}

    def unseen(self, value: Any) -> Collection[Any]:
        """The labels in a raw value that ``fit`` did not see; the task counts them as wrong predictions."""
        return ()

    def features(self, item: dict[str, Tensor]) -> np.ndarray | None:
        """A fixed-length float vector of simple features of one item, for the linear baselines; None if unsupported."""
        return None

    @classmethod
    @abstractmethod
    def example(cls, rng: np.random.Generator) -> Any:
        """A random raw value, for contract tests, generated samples and dry runs."""


@dataclass(frozen=True)
class Processors:
    """The processors of a recipe.

    Attributes:
        inputs: processors by input name.
        targets: label processors by task name.
    """

    inputs: Mapping[str, Processor]
    targets: Mapping[str, Processor]


class Encoder(nn.Module, ABC):
    """Encodes one input: ``(dim, processor, *, options)``, then ``forward(<tensors by name>)``.

    It is independent of rows, absence, text and other inputs. It never mixes items: normalisation is per item.
    """

    processor: ClassVar[type[Processor]]

    @abstractmethod
    def forward(self, **tensors: Tensor) -> Tokens:
        """Encode the tensors of the processor's ``collate``, passed by name, to tokens [present, length, dim]."""

    def pretrained(self) -> nn.Module | None:
        """The sub-module with pretrained weights, to which ``tune`` and ``optim.lr.pretrained`` apply."""
        return None

    def load_pretrained(self) -> None:
        """Fetch and load the pretrained weights. Called before training, not when a trained model is loaded."""


class Trunk(nn.Module, ABC):
    """The shared text transformer."""

    dim: int

    @property
    @abstractmethod
    def layers(self) -> Sequence[Layer]:
        """The layers as callables ``(values, mask) -> values``; empty if the family offers only ``forward``.

        ``mask`` is bool: [batch, length] (real tokens) or [batch, length, length] (attention from query to key).
        """

    @abstractmethod
    def embed(self, texts: Mapping[str, Present], size: int) -> Tokens:
        """Embed the texts of each of ``size`` rows as one sequence, sorted by name: ``[CLS] first [SEP] second [SEP]``.

        Positions and input facets are added here. A row without text is ``[CLS] [SEP]``.
        """

    @abstractmethod
    def forward(self, tokens: Tokens) -> Tokens:
        """Apply all layers to padded tokens [batch, length, dim]; masked positions of the result are zero."""

    @abstractmethod
    def split(self, tokens: Tokens) -> dict[str, Tokens]:
        """Split the joined sequence [batch, length, dim] into the stream of each text, by name."""


class Fusion(nn.Module, ABC):
    """Joins the text with the other streams: ``(dim, streams, *, options)``.

    ``streams`` maps the name of each stream besides the text to whether a task reads its units: such a stream keeps its
    length and order.

    The result of a row without streams is that of the plain trunk. A stream whose key is absent is treated as one whose
    mask is all False. Masked values, NaN included, reach neither output nor gradient. An input with
    ``missing: learned`` is present in every row: a learned token replaces it where it is absent.

    If the trunk reads only the text, ``Fused.unimodal["text"]`` is the ``mean_token`` of its result: unimodal heads
    then need no second pass of the trunk. A fusion does not return the other streams in ``unimodal``.
    """

    needs_layers: int = 0  # minimum number of trunk.layers; __init__ may set it
    reads_text_alone: ClassVar[bool] = False  # True if the trunk reads rows of the embedded text and nothing else
    joins: ClassVar[bool] = True  # False if streams reach the tasks only through unimodal heads

    @abstractmethod
    def forward(self, trunk: Trunk, text: Tokens, streams: Mapping[str, Tokens]) -> Fused:
        """Fuse the embedded text (before the trunk's layers) and the streams, all [batch, length, dim]."""


class Task(nn.Module, ABC):
    """A head, its loss and its metrics: ``(dim, processor, *, weight, options)``.

    ``targets`` below are the tensors that the label processor's ``collate`` returns for the rows that have a label.
    """

    processor: ClassVar[type[Processor]]
    metrics: ClassVar[tuple[str, ...]]  # names of the metrics of score, the primary first
    lower_is_better: ClassVar[frozenset[str]] = frozenset()  # metrics of which lower is better
    weight: float  # weight of its loss in the sum over tasks
    of: Any = None  # name of the stream whose units it labels; None: it labels whole rows
    baseline: ClassVar[Literal["classification", "multilabel", "regression"] | None] = None  # None: no baselines

    @abstractmethod
    def forward(self, fused: Fused) -> Tensor:
        """Compute the output [rows, ...] (logits, standardised values) for the rows of ``fused``."""

    @abstractmethod
    def constant(self, fused: Fused) -> Tensor:
        """The output of the best constant predictor on the training labels, in the shape of ``forward``'s."""

    @abstractmethod
    def count(self, targets: Mapping[str, Tensor]) -> int:
        """Count the labelled units (rows, labels, words ...); the training step divides the summed loss by it."""

    @abstractmethod
    def loss(self, output: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """The SUM of the loss over labelled units, scaled so that an uninformed guess costs about 1 per unit."""

    def likelihood(self, output: Tensor, targets: Mapping[str, Tensor]) -> Tensor | None:
        """The SUM over labelled units of the probability of the true label; None if outputs are not probabilities."""
        return None

    @abstractmethod
    def predict(self, output: Tensor) -> Tensor:
        """Convert an output [rows, ...] to predictions: probabilities, or values in the label's unit."""

    @abstractmethod
    def decode(self, prediction: Tensor) -> Any:
        """Convert one row of ``predict`` to a JSON value: a label's name, a number, a list of tags."""

    @abstractmethod
    def score(self, predictions: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]]) -> dict[str, float]:
        """Compute ``metrics``, in order, over a whole split, from one prediction and one target item per row."""

    def additive(
        self,
        metric: str,
        predictions: Sequence[Tensor],
        targets: Sequence[Mapping[str, Tensor]],
        group: Tensor,
    ) -> AdditiveScore | None:
        """One of the ``metrics`` as a function of sums, by which a permutation test is fast; None where it is none.

        Args:
            metric: its name.
            predictions: as for ``score``.
            targets: as for ``score``.
            group: [rows] int64, the group of each row; the groups are numbered from 0.
        """
        return None

    def ranked(
        self, metric: str, predictions: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]]
    ) -> RankedValues | None:
        """The values of which one of the ``metrics`` is the average precision; None where it is something else.

        Args:
            metric: its name.
            predictions: as for ``score``.
            targets: as for ``score``.
        """
        return None


@dataclass(frozen=True, slots=True)
class Field:
    """The column and processor of an input or a task."""

    column: str | tuple[str, ...]  # several columns give a dict as the raw value
    processor: type[Processor]


class Source(ABC):
    """Rows of raw values: ``(name, inputs, targets, *, options)``.

    ``name`` is the name of the source in the recipe; ``inputs`` and ``targets`` map names of the recipe to a Field. A
    field whose column the source lacks, and a missing value (None, NaN), is an absent key of the sample.
    """

    @property
    @abstractmethod
    def fields(self) -> frozenset[str]:
        """The names of the inputs and targets that the source has."""

    @property
    def summary(self) -> SourceSummary:
        """What it says of its columns; by default nothing."""
        return SourceSummary()

    @abstractmethod
    def split(self, name: str) -> Sequence[Sample]:
        """The samples of "train", "validation" or "test", with random access."""

    def explain_empty_split(self, name: str) -> str:
        """Why a split has no rows and what to do, in whole sentences; empty where it has rows or nothing is known."""
        return ""


class Builder(ABC):
    """Builds a data set from a package or archive: ``(*, options)``; see ``DatasetSource``."""

    version: ClassVar[str]  # part of the cache key; increase it when the result of build changes
    key: ClassVar[str] = "id"  # the column that identifies a row
    group: ClassVar[str | None] = None  # the column whose values must not occur in two splits
    columns: ClassVar[Mapping[str, str]]  # column -> short description

    @abstractmethod
    def build(self, folder: Path, progress: Callable[[float], None]) -> "pd.DataFrame":
        """Build the rows, one per sample, with ``columns`` (and ``split`` if one is published).

        Media are written below ``folder`` and referred to by relative paths. ``progress`` takes the fraction done.
        """
