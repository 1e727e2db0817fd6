"""The samples of each training step: a pure function of the step, for any number of processes and workers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mmbert.data.keyed_random import generator
from mmbert.errors import DataError, RecipeError, nearest

# [size] int64 each: the positions that an epoch draws, and for each the earlier passes through its group
EpochOrder = tuple[np.ndarray, np.ndarray]


class Mixture:
    """The samples that an epoch draws when groups of samples have proportions of their own.

    An epoch has as many draws as there are samples. Samples of a group come in seeded permutations, each once before
    any comes again; the groups are interleaved by a seeded permutation. The draws of a group follow its proportion by
    cumulative rounding: after any number of epochs they are within about one of their part of all draws, and exact
    where that part is a whole number.

    Args:
        seed: the key of all permutations; those of a group depend on no other group.
        groups: [size] int64, the group of each position, as an index into ``names``.
        names: the names of the groups.
        weights: the proportion of each group, up to a common factor.
        alpha: without weights, proportions of size ** alpha: 1 is proportional to size, 0 is equal for all, 1 / T is a
            temperature T. A pair goes linearly from its first value, in the first epoch, to its second, in the last.
        epochs: the epochs of the whole run, for a pair.

    Raises:
        RecipeError: where ``weights`` do not name exactly the groups.

    Reference:
        Conneau and Lample, "Cross-lingual language model pretraining", 2019 (alpha).

    Example:
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
            _check_weights(weights, dict(zip(self.names, self.sizes.tolist(), strict=True)))
        self._members = np.split(np.argsort(groups, kind="stable"), np.cumsum(self.sizes)[:-1])
        self._drawn = [np.zeros(len(self.names), dtype=np.int64)]  # before each epoch, by group
        self._due = np.zeros(len(self.names))  # the exact draws, in fractions, before the last of these epochs

    def proportions(self, epoch: int) -> np.ndarray:
        """The part of an epoch's draws that each group has: [groups] float64, with sum 1."""
        if self.weights is not None:
            parts = np.array([self.weights[name] for name in self.names])
        else:
            progress = min(epoch / (self.epochs - 1), 1.0) if self.epochs > 1 else 1.0
            alpha = self.alpha[0] + (self.alpha[1] - self.alpha[0]) * progress
            parts = (self.sizes / self.sizes.sum()) ** alpha
        return (parts / parts.sum()).round(12)  # the last digits of a power differ between machines

    def epoch(self, epoch: int) -> EpochOrder:
        """The positions that an epoch draws, in order, and for each the number of earlier passes through its group."""
        before, after = self._drawn_before(epoch), self._drawn_before(epoch + 1)
        order = generator(self.seed, epoch, "mixture").bit_generator.random_raw(int(self.sizes.sum()))
        places = np.split(np.argsort(order, kind="stable"), np.cumsum(after - before)[:-1])
        positions, passes = np.empty((2, len(order)), dtype=np.int64)
        for group, (first, end) in enumerate(zip(before.tolist(), after.tolist(), strict=True)):
            slots = np.sort(places[group])
            passes[slots], place = np.divmod(np.arange(first, end), self.sizes[group])
            for pass_number in np.unique(passes[slots]):
                chosen = passes[slots] == pass_number
                order = self._order(group, int(pass_number))
                positions[slots[chosen]] = self._members[group][order[place[chosen]]]
        return positions, passes

    def _order(self, group: int, pass_number: int) -> np.ndarray:
        # sorts raw words, whose stream numpy guarantees for ever, as StepPlan does
        words = generator(self.seed, pass_number, "mixture", self.names[group]).bit_generator
        return np.argsort(words.random_raw(int(self.sizes[group])), kind="stable")

    def _drawn_before(self, epoch: int) -> np.ndarray:
        while len(self._drawn) <= epoch:
            size, drawn = int(self.sizes.sum()), self._drawn[-1]
            self._due = self._due + size * self.proportions(len(self._drawn) - 1)
            owed = (self._due - drawn).clip(min=0)
            owed *= size / owed.sum()
            counts = np.floor(owed + 1e-6).astype(np.int64)
            rest = np.argsort(counts - owed, kind="stable")[: size - counts.sum()]  # the groups that are owed most
            counts[rest] += 1
            self._drawn.append(drawn + counts)
        return self._drawn[epoch]


