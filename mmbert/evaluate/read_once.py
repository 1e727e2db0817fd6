"""A trunk that reads each text once, however often it comes: for fusions under which it reads the text alone."""

from collections.abc import Mapping, Sequence

import torch

from mmbert.contracts import Layer, Trunk
from mmbert.layers.pad import pad
from mmbert.types import Present, Tokens

MOST = 500_000  # tokens that are remembered: 0.8 GB at a width of 384

Key = tuple[tuple[str, bytes, bytes], ...]  # of each text of a row: its name, tokens and units


class ReadOnce(Trunk):
    """Reads in ``embed``, where texts are still texts, so that ``forward`` has nothing left to do.

    For evaluation alone: what it remembers has no gradient, and goes stale where the trunk learns.
    """

    def __init__(self, trunk: Trunk):
        super().__init__()
        self.trunk = trunk
        self.dim = trunk.dim
        self._read: dict[Key, Tokens] = {}

    @property
    def layers(self) -> Sequence[Layer]:
        return ()

    def embed(self, texts: Mapping[str, Present], size: int) -> Tokens:
        keys = _keys(texts, size)
        if sum(len(read.mask) for read in self._read.values()) > MOST:
            self._read.clear()
        new = {key: row for row, key in enumerate(keys) if key not in self._read}
        if new:
            rows = torch.tensor(list(new.values()), device=next(self.trunk.parameters()).device)
            read = self.trunk(self.trunk.embed(texts, size).at(rows))
            for key, row, mask in zip(new, zip(*read, strict=True), read.mask, strict=True):
                self._read[key] = Tokens(*(part[mask] for part in row))
        values, mask, unit = zip(*(self._read[key] for key in keys), strict=True)
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
