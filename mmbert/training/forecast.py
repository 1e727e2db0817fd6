"""What a run will take, from three timed steps that leave no trace in the model."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import mean
from typing import cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from mmbert.data.loader import LoaderOptions, batches, evaluation_batches
from mmbert.data.sampler import Shard
from mmbert.distributed import together
from mmbert.experiment.build import Built, build
from mmbert.experiment.trunk_cache import cache_features
from mmbert.model import MMBert
from mmbert.recipe.load import load_recipe
from mmbert.recipe.schema import resolve_steps
from mmbert.tracking.console import Console
from mmbert.training.launch import make_accelerator
from mmbert.training.memory import peak
from mmbert.training.step import accumulate_gradients, count_units
from mmbert.trunk.huggingface import HuggingFaceTrunk
from mmbert.types import Batch

STEPS = 3
CHEAPER = "top2"  # what is offered instead of a trunk that is tuned fully
SHORT = 120.0  # seconds: nobody wants a shorter run to be cheaper
WORTH = 0.8  # the cheaper run is offered where it takes less than this share of the time


@dataclass(frozen=True)
class Forecast:
    """Estimates of a whole run. The slowest process counts, and the one that needs most memory."""

    step: float  # seconds of a step, reading its rows included
    run: float  # seconds of all steps and evaluations
    memory: float  # bytes of a process at its peak, the optimiser's state included
    world: int
    cheaper: float | None = None  # seconds of the run with trunk.tune=top2; None where it is not worth it

    def sentence(self) -> str:
        """The forecast as a person reads it.

        >>> Forecast(step=0.5, run=4440, memory=1.9e9, world=1, cheaper=1500).sentence()
        'about 74 min, 1.9 GB; with --set trunk.tune=top2 about 25 min'
        """
        size = f"{self.memory / 1e9:.1f} GB" + (" a process" if self.world > 1 else "")
        offer = "" if self.cheaper is None else f"; with --set trunk.tune={CHEAPER} about {duration(self.cheaper)}"
        return f"about {duration(self.run)}, {size}{offer}"


def duration(seconds: float) -> str:
    """A time in the unit that a person would use.

    >>> duration(75), duration(4440)
    ('75 s', '74 min')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def forecast(
    model: nn.Module,
    batches: Sequence[Sequence[Batch]],
    accelerator: Accelerator,
    *,
    weights: dict[str, float],
    steps: int,
    seed: int,
    evaluation: Batch | None = None,
    evaluations: int = 0,
    reading: float = 0.0,
    workers: int = 0,
) -> Forecast:
    """Forward and backward of a few real steps, timed; called on all processes. Afterwards all is as before.

    Gradients are dropped, random states, buffers, modes and what learns are restored; no optimiser is touched, which
    takes one or two per cent more. In a world of several processes, reducing as many numbers as learn is timed by
    itself and added: an upper bound, since it overlaps with the backward. Memory is the peak on the GPU, else what the
    process has held at most; AdamW's two moments are added to it.

    Args:
        model: an ``MMBert``, wrapped for distribution or not.
        batches: the micro-batches of each of some steps (three do), this process's share.
        weights: of each task's loss.
        steps: the run's optimiser steps.
        seed: the run's.
        evaluation: a batch of an evaluation, of which the run has ``evaluations`` on a process.
        reading: seconds in which a step's rows are made, by the process itself or by ``workers`` beside it.

    What does not fit into memory raises as it would in training.
    """
    bare = cast(MMBert, accelerator.unwrap_model(model))
    device = accelerator.device
    reading = float(largest(accelerator, reading))  # so that all processes come to the same decisions

    def seconds(call: Callable[[], object]) -> float:
        """Of the slowest process."""
        accelerator.wait_for_everyone()
        _finish(device)
        start = time.perf_counter()
        call()
        _finish(device)
        return float(largest(accelerator, time.perf_counter() - start))

    def run_of() -> tuple[float, float]:
        """Seconds of a step and of the run."""
        bare.zero_grad()
        times = [seconds(lambda one=one: gradients(bare, one, accelerator, weights, seed)) for one in batches]
        step = typical(times) + (seconds(lambda: _reduce(bare, accelerator)) if accelerator.num_processes > 1 else 0.0)
        step = max(step, reading / workers) if workers else step + reading
        once = seconds(lambda: _evaluate(bare, evaluation, accelerator)) if evaluations else 0.0
        return step, step * steps + once * evaluations

    with _as_before(bare, device):
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        step, run = run_of()
        memory = float(largest(accelerator, peak(device) + _moments(bare)))
        cheaper = None
        if run > SHORT and isinstance(bare.trunk, HuggingFaceTrunk) and _fully(bare.trunk):
            with bare.trunk.tuned(CHEAPER):
                _, found = run_of()
            cheaper = found if found < WORTH * run else None
    return Forecast(step, run, memory, accelerator.num_processes, cheaper)


