"""The source whose best possible accuracy is known, for every subset of its inputs: to understand a fusion by."""

from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Le

from mmbert.contracts import Field, Source
from mmbert.data.keyed_random import generator, uniform
from mmbert.data.splits import FRACTIONS, Split, rows_of_split, split_by_hash
from mmbert.errors import DataError, nearest
from mmbert.types import Sample, sample_id

NOISE = "noise"  # what an input carries that carries nothing

Flip = Annotated[float, Ge(0), Le(0.5)]


class OracleSource(Source):
    """Hidden bits, each shown by inputs that may be wrong about it; the label, 0 or 1, is the bits' exclusive or.

    An input shows a bit as ``preprocessing.synthetic`` draws it for its type: a sentence on good or bad weather, a red
    or blue bar, a high or low tone, and so on. Which bit is shown can always be read off the value; whether it is the
    hidden one cannot.

    Options:
        rows: how many, over all splits.
        seed: another seed gives other values; each row is a pure function of (seed, row).
        carries: input -> the hidden bit that it shows, under any name, or ``noise`` for a coin of its own. By default
            all show one bit.
        flip: the probability with which an input shows the opposite, for each input on its own: one for all, or input
            -> its own (0 where it is not named).

    So ``{text: a, image: a}`` is redundant: each alone tells the label. ``{text: a, image: noise}`` is unique: the text
    tells it, the image nothing. ``{text: a, image: b}`` is synergistic: each alone tells nothing, both tell the label.

    The recipe may lack an input that ``carries`` names: the label stays what it is.
    Raises ``DataError`` where an input of the recipe is not named or has no way to show a bit, and where all is noise.
    """

    def __init__(
        self,
        name: str,
        inputs: Mapping[str, Field],
        targets: Mapping[str, Field],
        *,
        rows: Annotated[int, Ge(1)] = 4096,
        seed: int = 0,
        carries: dict[str, str] | None = None,
        flip: Flip | dict[str, Flip] = 0.0,
    ):
        self._name, self._inputs, self._targets = name, inputs, targets
        self._seed = seed
        self._carries = carries or dict.fromkeys(inputs, "a")
        self._flip = flip if isinstance(flip, dict) else dict.fromkeys(self._carries, flip)
        self._splits = split_by_hash([str(row + 1) for row in range(rows)], FRACTIONS, seed)
        for asked, by in ((inputs, "the recipe"), (self._flip, "'flip'")):
            for other in asked.keys() - self._carries.keys():
                close = nearest(other, self._carries)
                raise DataError(f"{name}: 'carries' must name the input '{other}', as {by} does. {close}")
        for other, field in inputs.items():
            if field.processor.show_bit is None:
                raise DataError(f"{name}: the input '{other}' is of a type that cannot show a bit")
        if {*self._carries.values()} == {NOISE}:
            raise DataError(f"{name}: 'carries' must give an input something else than {NOISE} to carry")

    @property
    def fields(self) -> frozenset[str]:
        return frozenset({*self._inputs, *self._targets})

    def split(self, name: str) -> Split:
        return Split(self.sample, rows_of_split(name, self._splits), self._samples)

    def _samples(self, rows: np.ndarray, names: Collection[str] | None) -> Iterator[Sample]:
        return (self.sample(row, names) for row in rows.tolist())

    def bits(self, row: int) -> tuple[int, dict[str, int]]:
        """The label of a row, counted from 0, and the bit that each input shows."""
        hidden = {bit: self._coin(row, "hidden", bit) for bit in {*self._carries.values()} - {NOISE}}
        shown = {}
        for name, bit in self._carries.items():
            flipped = uniform(self._seed, row, "flip", name) < self._flip.get(name, 0.0)
            shown[name] = self._coin(row, NOISE, name) if bit == NOISE else hidden[bit] ^ flipped
        return sum(hidden.values()) % 2, shown

    def sample(self, row: int, names: Collection[str] | None = None) -> Sample:
        """The sample of a row, counted from 0, with the inputs and targets in ``names``, by default all."""
        label, shown = self.bits(row)
        wanted = self.fields if names is None else self.fields & {*names}
        return Sample(
            id=sample_id(self._name, str(row + 1)),
            source=self._name,
            inputs={name: self._shown(row, name, shown[name]) for name in self._inputs if name in wanted},
            targets={name: label for name in self._targets if name in wanted},
            attributes={"where": f"row {row + 1}", "row": row + 1, "key": str(row + 1), "group": str(row + 1)},
        )

    def _coin(self, row: int, *key: str) -> int:
        return int(uniform(self._seed, row, *key) < 0.5)

    def _shown(self, row: int, name: str, bit: int) -> Any:
        show = self._inputs[name].processor.show_bit
        assert show is not None
        return show(bit, generator(self._seed, row, "shown", name))
