"""The rows of a split, each encoded once, and batches put together of them anew: an input absent, or another row's.

What is absent in such a batch is an absent key, or a row that is not in ``Present.rows``: the model reads it as it
reads a row that never had the input.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from mmbert.contracts import Encoder, Layer, Trunk
from mmbert.evaluation.perturbations import NONE, View, whole
from mmbert.io.bounded_cache import BoundedCache
from mmbert.layers.masked import join, pad
from mmbert.model import MMBert
from mmbert.types import Batch, Present, Tokens

TEXT = ("tokens", "mask", "unit")  # of a text before the trunk: its ids in the place of values


@dataclass(frozen=True)
class Column:
    """One input of all rows, on the CPU: their tokens one behind the other, padding left out.

    A row's are the ``length`` tokens from ``start`` on; behind the last row's stands one of padding.
    """

    has: Tensor  # [rows] bool
    start: Tensor  # [rows] int64
    length: Tensor  # [rows] int64
    tokens: Tokens  # [tokens of all rows, ...]

    def take(self, sources: Tensor) -> tuple[Tensor, Tokens] | None:
        """The tokens [present, length, ...] of rows ``sources`` [any], and their places in it; None for none at all."""
        places = ((sources != NONE) & self.has[sources.clamp(min=0)]).nonzero().squeeze(1)
        if not len(places):
            return None
        own = sources[places]
        step = torch.arange(max(int(self.length[own].max()), 1))
        at = torch.where(step < self.length[own, None], self.start[own, None] + step, len(self.tokens.mask) - 1)
        return places, Tokens(*(part[at] for part in self.tokens))


@dataclass
class _Parts:
    """A column in the making."""

    rows: list[Tensor] = field(default_factory=list)
    lengths: list[Tensor] = field(default_factory=list)
    tokens: list[Tokens] = field(default_factory=list)

    def add(self, rows: Tensor, tokens: Tokens) -> None:
        """Tokens [present, length, ...] of some rows; what is behind the last real one is left out."""
        step = torch.arange(tokens.mask.shape[1])
        ends = torch.where(tokens.mask, step + 1, 0)
        length = torch.cat([torch.zeros(len(rows), 1, dtype=torch.int64), ends], 1).amax(1)
        kept = step < length[:, None]
        self.rows.append(rows)
        self.lengths.append(length)
        self.tokens.append(Tokens(*(part[kept] for part in tokens)))

    def column(self, size: int) -> Column:
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
        return Column(has, start, length, padded)


@dataclass(frozen=True)
class Encoded:
    """Rows in the order in which they were read. Batches are for what ``reader`` makes of the model."""

    columns: Mapping[str, Column]  # by input
    bare: list[Batch]  # the batches as they were read, without inputs
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
        """The inputs of a batch with a row for each place of the view."""
        made = {}
        for name, sources in view.items():
            if (taken := self.columns[name].take(sources)) is not None:
                rows, tokens = taken
                names = TEXT if name in self.texts else Tokens._fields
                made[name] = Present(rows, dict(zip(names, tokens, strict=True)))
        return made

    def batches(self, view: View | None = None) -> Iterator[Batch]:
        """The rows with their targets, in batches as they were read; ``view`` says what each is shown."""
        view, start = whole(self.has) if view is None else view, 0
        for bare in self.bare:
            end = start + len(bare)
            inputs = self.inputs({name: sources[start:end] for name, sources in view.items()})
            yield Batch(bare.ids, inputs, bare.targets, bare.attributes)
            start = end


@torch.no_grad()
def encode(model: MMBert, batches: Iterable[Batch], *, device: torch.device | str = "cpu") -> Encoded:
    """Run each encoder once over all rows, in evaluation mode; texts are kept as they are."""
    training = model.training
    model.eval()
    dtype = next(model.parameters()).dtype
    parts: dict[str, _Parts] = {}
    bare: list[Batch] = []
    size = 0
    for batch in batches:
        moved = batch.to(device, dtype).inputs
        for name, present in batch.inputs.items():
            if name in model.encoders:
                joined = join(model.encoders[name](**moved[name].tensors), moved[name].rows, len(batch))
                rows = present.rows.unique()
                tokens = Tokens(*(part.cpu() for part in joined)).at(rows)
            else:
                rows, tokens = present.rows, Tokens(*(present.tensors[one] for one in TEXT))
            parts.setdefault(name, _Parts()).add(rows + size, tokens)
        bare.append(Batch(batch.ids, {}, batch.targets, batch.attributes))
        size += len(batch)
    model.train(training)
    texts = frozenset(name for name in parts if name not in model.encoders)
    return Encoded({name: parts[name].column(size) for name in sorted(parts)}, bare, texts)


def reader(model: MMBert) -> MMBert:
    """The same model for batches of ``Encoded``, sharing all its parts but the encoders.

    Where the trunk reads the text alone it reads each text once, however often it comes.
    """
    other = copy(model)
    encoders = nn.ModuleDict({name: Recall() for name in model.encoders})
    other._modules = {**model._modules, "encoders": encoders}
    if model.fusion.reads_text_alone:
        other._modules["trunk"] = ReadOnce(model.trunk)
    return other


class Recall(Encoder):
    """Hands on tokens that were encoded before."""

    def forward(self, values: Tensor, mask: Tensor, unit: Tensor) -> Tokens:  # pyright: ignore[reportIncompatibleMethodOverride]
        return Tokens(values, mask, unit)


MAX_BYTES = 800_000_000  # of texts that were read: half a million tokens at a width of 384

Key = tuple[tuple[str, bytes, bytes], ...]  # of each text of a row: its name, tokens and units


class ReadOnce(Trunk):
    """Reads in ``embed``, where texts are still texts, so that ``forward`` has nothing left to do.

    For evaluation alone: what it remembers has no gradient, and goes stale where the trunk learns.
    """

    def __init__(self, trunk: Trunk):
        super().__init__()
        self.trunk = trunk
        self.dim = trunk.dim
        self._read = BoundedCache[Tokens](MAX_BYTES)

    @property
    def layers(self) -> Sequence[Layer]:
        return ()

    def embed(self, texts: Mapping[str, Present], size: int) -> Tokens:
        keys = _keys(texts, size)
        texts_read = {key: tokens for key in keys if (tokens := self._read.get(key)) is not None}
        if new := {key: row for row, key in enumerate(keys) if key not in texts_read}:
            rows = torch.tensor(list(new.values()), device=next(self.trunk.parameters()).device)
            read = self.trunk(self.trunk.embed(texts, size).at(rows))
            for key, row, mask in zip(new, zip(*read, strict=True), read.mask, strict=True):
                texts_read[key] = Tokens(*(part[mask] for part in row))
                self._read.add(key, texts_read[key], size=sum(part.nbytes for part in texts_read[key]))
        values, mask, unit = zip(*(texts_read[key] for key in keys), strict=True)
        return Tokens(pad(values), pad(mask, False), pad(unit, -1))

    def forward(self, tokens: Tokens) -> Tokens:
        return tokens

    def split(self, tokens: Tokens) -> dict[str, Tokens]:
        return self.trunk.split(tokens)


def _keys(texts: Mapping[str, Present], size: int) -> list[Key]:
    keys: list[list[tuple[str, bytes, bytes]]] = [[] for _ in range(size)]
    for name, present in sorted(texts.items()):
        parts = (present.rows, *(present.tensors[one] for one in ("tokens", "unit", "mask")))
        rows, tokens, unit, mask = (part.cpu().numpy() for part in parts)
        for place, row in enumerate(rows.tolist()):
            real = mask[place]
            keys[row].append((name, tokens[place][real].tobytes(), unit[place][real].tobytes()))
    return [tuple(key) for key in keys]
