"""Rows that are encoded once, and batches made of them: with inputs absent, or taken from other rows.

An input that is absent in such a batch is an absent key, or a row that is not in ``Present.rows``: the model reads it
as it reads a row that never had the input.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mmbert.contracts import Encoder, Layer, Trunk
from mmbert.evaluation.perturbations import NONE, View, unchanged_view
from mmbert.io.bounded_cache import BoundedCache
from mmbert.layers.by_name import ModulesByName
from mmbert.layers.masked import pad_and_stack, scatter_to_rows
from mmbert.model import MMBert
from mmbert.types import Batch, Present, Tokens

TEXT = ("tokens", "mask", "unit")  # of a text before the trunk: token ids in the place of values
MAX_BYTES = 800_000_000  # of cached texts: half a million tokens at a width of 384

Key = tuple[tuple[str, bytes, bytes], ...]  # of each text of a row: its name, tokens and units


@dataclass(frozen=True)
class EncodedColumn:
    """One input of all rows, on the CPU: the tokens of the rows one after another, without padding.

    The tokens of a row are the ``length`` ones from ``start``; after the last row comes one token of padding.

    Attributes:
        has: which rows have the input, bool [rows].
        start: int64 [rows].
        length: int64 [rows].
        tokens: [tokens of all rows, ...].
    """

    has: Tensor
    start: Tensor
    length: Tensor
    tokens: Tokens

    def take(self, sources: Tensor) -> tuple[Tensor, Tokens] | None:
        """The input of some rows.

        Args:
            sources: row numbers, int64 [any]; -1 for none.

        Returns:
            The positions in ``sources`` of rows that have the input, and their tokens [present, length, ...]; None
            where no row has it.
        """
        positions = ((sources != NONE) & self.has[sources.clamp(min=0)]).nonzero().squeeze(1)
        if not len(positions):
            return None
        rows = sources[positions]
        step = torch.arange(max(int(self.length[rows].max()), 1))
        index = torch.where(step < self.length[rows, None], self.start[rows, None] + step, len(self.tokens.mask) - 1)
        return positions, Tokens(*(part[index] for part in self.tokens))


@dataclass
class _ColumnBuilder:
    """Collects the batches of one input."""

    rows: list[Tensor] = field(default_factory=list)
    lengths: list[Tensor] = field(default_factory=list)
    tokens: list[Tokens] = field(default_factory=list)

    def add(self, rows: Tensor, tokens: Tokens) -> None:
        """Add tokens [present, length, ...] of some rows, cut after the last real token of each row."""
        step = torch.arange(tokens.mask.shape[1])
        ends = torch.where(tokens.mask, step + 1, 0)
        length = torch.cat([torch.zeros(len(rows), 1, dtype=torch.int64), ends], 1).amax(1)
        inside = step < length[:, None]
        self.rows.append(rows)
        self.lengths.append(length)
        self.tokens.append(Tokens(*(part[inside] for part in tokens)))

    def column(self, size: int) -> EncodedColumn:
        """The column of ``size`` rows."""
        rows, lengths = torch.cat(self.rows), torch.cat(self.lengths)
        start, length = torch.zeros(size, dtype=torch.int64), torch.zeros(size, dtype=torch.int64)
        start[rows], length[rows] = lengths.cumsum(0) - lengths, lengths
        values, mask, unit = (torch.cat(parts) for parts in zip(*self.tokens, strict=True))
        padded = Tokens(
            torch.cat([values, values.new_zeros(1, *values.shape[1:])]),
            torch.cat([mask, mask.new_zeros(1)]),
            torch.cat([unit, unit.new_full((1,), -1)]),
        )
        has = torch.zeros(size, dtype=torch.bool)
        has[rows] = True
        return EncodedColumn(has, start, length, padded)


@dataclass(frozen=True)
class EncodedRows:
    """Encoded rows in the order in which they were read. Their batches are for the model of ``model_for_encoded_rows``.

    Attributes:
        columns: by input.
        bare: the batches as they were read, without inputs.
        texts: the inputs that are text.
    """

    columns: Mapping[str, EncodedColumn]
    bare: list[Batch]
    texts: frozenset[str]

    @property
    def ids(self) -> Tensor:
        """The sample id of each row."""
        return torch.cat([batch.ids for batch in self.bare]) if self.bare else torch.zeros(0, dtype=torch.int64)

    @property
    def has(self) -> dict[str, Tensor]:
        """Which rows have each input."""
        return {name: column.has for name, column in self.columns.items()}

    def inputs(self, view: View) -> dict[str, Present]:
        """The inputs of a batch, one row for each position of the view."""
        inputs = {}
        for name, sources in view.items():
            if (taken := self.columns[name].take(sources)) is not None:
                rows, tokens = taken
                names = TEXT if name in self.texts else Tokens._fields
                inputs[name] = Present(rows, dict(zip(names, tokens, strict=True)))
        return inputs

    def batches(self, view: View | None = None) -> Iterator[Batch]:
        """All rows with their targets, in batches as they were read.

        Args:
            view: which row's values each row is shown; by default its own.
        """
        view, start = unchanged_view(self.has) if view is None else view, 0
        for bare in self.bare:
            end = start + len(bare)
            inputs = self.inputs({name: sources[start:end] for name, sources in view.items()})
            yield Batch(bare.ids, inputs, bare.targets, bare.attributes)
            start = end


@torch.no_grad()
def encode_rows(model: MMBert, batches: Iterable[Batch], *, device: torch.device | str = "cpu") -> EncodedRows:
    """Run each encoder once over all rows, in evaluation mode; texts stay token ids.

    Args:
        model: whose encoders run.
        batches: all rows.
        device: of the model.
    """
    training = model.training
    model.eval()
    dtype = next(model.parameters()).dtype
    columns: dict[str, _ColumnBuilder] = {}
    bare: list[Batch] = []
    size = 0
    for batch in batches:
        moved = batch.to(device, dtype).inputs
        for name, present in batch.inputs.items():
            if name in model.encoders:
                joined = scatter_to_rows(model.encoders[name](**moved[name].tensors), moved[name].rows, len(batch))
                rows = present.rows.unique()
                tokens = Tokens(*(part.cpu() for part in joined)).at(rows)
            else:
                rows, tokens = present.rows, Tokens(*(present.tensors[key] for key in TEXT))
            columns.setdefault(name, _ColumnBuilder()).add(rows + size, tokens)
        bare.append(Batch(batch.ids, {}, batch.targets, batch.attributes))
        size += len(batch)
    model.train(training)
    texts = frozenset(name for name in columns if name not in model.encoders)
    return EncodedRows({name: columns[name].column(size) for name in sorted(columns)}, bare, texts)


def model_for_encoded_rows(model: MMBert) -> MMBert:
    """The same model for batches of ``EncodedRows``: it shares all parts but the encoders.

    Where the trunk reads the text alone, it reads each distinct text once.
    """
    reader = copy(model)
    encoders = ModulesByName({name: StoredTokens() for name in model.encoders})
    reader._modules = {**model._modules, "encoders": encoders}
    if model.fusion.reads_text_alone:
        reader._modules["trunk"] = CachedTrunk(model.trunk)
    return reader


class StoredTokens(Encoder):
    """An encoder that returns tokens that were encoded before."""

    def forward(self, values: Tensor, mask: Tensor, unit: Tensor) -> Tokens:  # pyright: ignore[reportIncompatibleMethodOverride]
        return Tokens(values, mask, unit)


class CachedTrunk(Trunk):
    """A trunk that reads each distinct text once: all layers run in ``embed``, and ``forward`` does nothing.

    For evaluation only: cached tokens have no gradient and are outdated once the trunk learns.

    Args:
        trunk: that reads the texts.
    """

    def __init__(self, trunk: Trunk):
        super().__init__()
        self.trunk = trunk
        self.dim = trunk.dim
        self._cache = BoundedCache[Tokens](MAX_BYTES)

    @property
    def layers(self) -> Sequence[Layer]:
        return ()

    def embed(self, texts: Mapping[str, Present], size: int) -> Tokens:
        keys = _text_keys(texts, size)
        known = {key: tokens for key in keys if (tokens := self._cache.get(key)) is not None}
        if new := {key: row for row, key in enumerate(keys) if key not in known}:
            rows = torch.tensor(list(new.values()), device=next(self.trunk.parameters()).device)
            tokens = self.trunk(self.trunk.embed(texts, size).at(rows))
            for key, row, mask in zip(new, zip(*tokens, strict=True), tokens.mask, strict=True):
                known[key] = Tokens(*(part[mask] for part in row))
                self._cache.add(key, known[key], size=sum(part.nbytes for part in known[key]))
        values, mask, unit = zip(*(known[key] for key in keys), strict=True)
        return Tokens(pad_and_stack(values), pad_and_stack(mask, False), pad_and_stack(unit, -1))

    def forward(self, tokens: Tokens) -> Tokens:
        return tokens

    def split(self, tokens: Tokens) -> dict[str, Tokens]:
        return self.trunk.split(tokens)


def _text_keys(texts: Mapping[str, Present], size: int) -> list[Key]:
    keys: list[list[tuple[str, bytes, bytes]]] = [[] for _ in range(size)]
    for name, present in sorted(texts.items()):
        parts = (present.rows, *(present.tensors[key] for key in ("tokens", "unit", "mask")))
        rows, tokens, unit, mask = (part.cpu().numpy() for part in parts)
        for position, row in enumerate(rows.tolist()):
            real = mask[position]
            keys[row].append((name, tokens[position][real].tobytes(), unit[position][real].tobytes()))
    return [tuple(key) for key in keys]
