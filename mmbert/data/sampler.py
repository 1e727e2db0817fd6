"""Which samples a training step reads: a pure function of the step, whatever the number of processes and workers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mmbert.data.keyed_random import generator
from mmbert.errors import DataError, RecipeError, nearest

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

    def proportions(self, epoch: int) -> np.ndarray:
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
            self._due = self._due + size * self.proportions(len(self._drawn) - 1)
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


@dataclass(frozen=True, slots=True)
class Shard:
    """The part of all samples that one process reads: that of process ``rank`` of ``world`` processes."""

    rank: int = 0
    world: int = 1


ALL = Shard()  # of a single process: everything


def count_pieces(batch_size: int, world: int, accumulate: int) -> int:
    """Into how many equal pieces a batch is cut. Raises ``RecipeError`` where it cannot be."""
    pieces = world * accumulate
    if batch_size % pieces:
        below = batch_size // pieces * pieces
        nearest = " or ".join(str(size) for size in (below, below + pieces) if size)
        raise RecipeError(
            f"train.batch_size must be a multiple of processes x accumulate = {world} x {accumulate}, found "
            f"{batch_size}. Nearest: {nearest}"
        )
    return pieces


class StepPlan:
    """A seeded permutation of all samples an epoch, cut into batches.

    ``size`` is the number of samples of all sources together, which are therefore mixed in proportion to their sizes.
    The permutations follow each other without a gap, so a batch may end one epoch and begin the next, and each epoch
    draws each sample once. ``batch_size`` counts the samples of a step over all processes and micro-batches.

    With a ``mixture`` of these samples an epoch has as many draws, but each group its share of them; what a draw tells
    besides the position, the key of random choices, is how often the group was read through before.

    >>> plan = StepPlan(seed=0, size=3, batch_size=2)
    >>> sorted(draw for step in range(3) for draw in plan.batch(step))
    [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]
    """

    def __init__(self, seed: int, size: int, batch_size: int, mixture: Mixture | None = None):
        if size < 1:
            raise DataError("there are no training samples")
        self.seed, self.size, self.batch_size = seed, size, batch_size
        self.mixture = mixture
        self._orders: dict[int, Epoch] = {}

    def batch(self, step: int) -> list[tuple[int, int]]:
        """The position and epoch of each sample of a step, counted from 0."""
        first = step * self.batch_size
        draws = []
        for draw in range(first, first + self.batch_size):
            epoch, place = divmod(draw, self.size)
            positions, passes = self._order(epoch)
            draws.append((int(positions[place]), int(passes[place])))
        return draws

    def micro_batches(self, step: int, shard: Shard = ALL, accumulate: int = 1) -> list[list[tuple[int, int]]]:
        """The share of a step that a process reads, in ``accumulate`` pieces; over all ranks they are ``batch(step)``.

        Raises ``RecipeError`` where the batch cannot be cut into equal pieces.
        """
        pieces = count_pieces(self.batch_size, shard.world, accumulate)
        draws, size = self.batch(step), self.batch_size // pieces
        starts = [(micro * shard.world + shard.rank) * size for micro in range(accumulate)]
        return [draws[start : start + size] for start in starts]

    def _order(self, epoch: int) -> Epoch:
        if epoch not in self._orders:
            self._orders = {kept: order for kept, order in self._orders.items() if kept == epoch - 1}
            self._orders[epoch] = self._permuted(epoch) if self.mixture is None else self.mixture.epoch(epoch)
        return self._orders[epoch]

    def _permuted(self, epoch: int) -> Epoch:
        # sorting raw words, whose stream numpy guarantees for ever: Generator.permutation may change with a version
        words = np.random.PCG64([self.seed, epoch]).random_raw(self.size)
        return np.argsort(words, kind="stable"), np.broadcast_to(np.int64(epoch), self.size)