def typical(times: Sequence[float]) -> float:
    """The mean; the first is left out, as warm-up, where it took more than half again the longest of the others.

    >>> typical([9.0, 1.0, 3.0]), typical([3.0, 1.0, 2.0]), typical([5.0])
    (2.0, 2.0, 5.0)
    """
    first, *others = times
    return mean(others) if others and first > 1.5 * max(others) else mean(times)


@contextmanager
def _as_before(model: MMBert, device: torch.device) -> Iterator[None]:
    """Afterwards the model, its modes and the random states are what they were; gradients are gone."""
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    modes = [(module, module.training) for module in model.modules()]
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        model.train()
        try:
            yield
        finally:
            model.zero_grad()
            for module, training in modes:
                module.training = training
            with torch.no_grad():
                for buffer, kept in buffers:
                    buffer.copy_(kept)


def gradients(
    model: nn.Module, batches: Sequence[Batch], accelerator: Accelerator, weights: dict[str, float], seed: int
) -> None:
    """A training step up to its gradients."""
    units = count_units(cast(MMBert, accelerator.unwrap_model(model)), batches, accelerator.device)
    units = cast(Tensor, accelerator.reduce(units, reduction="sum"))
    with accelerator.autocast():
        accumulate_gradients(model, batches, units, weights, accelerator, seed=(seed, 0))


@torch.no_grad()
def _evaluate(model: MMBert, batch: Batch | None, accelerator: Accelerator) -> None:
    if batch is None:  # the other processes have one more
        return
    model.eval()
    with accelerator.autocast():
        model.predict(batch.to(accelerator.device, next(model.parameters()).dtype))
    model.train()


def _reduce(model: MMBert, accelerator: Accelerator) -> None:
    count = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    accelerator.reduce(torch.zeros(count, device=accelerator.device), reduction="mean")


def _fully(trunk: HuggingFaceTrunk) -> bool:
    return len(trunk.layers) > int(CHEAPER[3:]) and all(one.requires_grad for one in trunk.model.parameters())


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def largest(accelerator: Accelerator, value: float) -> Tensor:
    """The largest of all processes' values."""
    return cast(Tensor, accelerator.gather(torch.tensor([value], device=accelerator.device))).max()


def _moments(model: MMBert) -> int:
    learning = (one for one in model.parameters() if one.requires_grad)
    return sum(2 * one.numel() * one.element_size() for one in learning)


def outlook(built: Built, accelerator: Accelerator, *, total: int, every: int) -> Forecast:
    """The forecast of a run of ``total`` further steps, evaluated after ``every`` steps; called on all processes.

    The model is moved to the accelerator's device and else left as it is; the batches of the first steps are read, and
    are read again when the run comes to them. It costs about three steps and one batch of an evaluation, twice as much
    where the trunk is tuned fully and the run is long. Raises on all where one cannot read its rows.
    """
    recipe = built.recipe
    shard = Shard(accelerator.process_index, accelerator.num_processes)
    loading = LoaderOptions(on_bad=built.bad.add)
    items = built.items("train")
    read, times, error = [], [], None
    try:
        accumulate = recipe.train.accumulate
        made = batches(built.plan(total), items, steps=STEPS, accumulate=accumulate, shard=shard, loading=loading)
        for _ in range(STEPS):
            start = time.perf_counter()
            read.append(next(made))
            times.append(time.perf_counter() - start)
        rows, size = built.items("validation"), recipe.evaluate.batch_size
        validation = next(evaluation_batches(rows, size, shard=shard, loading=loading), None)
    except Exception as caught:
        error, validation = caught, None
    together(error=error)  # the others would wait for this process
    model = built.model.to(accelerator.device)
    return forecast(
        model,
        read,
        accelerator,
        weights=model.weights,
        steps=total,
        seed=recipe.train.seed,
        evaluation=validation,
        evaluations=evaluations_of(built, total, every, accelerator.num_processes),
        reading=typical(times),
        workers=recipe.train.workers,
    )


def tell(path: str, overrides: Iterable[str]) -> None:
    """Print the forecast of a recipe, on this machine and in this world, without training it."""
    recipe = load_recipe(path, overrides).recipe
    accelerator = make_accelerator(recipe.train)
    built = build(recipe)
    if recipe.trunk.cache:
        cache_features(built, accelerator.device)
    total, every = resolve_steps(recipe, len(built.items("train")))
    found = outlook(built, accelerator, total=total, every=every)
    Console(speaks=accelerator.is_main_process).say(f"{path}: {total} steps of {found.step:.2g} s, {found.sentence()}")
    accelerator.end_training()


def evaluations_of(built: Built, total: int, every: int, world: int) -> int:
    """The batches that a process evaluates in a run: validation each time, test once, and once without each input."""
    rows = {split: math.ceil(sum(map(len, built.splits[split])) / world) for split in ("validation", "test")}
    size = built.recipe.evaluate.batch_size
    hidden = len(built.processors) if len(built.processors) > 1 else 0
    return math.ceil(total / every) * math.ceil(rows["validation"] / size) + (1 + hidden) * math.ceil(
        rows["test"] / size
    )
