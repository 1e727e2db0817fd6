"""What travels between rooms: a Sample comes out of a source; Batch, Tokens and Fused go through the model.

Glossary of shapes: ``batch`` rows of a batch; ``present`` items of one input (or target) in it; ``length`` tokens of a
row; ``dim`` the width of the trunk. Masks are bool, True where something is real.
"""

import hashlib
from collections.abc import Iterator, Mapping
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
    unit: Tensor  # [batch, length] int64, the word, node, step or cell that the token belongs to; -1 for none

    def at(self, rows: Tensor) -> "Tokens":
        """The tokens of some rows.

        Args:
            rows: [any] int64, the positions of the rows in the batch.
        """
        return Tokens(self.values[rows], self.mask[rows], self.unit[rows])


class Fused(NamedTuple):
    """What a fusion hands to the tasks."""

    summary: Tensor  # [batch, dim], what row-level heads read
    streams: Mapping[str, Tokens]  # "text" and every input under its name, in the length in which it came in
    unimodal: Mapping[str, Tokens] = MappingProxyType({})  # before the fusion, each pooled to one token; see Fusion

    def at(self, rows: Tensor) -> "Fused":
        """The fused vectors of some rows. A stream is copied when it is asked for.

        Args:
            rows: [any] int64, the positions of the rows in the batch.
        """
        return Fused(self.summary[rows], _StreamsAt(self.streams, rows), _StreamsAt(self.unimodal, rows))


class _StreamsAt(Mapping[str, Tokens]):
    """Some rows of each stream: most heads read none of them."""

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
    """One row of one source, with raw values. What is absent is an absent key."""

    id: int  # see sample_id: the same in every recipe and world
    source: str
    inputs: Mapping[str, Any]  # input name -> raw value (or a list of them)
    targets: Mapping[str, Any]  # task name -> raw label
    attributes: Mapping[str, Any] = field(default_factory=dict)  # row number, group, language: for splits and reports


def sample_id(source: str, key: str) -> int:
    """The first 63 bits of blake2b over the source's name and the row's key: stable across runs and machines.

    >>> sample_id("molecules", "64-17-5") == sample_id("molecules", "64-17-5")
    True

    Args:
        source: the name of the source.
        key: what the row is known by in its source.
    """
    digest = hashlib.blake2b(f"{source}\0{key}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@dataclass(frozen=True, slots=True)
class Present:
    """The items of one input or target that a batch holds."""

    rows: Tensor  # [present] int64, non-decreasing positions in the batch; the items of a list repeat their row
    tensors: dict[str, Tensor]  # what the encoder's forward, or the task's loss, asks for by name

    def within(self, rows: Tensor) -> "Present":
        """The items of some rows alone. There may be none.

        Args:
            rows: [batch] bool, True for the rows whose items are kept.
        """
        places = rows[self.rows].nonzero().squeeze(1)
        return Present(self.rows[places], {name: tensor[places] for name, tensor in self.tensors.items()})


@dataclass(frozen=True, slots=True)
class Batch:
    """What the model reads. An input or target that no row has is an absent key."""

    ids: Tensor  # [batch] int64
    inputs: dict[str, Present]
    targets: dict[str, Present]
    attributes: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None, non_blocking: bool = False) -> Self:
        """Move all tensors.

        Args:
            device: where to.
            dtype: what tensors of floating point become; None leaves them as they are.
            non_blocking: whether the copy may go on while the program does, as in ``torch.Tensor.to``.
        """

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, dtype if tensor.is_floating_point() else None, non_blocking=non_blocking)

        return _map(self, move)

    def pin_memory(self) -> Self:
        """The batch in pinned memory, from which copies to a GPU are fast."""
        return _map(self, Tensor.pin_memory)


for _cls in (Present, Batch):
    torch.export.register_dataclass(_cls)


def _map(tree: Any, function: Any) -> Any:
    return tree_map_only(Tensor, function, tree)
