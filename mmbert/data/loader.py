"""Batches for training, by a step plan, and for evaluation, over a split; data workers make them ahead."""

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

OnBad = Callable[[SampleError], None]  # called with a bad sample's error; may raise
STOP_SIGNALS = {signal.SIGTERM, signal.SIGUSR1}
MAX_SHOWN = 16  # samples that an error names at most


@dataclass(frozen=True, slots=True)
class LoaderOptions:
    """How batches are loaded. No option changes what a batch holds, except for bad samples.

    Args:
        workers: processes that make batches ahead; 0 makes them in this process.
        pin_memory: put tensors into page-locked memory, which is copied to a GPU faster.
        on_bad: called with the error of each bad sample. The sample keeps its place in the batch, without inputs and
            labels, so that processes stay in step. None: the error is raised.
    """

    workers: int = 0
    pin_memory: bool = False
    on_bad: OnBad | None = None


DEFAULTS = LoaderOptions()


def batches(
    plan: StepPlan,
    dataset: SampleDataset,
    *,
    steps: int,
    start: int = 0,
    accumulate: int = 1,
    shard: Shard = ALL,
    loading: LoaderOptions = DEFAULTS,
) -> Iterator[list[Batch]]:
    """The training batches of this process, step by step.

    Args:
        plan: the samples of each step.
        dataset: the training samples.
        steps: the step to end before.
        start: the first step; a resumed run starts later.
        accumulate: micro-batches a step.
        shard: this process.
        loading: how batches are loaded.

    Returns:
        An iterator over lists of ``accumulate`` micro-batches, one list for each step.

    Raises:
        RecipeError: at once, where the batch size is not a multiple of processes x ``accumulate``.
        SampleError: at the step that reads a bad sample, without ``loading.on_bad``.
        ResourceError: at the step in which a worker dies.
    """
    plan.micro_batches(start, shard, accumulate)  # raises now rather than at the first step
    loaded = _load(dataset, _MicroBatchDraws(plan, range(start, steps), shard, accumulate), loading)
    return ([next(loaded) for _ in range(accumulate)] for _ in range(start, steps))


def evaluation_batches(
    dataset: SampleDataset,
    batch_size: int,
    *,
    shard: Shard = ALL,
    loading: LoaderOptions = DEFAULTS,
) -> Iterator[Batch]:
    """The samples of this process in order, without randomness. Over all processes each sample comes exactly once.

    A process reads the positions rank, rank + world, ... Nothing is padded or repeated, so the number of batches may
    differ between processes, and may be 0.

    Args:
        dataset: the samples.
        batch_size: samples a batch; the last batch may be smaller.
        shard: this process.
        loading: how batches are loaded.

    Raises:
        SampleError: at the batch with a bad sample, without ``loading.on_bad``.
        ResourceError: at the batch for which a worker dies.
    """
    positions = range(shard.rank, len(dataset), shard.world)
    starts = range(0, len(positions), batch_size)
    draws = ([(position, None) for position in positions[start : start + batch_size]] for start in starts)
    return _load(dataset, draws, loading)


class _MicroBatchDraws:
    """The draws of each micro-batch of a process, computed one at a time."""

    def __init__(self, plan: StepPlan, steps: range, shard: Shard, accumulate: int):
        self.plan, self.steps, self.shard, self.accumulate = plan, steps, shard, accumulate

    def __len__(self) -> int:
        return len(self.steps) * self.accumulate

    def __iter__(self) -> Iterator[Sequence[Draw]]:
        for step in self.steps:
            yield from self.plan.micro_batches(step, self.shard, self.accumulate)


class _PendingDraws:
    """Hands draws to the workers and remembers those whose batches have not come back."""

    def __init__(self, draws: Iterable[Sequence[Draw]]):
        self.draws, self.pending = draws, deque[Sequence[Draw]]()

    def __iter__(self) -> Iterator[Sequence[Draw]]:
        for draws in self.draws:
            self.pending.append(draws)
            yield draws


