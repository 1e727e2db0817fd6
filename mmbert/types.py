"""Data types shared by all packages: samples, batches, tokens and fused vectors.

Axes in shapes: ``batch`` rows of a batch; ``present`` items of one input (or target) in it; ``length`` tokens of a row;
``dim`` the width of the trunk. Masks are bool, True for real entries.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only


class Tokens(NamedTuple):
    """A padded sequence of vectors for each row."""

    values: Tensor  # [batch, length, dim]
    mask: Tensor  # [batch, length] bool, True where a token is real
    unit: Tensor  # [batch, length] int64, index of the token's word, node, step or cell; -1 for none

    def at(self, rows: Tensor) -> "Tokens":
        """The tokens of some rows.

        Args:
            rows: [any] int64, the positions of the rows in the batch.
        """
        return Tokens(self.values[rows], self.mask[rows], self.unit[rows])


class Fused(NamedTuple):
    """The result of a fusion, read by the tasks."""

    summary: Tensor  # [batch, dim], read by row-level heads
    streams: Mapping[str, Tokens]  # "text" and every input by name, in its original length
    unimodal: Mapping[str, Tokens] = MappingProxyType(
        {}
    )  # streams before the fusion, each pooled to one token; see Fusion

    def at(self, rows: Tensor) -> "Fused":
        """The fused vectors of some rows. A stream is copied on access.

        Args:
            rows: [any] int64, the positions of the rows in the batch.
        """
        return Fused(self.summary[rows], _StreamsAt(self.streams, rows), _StreamsAt(self.unimodal, rows))


class _StreamsAt(Mapping[str, Tokens]):
    """Some rows of each stream, selected on access, since most heads read no stream."""

    def __init__(self, streams: Mapping[str, Tokens], rows: Tensor):
        self.streams = streams
        self.rows = rows

    def __getitem__(self, name: str) -> Tokens:
        return self.streams[name].at(self.rows)

    def __iter__(self) -> Iterator[str]:
        return iter(self.streams)

    def __len__(self) -> int:
        return len(self.streams)


@dataclass(frozen=True, slots=True)
class Sample:
    """One row of one source, with raw values. An absent value is an absent key."""

    id: int  # see sample_id: the same in every recipe and run
    source: str
    inputs: Mapping[str, Any]  # input name -> raw value (or a list of them)
    targets: Mapping[str, Any]  # task name -> raw label
    attributes: Mapping[str, Any] = field(
        default_factory=dict
    )  # row number, group, language; used by splits and reports


def sample_id(source: str, key: str) -> int:
    """A stable 63-bit id: the first bits of blake2b over the source's name and the row's key.

    >>> sample_id("molecules", "64-17-5") == sample_id("molecules", "64-17-5")
    True

    Args:
        source: the name of the source.
        key: the key of the row in its source.
    """
    digest = hashlib.blake2b(f"{source}\0{key}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@dataclass(frozen=True, slots=True)
class Present:
    """The items of one input or target that a batch holds."""

    rows: Tensor  # [present] int64, non-decreasing row numbers; items of the same row repeat it
    tensors: dict[
        str, Tensor
    ]  # by name of the parameters of the encoder's forward, or of the entries that the task's loss reads

    def within(self, rows: Tensor) -> "Present":
        """The items of some rows; there may be none.

        Args:
            rows: [batch] bool, True for the rows to select.
        """
        places = rows[self.rows].nonzero().squeeze(1)
        return Present(self.rows[places], {name: tensor[places] for name, tensor in self.tensors.items()})


@dataclass(frozen=True, slots=True)
class Batch:
    """The inputs and targets of some rows. An input or target that no row has is an absent key."""

    ids: Tensor  # [batch] int64
    inputs: dict[str, Present]
    targets: dict[str, Present]
    attributes: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None, non_blocking: bool = False) -> Self:
        """Move all tensors.

        Args:
            device: the target device.
            dtype: the dtype for floating-point tensors; None leaves it unchanged.
            non_blocking: whether the copy may be asynchronous, as in ``torch.Tensor.to``.
        """

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, dtype if tensor.is_floating_point() else None, non_blocking=non_blocking)

        return _map(self, move)

    def pin_memory(self) -> Self:
        """The batch in pinned memory, for fast copies to a GPU."""
        return _map(self, Tensor.pin_memory)


for _cls in (Present, Batch):
    torch.export.register_dataclass(_cls)


def _map(tree: Any, function: Any) -> Any:
    return tree_map_only(Tensor, function, tree)


@dataclass(frozen=True)
class AdditiveScore:
    """A metric that depends on the rows through sums over them alone, such as accuracy, an F1 or a mean error.

    Attributes:
        sums: [groups, sums] float64, what the rows of each group add up to.
        value: sums [..., sums] of any rows -> the metric of these rows [...].
        classes: what the sums are of, where they are of classes: only sums of the same classes can be swapped.
    """

    sums: Tensor
    value: Callable[[Tensor], Tensor]
    classes: tuple[Any, ...] = ()


@dataclass(frozen=True)
class RankedValues:
    """What average precision is computed from.

    Attributes:
        values: [values], of which the highest are retrieved first.
        relevant: bool [values].
        rows: int64 [values], the row of each value.
        missed: int64 [rows], what is relevant in each row, but has no value and is never retrieved.
    """

    values: Tensor
    relevant: Tensor
    rows: Tensor
    missed: Tensor


@dataclass(frozen=True, slots=True)
class ColumnSummary:
    """A column that a recipe reads."""

    name: str  # in the source
    fields: tuple[str, ...]  # the inputs and tasks that read it
    kind: str  # text, integer, number, boolean or other
    rows: int
    missing: int
    distinct: int | None  # None where values are lists, objects or bytes
    examples: tuple[str, ...]
    done: str  # what was done to its cells


@dataclass(frozen=True, slots=True)
class SourceSummary:
    """What a source says of itself."""

    names: tuple[str, ...] = ()  # of all its columns
    columns: tuple[ColumnSummary, ...] = ()  # those that the recipe reads
    warnings: tuple[str, ...] = ()  # what was done to cells, and what is suspicious
    reading: Mapping[str, Any] = field(default_factory=dict)  # JSON: how a new file is to be read alike
