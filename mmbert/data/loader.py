"""Batches made ahead by data workers: for training after a step plan, for evaluation over a split."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection, forkserver, resource_tracker
from multiprocessing.context import BaseContext
from typing import Any, cast

import torch
from torch.utils.data import DataLoader

from mmbert.data.collate import describe_row
from mmbert.data.sample_dataset import Draw, SampleDataset
from mmbert.data.sampler import ALL, Shard, StepPlan
from mmbert.data.worker import BatchDataset, FailedBatch
from mmbert.errors import ResourceError, SampleError
from mmbert.types import Batch

OnBad = Callable[[SampleError], None]  # is told of a bad sample, and may raise
STOPPING = {signal.SIGTERM, signal.SIGUSR1}
SHOWN = 16  # samples that an error names at most


@dataclass(frozen=True, slots=True)
class LoaderOptions:
    """How batches are loaded; none of it changes what they hold.

    Args:
        workers: processes that make batches ahead; 0 makes them in this process.
        pin_memory: whether tensors are put into page-locked memory, from which they get to a GPU faster.
        on_bad: called with each bad sample, and may raise; by default the error is raised.
    """

    workers: int = 0
    pin_memory: bool = False
    on_bad: OnBad | None = None


DEFAULTS = LoaderOptions()


def batches(
    plan: StepPlan,
    items: SampleDataset,
    *,
    steps: int,
    start: int = 0,
    accumulate: int = 1,
    shard: Shard = ALL,
    loading: LoaderOptions = DEFAULTS,
) -> Iterator[list[Batch]]:
    """The micro-batches of this process, ``accumulate`` in a list, for each step from ``start`` up to ``steps``.

    To resume is to give another ``start``. What is read does not depend on ``workers``. Raises ``RecipeError`` where
    the batch cannot be shared, and ``ResourceError`` where a worker dies.

    A bad sample is raised as ``SampleError`` at the step that reads it or, where ``on_bad`` is given, handed to that:
    the sample keeps its place in the batch, without inputs and labels, so that processes stay in step.
    """
    plan.micro_batches(start, shard, accumulate)  # raises now rather than at the first step
    made = _loaded(items, _MicroBatches(plan, range(start, steps), shard, accumulate), loading)
    return ([next(made) for _ in range(accumulate)] for _ in range(start, steps))


def evaluation_batches(
    items: SampleDataset,
    batch_size: int,
    *,
    shard: Shard = ALL,
    loading: LoaderOptions = DEFAULTS,
) -> Iterator[Batch]:
    """The items of this process in order, without randomness: over all ranks each item is there exactly once.

    A process reads the positions rank, rank + world, ...: none is padded or repeated, so one process may have a
    batch more than another, or none. Bad samples and dead workers are told as by ``batches``.
    """
    positions = range(shard.rank, len(items), shard.world)
    starts = range(0, len(positions), batch_size)
    draws = ([(position, None) for position in positions[at : at + batch_size]] for at in starts)
    return _loaded(items, draws, loading)


class _MicroBatches:
    """The draws of each micro-batch of a process, worked out when it is their turn."""

    def __init__(self, plan: StepPlan, steps: range, shard: Shard, accumulate: int):
        self.plan, self.steps, self.shard, self.accumulate = plan, steps, shard, accumulate

    def __len__(self) -> int:
        return len(self.steps) * self.accumulate

    def __iter__(self) -> Iterator[Sequence[Draw]]:
        for step in self.steps:
            yield from self.plan.micro_batches(step, self.shard, self.accumulate)


class _Asked:
    """Draws on their way to the workers, which remembers those that have not come back."""

    def __init__(self, draws: Iterable[Sequence[Draw]]):
        self.draws, self.waiting = draws, deque[Sequence[Draw]]()

    def __iter__(self) -> Iterator[Sequence[Draw]]:
        for draws in self.draws:
            self.waiting.append(draws)
            yield draws


def _loaded(items: SampleDataset, draws: Iterable[Sequence[Draw]], loading: LoaderOptions) -> Iterator[Batch]:
    asked, workers = _Asked(draws), loading.workers
    loader = DataLoader(
        BatchDataset(items, tolerant=loading.on_bad is not None),
        sampler=cast(Any, asked),
        batch_size=None,
        collate_fn=_unchanged,
        worker_init_fn=_apart if workers else None,
        num_workers=workers,
        multiprocessing_context=_server(items) if workers and torch.distributed.is_initialized() else None,
        prefetch_factor=4 if workers else None,
        pin_memory=loading.pin_memory,
        generator=torch.Generator(),  # of its own: the loader would draw a seed from the global one
    )
    with _no_interruption():
        made = iter(loader)
    while True:
        try:
            one = next(made, None)
        except (RuntimeError, OSError) as error:  # what reading raises comes as a Failure
            raise _gave_out(items, asked.waiting, str(error)) from error
        if one is None:
            return
        if isinstance(one, FailedBatch):
            if one.resource:
                raise _gave_out(items, asked.waiting, str(one.error)) from one.error
            if one.told:
                raise one.error from RuntimeError(f"in a worker:\n{one.told}")
            raise one.error
        asked.waiting.popleft()
        for bad in one.bad:
            cast(OnBad, loading.on_bad)(bad)
        yield one.batch


def _server(items: SampleDataset) -> BaseContext:
    """Lets workers start from a process that does nothing else.

    A process group has threads of its own, and a lock that one of them holds at the moment of a fork is never released
    in the worker: it would wait for ever, and the run with it.
    """
    context = multiprocessing.get_context("forkserver")
    parts = {type(part).__module__ for part in (*items.processors.values(), *items.labels.values())}
    context.set_forkserver_preload([BatchDataset.__module__, *sorted(parts)])  # imported once, not by each worker
    resource_tracker.ensure_running()  # the server would start it now, which unblocks signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)  # which the server inherits: see _apart
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return context


@contextmanager
def _no_interruption() -> Iterator[None]:
    """Leaves the handler of SIGCHLD as it was.

    The loader's own would raise the death of a worker anywhere in the training step; where a batch is waited for, the
    loader sees it by itself within five seconds.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, handler)


def _apart(_: int) -> None:
    """Bind a worker to its run alone: it ends with it, and not by what a launcher tells the whole group."""
    threading.Thread(target=_end_with_the_run, daemon=True).start()
    os.setpgrp()
    for one in STOPPING:
        signal.signal(one, signal.SIG_IGN)  # forgets what came before this
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # by which the loader ends it


def _end_with_the_run() -> None:
    """The loader's own watch is for the parent, which may be the server: that one would wait for the worker in turn."""
    if (run := multiprocessing.parent_process()) is not None:
        connection.wait([run.sentinel])
        os._exit(1)


def _gave_out(items: SampleDataset, waiting: Iterable[Sequence[Draw]], reason: str) -> ResourceError:
    asked = [draw for draws in waiting for draw in draws]
    names = []
    for position, _ in asked[:SHOWN]:
        try:
            sample = items.sample(position)
            names.append(f"{sample.id} of {describe_row(sample)}")
        except SampleError as error:
            names.append(error.row)
    more = f" and {len(asked) - SHOWN} more" if len(asked) > SHOWN else ""
    reason = reason.strip().partition("\n")[0]
    return ResourceError(
        f"a process that loads data gave out: {reason}\n"
        f"The samples asked for last, by id: {', '.join(names)}{more}\n"
        "It may have been out of memory, or of shared memory: `--set train.workers=0` needs neither; "
        "`df -h /dev/shm` shows the latter, which containers limit (docker run --shm-size=8g)"
    )


def _unchanged(made: Any) -> Any:
    return made