def _check_weights(weights: Mapping[str, float], sizes: Mapping[str, int]) -> None:
    for name in weights:
        if not sizes.get(name):
            raise RecipeError(f"train.mixing.weights: no training row is of a group '{name}'. {nearest(name, sizes)}")
    if missing := sorted(sizes.keys() - weights.keys()):
        groups = ", ".join(sorted(sizes))
        raise RecipeError(
            f"train.mixing.weights: the group '{missing[0]}' needs a weight too; {len(sizes)} groups: {groups}"
        )


@dataclass(frozen=True, slots=True)
class Shard:
    """The part of all samples that one process reads.

    Args:
        rank: the number of the process, from 0.
        world: the number of processes.
    """

    rank: int = 0
    world: int = 1


ALL = Shard()  # of a single process


def count_pieces(batch_size: int, world: int, accumulate: int) -> int:
    """The number of equal pieces into which a batch is cut: a micro-batch of a process each.

    Args:
        batch_size: samples of all processes and micro-batches.
        world: the number of processes.
        accumulate: micro-batches of each process.

    Raises:
        RecipeError: where the pieces would not be equal, with the nearest batch sizes.
    """
    pieces = world * accumulate
    if batch_size % pieces:
        below = batch_size // pieces * pieces
        sizes = " or ".join(str(size) for size in (below, below + pieces) if size)
        raise RecipeError(
            f"train.batch_size must be a multiple of processes x accumulate = {world} x {accumulate}, found "
            f"{batch_size}. Nearest: {sizes}"
        )
    return pieces


class StepPlan:
    """A seeded permutation of all samples for each epoch, cut into batches.

    The permutations follow each other without a gap: a batch may end one epoch and begin the next, and each epoch draws
    each sample once. With a mixture, an epoch has as many draws, but each group has its proportion of them.

    Args:
        seed: the key of the permutations.
        size: the samples of all sources together, which are thus mixed in proportion to their sizes.
        batch_size: samples of a step, over all processes and micro-batches.
        mixture: proportions of groups of these samples.

    Example:
        >>> plan = StepPlan(seed=0, size=3, batch_size=2)
        >>> sorted(draw for step in range(3) for draw in plan.batch(step))
        [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]
    """

    def __init__(self, seed: int, size: int, batch_size: int, mixture: Mixture | None = None):
        if size < 1:
            raise DataError("there are no training samples")
        self.seed, self.size, self.batch_size = seed, size, batch_size
        self.mixture = mixture
        self._orders: dict[int, EpochOrder] = {}

    def batch(self, step: int) -> list[tuple[int, int]]:
        """Pairs (position, epoch) of a step.

        With a mixture, the second number is how often the sample's group was read through before.
        """
        first = step * self.batch_size
        draws = []
        for draw in range(first, first + self.batch_size):
            epoch, place = divmod(draw, self.size)
            positions, passes = self._order(epoch)
            draws.append((int(positions[place]), int(passes[place])))
        return draws

    def micro_batches(self, step: int, shard: Shard = ALL, accumulate: int = 1) -> list[list[tuple[int, int]]]:
        """The draws of a step that one process reads, in micro-batches; those of all processes make ``batch(step)``.

        Args:
            step: counted from 0.
            shard: the process.
            accumulate: the number of micro-batches.

        Raises:
            RecipeError: where the batch cannot be cut into equal pieces.
        """
        pieces = count_pieces(self.batch_size, shard.world, accumulate)
        draws, size = self.batch(step), self.batch_size // pieces
        starts = [(micro * shard.world + shard.rank) * size for micro in range(accumulate)]
        return [draws[start : start + size] for start in starts]

    def _order(self, epoch: int) -> EpochOrder:
        if epoch not in self._orders:
            self._orders = {number: order for number, order in self._orders.items() if number == epoch - 1}
            self._orders[epoch] = self._permutation(epoch) if self.mixture is None else self.mixture.epoch(epoch)
        return self._orders[epoch]

    def _permutation(self, epoch: int) -> EpochOrder:
        # sorts raw words, whose stream numpy guarantees for ever; Generator.permutation may change with a version
        words = np.random.PCG64([self.seed, epoch]).random_raw(self.size)
        return np.argsort(words, kind="stable"), np.broadcast_to(np.int64(epoch), self.size)
