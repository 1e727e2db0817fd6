"""The contracts that parts fulfil. Read types.py first.

Whatever touches raw values is a Processor; whatever has parameters is an nn.Module. Positional parameters of a part are
wiring, keyword-only parameters are its recipe options: a part's signature is its schema. Bounds are written
``Annotated[int, Ge(1)]``; every option has a default.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from mmbert.types import Fused, Present, Sample, Tokens

if TYPE_CHECKING:
    import pandas as pd

Layer = Callable[[Tensor, Tensor], Tensor]  # (values [batch, length, dim], mask) -> values; for mask see Trunk.layers


class Processor(ABC):
    """Turns one raw value (an input or a label) into tensors; light, picklable, runs in data workers.

    It holds statistics fitted on the training split, never parameters. All it learns lives in plain attributes
    (numbers, strings, lists, dicts, tensors), which travel in the checkpoint as JSON and tensors; a
    processor that keeps a live object besides leaves it out in ``__getstate__`` and makes it again in ``__setstate__``.
    """

    reads_files: ClassVar[bool] = False  # True where a raw value may be the path of a file
    one_per_unit: ClassVar[bool] = False  # True for labels: lists with an entry for each unit of the task's stream "of"
    # a fake raw value (bit, rng) off which the bit can be read, as in preprocessing.synthetic; None: not to be had
    example_with_bit: ClassVar[Callable[[int, np.random.Generator], Any] | None] = None

    def fit(self, values: Iterable[Any]) -> None:  # noqa: B027
        """Learn from the raw values of the training split. By default there is nothing to learn."""

    @abstractmethod
    def __call__(self, value: Any, rng: np.random.Generator | None = None) -> dict[str, Tensor]:
        """The tensors of one raw value. ``rng`` (keyed by seed, epoch and sample; training only) augments.

        Draw from ``rng`` itself and from nothing else: what was made without a draw is made once for all epochs.

        An empty dict says that the value holds nothing (a graph without nodes): it then counts as absent.
        Raises ``SampleError`` on a bad value, saying what was expected and what was found.
        """

    def collate(self, items: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Join items into tensors whose first axis is ``present``. By default they are stacked.

        For an input, the result names the parameters of the encoder's ``forward``; for a target, the entries that the
        task's ``loss`` and ``count`` read. An item may be a one-row slice of an earlier result, with its padding.
        """
        return {name: torch.stack([item[name] for item in items]) for name in items[0]}

    def features(self, item: dict[str, Tensor]) -> np.ndarray | None:
        """A fixed-length float vector of crude features of one item, for the linear baselines; None offers none."""
        return None

    @classmethod
    @abstractmethod
    def example(cls, rng: np.random.Generator) -> Any:
        """A fake raw value: for contract tests, generated samples and dry runs."""


@dataclass(frozen=True)
class Processors:
    """The processors of a recipe.

    Attributes:
        inputs: by the name of the input.
        targets: by the name of the task, of its labels.
    """

    inputs: Mapping[str, Processor]
    targets: Mapping[str, Processor]


class Encoder(nn.Module, ABC):
    """Encodes one input: ``(dim, processor, *, options)``, then ``forward(<tensors by name>)``.

    It knows nothing of rows, of absence, of text or of other inputs. It never mixes items: normalisation is per item.
    """

    processor: ClassVar[type[Processor]]

    @abstractmethod
    def forward(self, **tensors: Tensor) -> Tokens:
        """Tokens [present, length, dim] from what the processor's ``collate`` returns, passed by name."""

    def pretrained(self) -> nn.Module | None:
        """The sub-module that starts from pretrained weights, which ``tune`` and ``optim.lr.pretrained`` act on."""
        return None

    def load_pretrained(self) -> None:
        """Fetch and load those weights: called before training, not where a trained model is loaded."""


class Trunk(nn.Module, ABC):
    """The shared text transformer."""

    dim: int

    @property
    @abstractmethod
    def layers(self) -> Sequence[Layer]:
        """The layers as callables ``(values, mask) -> values``; empty where the family offers ``forward`` only.

        ``mask`` is bool: [batch, length] (which tokens are real) or [batch, length, length] (who reads whom).
        """

    @abstractmethod
    def embed(self, texts: Mapping[str, Present], size: int) -> Tokens:
        """The texts of each of ``size`` rows as one sequence in the order of names: ``[CLS] first [SEP] second [SEP]``.

        Positions and input facets are added here. A row without text is ``[CLS] [SEP]``.
        """

    @abstractmethod
    def forward(self, tokens: Tokens) -> Tokens:
        """All layers over padded tokens [batch, length, dim]; masked places of the result are zero."""

    @abstractmethod
    def split(self, tokens: Tokens) -> dict[str, Tokens]:
        """The stream of each text, under its name, out of the joined sequence [batch, length, dim]."""


