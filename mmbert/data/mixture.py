"""Groups of samples (sources, languages, tasks ...) drawn in shares of their own: a pure function of the epoch."""

from collections.abc import Mapping, Sequence

import numpy as np

from mmbert.data.chance import generator
from mmbert.errors import RecipeError, nearest

Epoch = tuple[np.ndarray, np.ndarray]  # positions, and for each how often its group was read through before


class Mixture:
    """Which samples an epoch reads, an epoch being as many draws as there are samples.

    Within a group samples come in seeded permutations, each once before any comes again; the groups are interleaved by
    a seeded permutation. How many draws of an epoch a group has follows its share by cumulative rounding: after any
    number of epochs it is within a draw or so of its share of all draws, and exact wherever that is whole.

    Args:
        seed: the key of all permutations; a group's depend on no other group.
        groups: [size] int64, the group of each position, as an index into ``names``.
        names: of the groups.
        weights: the share of each group, up to a common factor.
        alpha: instead, shares proportional to size ** alpha (Conneau and Lample 2019): 1 is as many as there are, 0
            the same for each, 1 / T a temperature T. A pair goes linearly from the first epoch to the last.
        epochs: of the whole run, for a pair.

    Raises ``RecipeError`` where ``weights`` and the groups differ.

    >>> mixture = Mixture(0, np.array([0, 0, 0, 0, 0, 1]), ["large", "small"], weights={"large": 1, "small": 1})
    >>> positions, passes = mixture.epoch(0)
    >>> int((positions == 5).sum()), passes[positions == 5].tolist()
    (3, [0, 1, 2])
    """

    def __init__(
        self,
        seed: int,
        groups: np.ndarray,
        names: Sequence[str],
        *,
        weights: Mapping[str, float] | None = None,
        alpha: float | tuple[float, float] = 1.0,
        epochs: int = 1,
    ):
        self.seed, self.names, self.weights, self.epochs = seed, list(names), weights, epochs
        self.alpha = alpha if isinstance(alpha, tuple) else (alpha, alpha)
        self.sizes = np.bincount(groups, minlength=len(self.names))
        if weights is not None:
            _check(weights, dict(zip(self.names, self.sizes.tolist(), strict=True)))
        self._members = np.split(np.argsort(groups, kind="stable"), np.cumsum(self.sizes)[:-1])
        self._drawn = [np.zeros(len(self.names), dtype=np.int64)]  # before each epoch, by group
        self._due = np.zeros(len(self.names))  # the same in fractions, before the last of them

    def shares(self, epoch: int) -> np.ndarray:
        """[groups] float64, adding up to 1: each group's share of the draws of an epoch."""
        if self.weights is not None:
            parts = np.array([self.weights[name] for name in self.names])
        else:
            done = min(epoch / (self.epochs - 1), 1.0) if self.epochs > 1 else 1.0
            alpha = self.alpha[0] + (self.alpha[1] - self.alpha[0]) * done
            parts = (self.sizes / self.sizes.sum()) ** alpha
        return (parts / parts.sum()).round(12)  # the last digits of a power differ between machines

    def epoch(self, epoch: int) -> Epoch:
        """[size] int64 each: the positions that an epoch reads, in order, and the pass of each through its group."""
        before, after = self._drawn_before(epoch), self._drawn_before(epoch + 1)
        order = generator(self.seed, epoch, "mixture").bit_generator.random_raw(int(self.sizes.sum()))
        places = np.split(np.argsort(order, kind="stable"), np.cumsum(after - before)[:-1])
        positions, passes = np.empty((2, len(order)), dtype=np.int64)
        for group, (first, end) in enumerate(zip(before.tolist(), after.tolist(), strict=True)):
            there = np.sort(places[group])
            passes[there], place = np.divmod(np.arange(first, end), self.sizes[group])
            for one in np.unique(passes[there]):
                now = passes[there] == one
                positions[there[now]] = self._members[group][self._order(group, int(one))[place[now]]]
        return positions, passes

    def _order(self, group: int, times: int) -> np.ndarray:
        # sorting raw words, whose stream numpy guarantees for ever, as the step plan does
        words = generator(self.seed, times, "mixture", self.names[group]).bit_generator
        return np.argsort(words.random_raw(int(self.sizes[group])), kind="stable")

    def _drawn_before(self, epoch: int) -> np.ndarray:
        while len(self._drawn) <= epoch:
            size, drawn = int(self.sizes.sum()), self._drawn[-1]
            self._due = self._due + size * self.shares(len(self._drawn) - 1)
            owed = (self._due - drawn).clip(min=0)
            owed *= size / owed.sum()
            counts = np.floor(owed + 1e-6).astype(np.int64)
            rest = np.argsort(counts - owed, kind="stable")[: size - counts.sum()]  # those owed most
            counts[rest] += 1
            self._drawn.append(drawn + counts)
        return self._drawn[epoch]


def _check(weights: Mapping[str, float], sizes: Mapping[str, int]) -> None:
    for name in weights:
        if not sizes.get(name):
            raise RecipeError(f"train.mixing.weights: no training row is of a group '{name}'. {nearest(name, sizes)}")
    if missing := sorted(sizes.keys() - weights.keys()):
        raise RecipeError(f"train.mixing.weights: the group '{missing[0]}' needs a weight too; {len(sizes)} groups: "
                          f"{', '.join(sorted(sizes))}")  # fmt: skip
