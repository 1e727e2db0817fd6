"""Batches made ahead by data workers: for training after a step plan, for evaluation over a split."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from mmbert.data.items import Draw, Items
from mmbert.data.plan import StepPlan
from mmbert.errors import DataError
from mmbert.types import Batch


def batches(
    plan: StepPlan,
    items: Items,
    *,
    steps: int,
    start: int = 0,
    rank: int = 0,
    world: int = 1,
    accumulate: int = 1,
    workers: int = 0,
    pin_memory: bool = False,
) -> Iterator[list[Batch]]:
    """The micro-batches of this process, ``accumulate`` in a list, for each step from ``start`` up to ``steps``.

    To resume is to give another ``start``. What is read does not depend on ``workers``. Raises ``RecipeError`` where
    the batch cannot be shared, and ``SampleError`` at the step that reads a bad value.
    """
    plan.micro_batches(start, rank, world, accumulate)  # raises now rather than at the first step
    share = _Share(plan, range(start, steps), rank, world, accumulate)
    made = _loaded(items, share, workers, pin_memory)
    return ([next(made) for _ in range(accumulate)] for _ in range(start, steps))


def evaluation_batches(
    items: Items, batch_size: int, *, rank: int = 0, world: int = 1, workers: int = 0, pin_memory: bool = False
) -> Iterator[Batch]:
    """The items of this process in order, without randomness: over all ranks each item is there exactly once.

    Process ``rank`` reads the positions rank, rank + world, ...: none is padded or repeated, so one process may have a
    batch more than another, or none.
    """
    positions = range(rank, len(items), world)
    starts = range(0, len(positions), batch_size)
    draws: list[list[Draw]] = [[(position, None) for position in positions[at : at + batch_size]] for at in starts]
    return _loaded(items, draws, workers, pin_memory)


class _Share:
    """The draws of each micro-batch of a process, worked out when it is their turn."""

    def __init__(self, plan: StepPlan, steps: range, rank: int, world: int, accumulate: int):
        self.plan, self.steps, self.rank, self.world, self.accumulate = plan, steps, rank, world, accumulate

    def __len__(self) -> int:
        return len(self.steps) * self.accumulate

    def __iter__(self) -> Iterator[Sequence[Draw]]:
        for step in self.steps:
            yield from self.plan.micro_batches(step, self.rank, self.world, self.accumulate)


class _Batches(Dataset):
    """A whole batch for an index: what a worker makes in one go."""

    def __init__(self, items: Items):
        self.items = items

    def __getitem__(self, draws: Sequence[Draw]) -> Batch | DataError:
        try:
            return self.items.batch(draws)
        except DataError as error:
            return error  # raised again in the main process, without the worker's traceback in its message


def _loaded(items: Items, draws: Any, workers: int, pin_memory: bool) -> Iterator[Batch]:
    loader = DataLoader(
        _Batches(items),
        sampler=draws,
        batch_size=None,
        collate_fn=_unchanged,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        pin_memory=pin_memory,
        generator=torch.Generator(),  # of its own: the loader would draw a seed from the global one
    )
    for made in loader:
        if isinstance(made, DataError):
            raise made
        yield made


def _unchanged(made: Any) -> Any:
    return made