class Fusion(nn.Module, ABC):
    """Joins the text with the other streams: ``(dim, streams, *, options)``.

    ``streams`` maps the name of each stream besides the text to whether a task reads its units: such a stream keeps its
    length and its place.

    A row in which no stream is present takes the plain trunk's result. A stream whose key is absent equals one whose
    mask is all False. What a masked token holds, NaN included, reaches neither output nor gradient. An input with
    ``missing: learned`` is present in every row: where it is absent, as the token that is learned in its place.

    Where the trunk reads the text alone, ``Fused.unimodal["text"]`` is the ``mean_token`` of what it read: the heads
    that read one stream alone then need no second pass of the trunk. The fusion does not give those of other streams.
    """

    needs_layers: int = 0  # how many of trunk.layers there must be; __init__ may set it
    reads_text_alone: ClassVar[bool] = False  # True where the trunk gets rows of the text as they are, and no one else
    joins: ClassVar[bool] = True  # False where the streams reach the tasks by heads of their own, and no other way

    @abstractmethod
    def forward(self, trunk: Trunk, text: Tokens, streams: Mapping[str, Tokens]) -> Fused:
        """Fused vectors of the embedded text (before the trunk's layers) and the streams, all [batch, length, dim]."""


class Task(nn.Module, ABC):
    """A head, its loss and its score: ``(dim, processor, *, weight, options)``.

    ``targets`` below are the tensors that the label processor's ``collate`` returns for the rows that have a label.
    """

    processor: ClassVar[type[Processor]]
    metrics: ClassVar[tuple[str, ...]]  # what score gives, the primary first
    lower_is_better: ClassVar[frozenset[str]] = frozenset()  # those of its metrics that are errors
    weight: float  # the factor of its loss in the sum over tasks
    of: Any = None  # the name of the stream whose units it labels; None: it labels whole rows
    baseline: ClassVar[Literal["classification", "multilabel", "regression"] | None] = None  # None: has no baselines

    @abstractmethod
    def forward(self, fused: Fused) -> Tensor:
        """The output [rows, ...] (logits, standardised values) for the rows of ``fused``."""

    @abstractmethod
    def constant(self, fused: Fused) -> Tensor:
        """The output, shaped as ``forward``'s, of the best predictor that ignores the input, from training labels."""

    @abstractmethod
    def count(self, targets: Mapping[str, Tensor]) -> int:
        """The number of labelled units (rows, labels, words ...), by which the step divides the sum of the loss."""

    @abstractmethod
    def loss(self, output: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """The SUM of the loss over labelled units, scaled so that an uninformed guess costs about 1 a unit."""

    def likelihood(self, output: Tensor, targets: Mapping[str, Tensor]) -> Tensor | None:
        """The SUM over labelled units of the probability given to what is true; None where outputs give none."""
        return None

    @abstractmethod
    def predict(self, output: Tensor) -> Tensor:
        """What scores and predictions need of an output [rows, ...]: probabilities, values in the label's unit."""

    @abstractmethod
    def decode(self, prediction: Tensor) -> Any:
        """One row of ``predict`` as a value of JSON: a label's name, a number, a list of tags."""

    @abstractmethod
    def score(self, predictions: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]]) -> dict[str, float]:
        """The ``metrics``, in their order, over a whole split: one prediction and one item of target tensors a row."""


@dataclass(frozen=True, slots=True)
class Field:
    """An input or a task that a source may fill."""

    column: str | tuple[str, ...]  # several columns give a dict as the raw value
    processor: type[Processor]


class Source(ABC):
    """Rows of raw values: ``(name, inputs, targets, *, options)``.

    ``name`` is the source's own name in the recipe; ``inputs`` and ``targets`` map the recipe's names to a Field each.
    A field whose column the source lacks, and a value that is missing (None, NaN), is an absent key of the sample.
    """

    @property
    @abstractmethod
    def fields(self) -> frozenset[str]:
        """The names of those inputs and targets that the source has."""

    @abstractmethod
    def split(self, name: str) -> Sequence[Sample]:
        """A random-access sequence of the samples of "train", "validation" or "test"."""


class Builder(ABC):
    """Makes one data set from a package or archive: ``(*, options)``; see ``DatasetSource``."""

    version: ClassVar[str]  # raise it when what is built changes; part of the cache key
    key: ClassVar[str] = "id"  # the column that identifies a row
    group: ClassVar[str | None] = None  # the column whose values never straddle two splits
    columns: ClassVar[Mapping[str, str]]  # column -> what it holds, in a few words

    @abstractmethod
    def build(self, folder: Path, progress: Callable[[float], None]) -> "pd.DataFrame":
        """The rows, one a sample, with ``columns`` (and ``split`` where one is published).

        Media are written below ``folder`` and named by relative paths. ``progress`` takes the fraction done.
        """
