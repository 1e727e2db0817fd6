"""Which samples a training step reads: a pure function of the step, whatever the number of processes and workers."""

import numpy as np

from mmbert.data.mixture import Epoch, Mixture
from mmbert.errors import DataError, RecipeError


def shares(batch_size: int, world: int, accumulate: int) -> int:
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

    def micro_batches(
        self, step: int, rank: int = 0, world: int = 1, accumulate: int = 1
    ) -> list[list[tuple[int, int]]]:
        """The share of a step that a process reads, in ``accumulate`` pieces; over all ranks they are ``batch(step)``.

        Raises ``RecipeError`` where the batch cannot be cut into equal pieces.
        """
        pieces = shares(self.batch_size, world, accumulate)
        draws, size = self.batch(step), self.batch_size // pieces
        starts = [(micro * world + rank) * size for micro in range(accumulate)]
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
