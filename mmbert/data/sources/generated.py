"""The source of random samples, for tests, dry runs and examples that need no data."""

from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Lt

from mmbert.contracts import Field, Source
from mmbert.data.keyed_random import draw_kept_names, generator, uniform
from mmbert.data.splits import FRACTIONS, Split, rows_of_split, split_by_hash
from mmbert.types import Sample, sample_id


class GeneratedSource(Source):
    """Samples from each processor's ``example``: raw values of the right form, whose targets nothing predicts.

    Args:
        name: the source's name in the recipe.
        inputs: the recipe's inputs by name.
        targets: the recipe's targets by the name of the task.
        rows: the number of rows of all splits together.
        seed: another seed gives other values; each row is a pure function of (seed, row).
        absent: the probability that an input or a target of a row is absent; at least one input is always present.
    """

    def __init__(
        self,
        name: str,
        inputs: Mapping[str, Field],
        targets: Mapping[str, Field],
        *,
        rows: Annotated[int, Ge(1)] = 256,
        seed: int = 0,
        absent: Annotated[float, Ge(0), Lt(1)] = 0.0,
    ):
        self._name, self._inputs, self._targets = name, inputs, targets
        self._seed, self._absent = seed, absent
        self._splits = split_by_hash([str(row + 1) for row in range(rows)], FRACTIONS, seed)

    @property
    def fields(self) -> frozenset[str]:
        return frozenset({*self._inputs, *self._targets})

    def split(self, name: str) -> Split:
        return Split(self.sample, rows_of_split(name, self._splits), self._samples)

    def _samples(self, rows: np.ndarray, names: Collection[str] | None) -> Iterator[Sample]:
        return (self.sample(row, names) for row in rows.tolist())

    def sample(self, row: int, names: Collection[str] | None = None) -> Sample:
        """The sample of a row.

        Args:
            row: counted from 0.
            names: the inputs and targets that the sample has; None gives all.
        """
        inputs = draw_kept_names(self._inputs, self._absent, self._seed, row, "inputs")
        targets = {name for name in self._targets if uniform(self._seed, row, "targets", name) >= self._absent}
        if names is not None:
            inputs, targets = inputs & {*names}, targets & {*names}
        return Sample(
            id=sample_id(self._name, str(row + 1)),
            source=self._name,
            inputs={name: self._example(field, row, name) for name, field in self._inputs.items() if name in inputs},
            targets={name: self._example(field, row, name) for name, field in self._targets.items() if name in targets},
            attributes={"where": f"row {row + 1}", "row": row + 1, "key": str(row + 1), "group": str(row + 1)},
        )

    def _example(self, field: Field, row: int, name: str) -> Any:
        return field.processor.example(generator(self._seed, row, name))
