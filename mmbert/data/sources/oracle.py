"""A synthetic source whose best possible accuracy is known for every subset of its inputs, to study fusions with."""

from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Le

from mmbert.contracts import Field, Source
from mmbert.data.keyed_random import generator, uniform
from mmbert.data.splits import FRACTIONS, Split, rows_of_split, split_by_hash
from mmbert.errors import DataError, nearest
from mmbert.types import Sample, sample_id

NOISE = "noise"  # the value in ``carries`` of an input without information

Flip = Annotated[float, Ge(0), Le(0.5)]


class OracleSource(Source):
    """Hidden bits, each shown by inputs that may be wrong about it; the label is the exclusive or (XOR) of the bits.

    An input shows a bit as ``preprocessing.synthetic`` draws it for its type: a sentence on good or bad weather, a red
    or blue bar, a high or low tone, and so on. The value always tells which bit it shows, but not whether that is the
    hidden one.

    Args:
        name: the source's name in the recipe.
        inputs: the recipe's inputs by name.
        targets: the recipe's targets by the name of the task.
        rows: the number of rows of all splits together.
        seed: another seed gives other values; each row is a pure function of (seed, row).
        carries: input -> any name for the hidden bit that it shows, or ``noise`` for a random bit of its own. By
            default all inputs show the same bit.
        flip: the probability that an input shows the opposite bit, independent of other inputs: one for all, or input
            -> probability (0 for an input that is not named).

    With ``{text: a, image: a}`` the inputs are redundant: each alone gives the label. With ``{text: a, image: noise}``
    the text has unique information and the image has none. With ``{text: a, image: b}`` they are synergistic: each
    alone gives nothing, both together give the label. The recipe may lack an input that ``carries`` names; the label
    does not change.

    Raises:
        DataError: where ``carries`` lacks an input of the recipe, an input's type cannot show a bit, or all inputs are
            noise.
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
        for names, named_by in ((inputs, "the recipe"), (self._flip, "'flip'")):
            for input_name in names.keys() - self._carries.keys():
                guess = nearest(input_name, self._carries)
                raise DataError(f"{name}: 'carries' must name the input '{input_name}', as {named_by} does. {guess}")
        for input_name, field in inputs.items():
            if field.processor.example_with_bit is None:
                raise DataError(f"{name}: the input '{input_name}' is of a type that cannot show a bit")
        if {*self._carries.values()} == {NOISE}:
            raise DataError(f"{name}: at least one input in 'carries' must be informative; all are '{NOISE}'")

    @property
    def fields(self) -> frozenset[str]:
        return frozenset({*self._inputs, *self._targets})

    def split(self, name: str) -> Split:
        return Split(self.sample, rows_of_split(name, self._splits), self._samples)

    def _samples(self, rows: np.ndarray, names: Collection[str] | None) -> Iterator[Sample]:
        return (self.sample(row, names) for row in rows.tolist())

    def bits(self, row: int) -> tuple[int, dict[str, int]]:
        """The label of a row, counted from 0, and the bit that each input shows."""
        hidden = {bit: self._draw_bit(row, "hidden", bit) for bit in {*self._carries.values()} - {NOISE}}
        shown = {}
        for name, bit in self._carries.items():
            flipped = uniform(self._seed, row, "flip", name) < self._flip.get(name, 0.0)
            shown[name] = self._draw_bit(row, NOISE, name) if bit == NOISE else hidden[bit] ^ flipped
        return sum(hidden.values()) % 2, shown

    def sample(self, row: int, names: Collection[str] | None = None) -> Sample:
        """The sample of a row.

        Args:
            row: counted from 0.
            names: the inputs and targets that the sample has; None gives all.
        """
        label, shown = self.bits(row)
        fields = self.fields if names is None else self.fields & {*names}
        return Sample(
            id=sample_id(self._name, str(row + 1)),
            source=self._name,
            inputs={name: self._example_with_bit(row, name, shown[name]) for name in self._inputs if name in fields},
            targets={name: label for name in self._targets if name in fields},
            attributes={"where": f"row {row + 1}", "row": row + 1, "key": str(row + 1), "group": str(row + 1)},
        )

    def _draw_bit(self, row: int, *key: str) -> int:
        return int(uniform(self._seed, row, *key) < 0.5)

    def _example_with_bit(self, row: int, name: str, bit: int) -> Any:
        show = self._inputs[name].processor.example_with_bit
        assert show is not None
        return show(bit, generator(self._seed, row, "shown", name))