def _load(dataset: SampleDataset, draws: Iterable[Sequence[Draw]], loading: LoaderOptions) -> Iterator[Batch]:
    requests, workers = _PendingDraws(draws), loading.workers
    loader = DataLoader(
        BatchDataset(dataset, tolerant=loading.on_bad is not None),
        sampler=cast(Any, requests),
        batch_size=None,
        collate_fn=_identity,
        worker_init_fn=_isolate_worker if workers else None,
        num_workers=workers,
        multiprocessing_context=_forkserver(dataset) if workers and torch.distributed.is_initialized() else None,
        prefetch_factor=4 if workers else None,
        pin_memory=loading.pin_memory,
        generator=torch.Generator(),  # otherwise the loader draws a seed from the global generator
    )
    with _child_signal_handler_kept():
        results = iter(loader)
    while True:
        try:
            result = next(results, None)
        except (RuntimeError, OSError) as error:  # an error of reading comes as a FailedBatch
            raise _worker_failed(dataset, requests.pending, str(error)) from error
        if result is None:
            return
        if isinstance(result, FailedBatch):
            if result.out_of_memory:
                raise _worker_failed(dataset, requests.pending, str(result.error)) from result.error
            if result.traceback:
                raise result.error from RuntimeError(f"in a worker:\n{result.traceback}")
            raise result.error
        requests.pending.popleft()
        for error in result.bad:
            cast(OnBad, loading.on_bad)(error)
        yield result.batch


def _forkserver(dataset: SampleDataset) -> BaseContext:
    """The context in which workers are forked by a server process instead of this one.

    A process group has threads. A lock that one of them holds at the moment of a fork is never released in the forked
    worker, which would hang.
    """
    context = multiprocessing.get_context("forkserver")
    modules = {
        type(part).__module__ for part in (*dataset.processors.inputs.values(), *dataset.processors.targets.values())
    }
    context.set_forkserver_preload([BatchDataset.__module__, *sorted(modules)])  # imported once, not by each worker
    resource_tracker.ensure_running()  # now, since the server would start it and unblock the signals
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)  # inherited by the server: see _isolate_worker
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return context


@contextmanager
def _child_signal_handler_kept() -> Iterator[None]:
    """Restore the handler of SIGCHLD.

    The handler that DataLoader installs would raise the death of a worker anywhere in the training step. Without it,
    the loader still notices within five seconds when it waits for a batch.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, handler)


def _isolate_worker(_: int) -> None:
    """Let a worker end with its run, and not by a signal that a launcher sends to the whole process group."""
    threading.Thread(target=_exit_with_the_run, daemon=True).start()
    os.setpgrp()
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # discards a pending signal
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the loader ends workers with it


def _exit_with_the_run() -> None:
    """Exit when the run does. DataLoader watches the parent only: maybe the server, which waits for its workers."""
    if (run := multiprocessing.parent_process()) is not None:
        connection.wait([run.sentinel])
        os._exit(1)


def _worker_failed(dataset: SampleDataset, pending: Iterable[Sequence[Draw]], reason: str) -> ResourceError:
    draws = [draw for draws in pending for draw in draws]
    names = []
    for position, _ in draws[:MAX_SHOWN]:
        try:
            sample = dataset.sample(position)
            names.append(f"{sample.id} of {describe_row(sample)}")
        except SampleError as error:
            names.append(error.row)
    more = f" and {len(draws) - MAX_SHOWN} more" if len(draws) > MAX_SHOWN else ""
    reason = reason.strip().partition("\n")[0]
    return ResourceError(
        f"a data worker failed: {reason}\n"
        f"The samples requested last, by id: {', '.join(names)}{more}\n"
        "Memory or shared memory may be full: `--set train.workers=0` needs neither; "
        "`df -h /dev/shm` shows the latter, which containers limit (docker run --shm-size=8g)"
    )


def _identity(batch: Any) -> Any:
    return batch
