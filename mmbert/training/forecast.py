"""Forecast of a run's time and memory, from three timed steps that leave the model unchanged.

From a recipe: ``print_forecast``; from an experiment: ``forecast_experiment``; from batches: ``forecast_from_batches``.
"""

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
from mmbert.distributed import all_reduce_or_raise
from mmbert.experiment.build import build
from mmbert.experiment.experiment import Experiment
from mmbert.experiment.trunk_cache import cache_features
from mmbert.model import MMBert
from mmbert.recipe.load import load_recipe
from mmbert.tracking.console import Console
from mmbert.training.launch import make_accelerator
from mmbert.training.memory import peak
from mmbert.training.step import accumulate_gradients, count_units
from mmbert.trunk.huggingface import HuggingFaceTrunk
from mmbert.types import Batch

STEPS = 3
CHEAPER = "top2"  # offered instead of tuning all layers of the trunk
SHORT = 120.0  # seconds: no cheaper variant is offered for a run shorter than this
SHARE = 0.8  # the cheaper run is offered where it takes less than this share of the time


@dataclass(frozen=True)
class Forecast:
    """Estimates of a whole run. The slowest process counts, and the one that needs most memory."""

    step: float  # seconds of a step, reading its rows included
    run: float  # seconds of all steps and evaluations
    memory: float  # bytes of a process at its peak, the optimiser's state included
    world: int
    cheaper: float | None = None  # seconds of the run with trunk.tune=top2; None where it saves too little

    def sentence(self) -> str:
        """The forecast in words.

        Example:
            >>> Forecast(step=0.5, run=4440, memory=1.9e9, world=1, cheaper=1500).sentence()
            'about 74 min, 1.9 GB; with --set trunk.tune=top2 about 25 min'
        """
        size = f"{self.memory / 1e9:.1f} GB" + (" a process" if self.world > 1 else "")
        offer = "" if self.cheaper is None else f"; with --set trunk.tune={CHEAPER} about {duration(self.cheaper)}"
        return f"about {duration(self.run)}, {size}{offer}"


def duration(seconds: float) -> str:
    """A time in seconds, minutes or hours, as text.

    Example:
        >>> duration(75), duration(4440)
        ('75 s', '74 min')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@dataclass(frozen=True)
class Workload:
    """What a run consists of: its training steps, evaluations and reading.

    Attributes:
        steps: optimiser steps.
        evaluation: a batch of an evaluation; None where this process has none.
        evaluations: the number of such batches on a process.
        reading: seconds in which a step's rows are made, by the process itself or by ``workers``.
        workers: data workers of a process.
    """

    steps: int
    evaluation: Batch | None = None
    evaluations: int = 0
    reading: float = 0.0
    workers: int = 0


def forecast_from_batches(
    model: nn.Module, batches: Sequence[Sequence[Batch]], accelerator: Accelerator, workload: Workload, *, seed: int
) -> Forecast:
    """Forecast a run from given batches, whose forward and backward are timed; called on all processes.

    The model is unchanged: gradients are dropped; random states, buffers, modes and ``requires_grad`` are restored. No
    optimiser step is taken; it would add one or two per cent. With several processes, an all-reduce of as many numbers
    as there are learning parameters is timed and added: an upper bound, since it overlaps with the backward pass.
    Memory is the peak on the GPU, else the peak resident size of the process, plus the two moments of AdamW.

    Args:
        model: an ``MMBert``, wrapped for distribution or not.
        batches: the micro-batches of each of some steps (three do), this process's share.
        accelerator: of this process.
        workload: of the run.
        seed: of the run.

    Raises:
        RuntimeError: as training would, if a step does not fit into memory.
    """
    bare, device = cast(MMBert, accelerator.unwrap_model(model)), accelerator.device
    reading = float(_largest(accelerator, workload.reading))  # so that all processes come to the same decisions

    def seconds(call: Callable[[], object]) -> float:
        """Of the slowest process."""
        accelerator.wait_for_everyone()
        _finish(device)
        start = time.perf_counter()
        call()
        _finish(device)
        return float(_largest(accelerator, time.perf_counter() - start))

    def time_run() -> tuple[float, float]:
        """Seconds of a step and of the run."""
        bare.zero_grad()
        times = [seconds(lambda step=step: gradients(bare, step, accelerator, seed)) for step in batches]
        step = typical(times) + (seconds(lambda: _reduce(bare, accelerator)) if accelerator.num_processes > 1 else 0.0)
        step = max(step, reading / workload.workers) if workload.workers else step + reading
        evaluation = 0.0
        if workload.evaluations:
            evaluation = seconds(lambda: _evaluate(bare, workload.evaluation, accelerator))
        return step, step * workload.steps + evaluation * workload.evaluations

    with _restored(bare, device):
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        step, run = time_run()
        memory = float(_largest(accelerator, peak(device) + _moments(bare)))
        cheaper = None
        if run > SHORT and isinstance(bare.trunk, HuggingFaceTrunk) and _tunes_all_layers(bare.trunk):
            with bare.trunk.tuning(CHEAPER):
                _, cheaper_run = time_run()
            cheaper = cheaper_run if cheaper_run < SHARE * run else None
    return Forecast(step, run, memory, accelerator.num_processes, cheaper)


def typical(times: Sequence[float]) -> float:
    """The mean time; the first is left out, as warm-up, where it is more than 1.5 times the longest of the rest.

    Example:
        >>> typical([9.0, 1.0, 3.0]), typical([3.0, 1.0, 2.0]), typical([5.0])
        (2.0, 2.0, 5.0)
    """
    first, *others = times
    return mean(others) if others and first > 1.5 * max(others) else mean(times)


@contextmanager
def _restored(model: MMBert, device: torch.device) -> Iterator[None]:
    """Context that restores buffers, modes and random states at its end and drops gradients."""
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
                for buffer, before in buffers:
                    buffer.copy_(before)


def gradients(model: nn.Module, batches: Sequence[Batch], accelerator: Accelerator, seed: int) -> None:
    """The gradients of a training step, without the optimiser's update.

    Args:
        model: an ``MMBert``, wrapped for distribution or not.
        batches: the step's micro-batches, this process's share.
        accelerator: of this process.
        seed: of the run.
    """
    bare = cast(MMBert, accelerator.unwrap_model(model))
    units = count_units(bare, batches, accelerator.device)
    units = cast(Tensor, accelerator.reduce(units, reduction="sum"))
    with accelerator.autocast():
        accumulate_gradients(model, batches, units, bare.loss_weights, accelerator, seed=(seed, 0))


@torch.no_grad()
def _evaluate(model: MMBert, batch: Batch | None, accelerator: Accelerator) -> None:
    if batch is None:  # this process has fewer rows than the others
        return
    model.eval()
    with accelerator.autocast():
        model.predict(batch.to(accelerator.device, next(model.parameters()).dtype))
    model.train()


def _reduce(model: MMBert, accelerator: Accelerator) -> None:
    count = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    accelerator.reduce(torch.zeros(count, device=accelerator.device), reduction="mean")


def _tunes_all_layers(trunk: HuggingFaceTrunk) -> bool:
    return len(trunk.layers) > int(CHEAPER[3:]) and all(weight.requires_grad for weight in trunk.model.parameters())


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _largest(accelerator: Accelerator, value: float) -> Tensor:
    """The largest of all processes' values."""
    return cast(Tensor, accelerator.gather(torch.tensor([value], device=accelerator.device))).max()


def _moments(model: MMBert) -> int:
    learning = (weight for weight in model.parameters() if weight.requires_grad)
    return sum(2 * weight.numel() * weight.element_size() for weight in learning)


def forecast_experiment(experiment: Experiment, accelerator: Accelerator, *, steps: int) -> Forecast:
    """Forecast the training of an experiment, from its first batches; called on all processes.

    The model is moved to the accelerator's device and otherwise unchanged. The batches of the first steps are read here
    and again by the run itself. The cost is about three steps and one batch of an evaluation, twice as much where all
    layers of the trunk are tuned and the run is long.

    Args:
        experiment: to be trained.
        accelerator: of this process.
        steps: that the run still has to take.

    Raises:
        Exception: on all processes, if one of them cannot read its rows.
    """
    recipe, dataset = experiment.recipe, experiment.dataset("train")
    shard = Shard(accelerator.process_index, accelerator.num_processes)
    options = {"shard": shard, "loading": LoaderOptions(on_bad=experiment.bad_samples.add)}
    first_steps, times, error = [], [], None
    try:
        training = batches(experiment.plan(), dataset, steps=STEPS, accumulate=recipe.train.accumulate, **options)
        for _ in range(STEPS):
            start = time.perf_counter()
            first_steps.append(next(training))
            times.append(time.perf_counter() - start)
        validation = experiment.dataset("validation")
        evaluation = next(evaluation_batches(validation, recipe.evaluate.batch_size, **options), None)
    except Exception as caught:
        error, evaluation = caught, None
    all_reduce_or_raise(error=error)  # the others would wait for this process
    workload = Workload(
        steps=steps,
        evaluation=evaluation,
        evaluations=count_evaluation_batches(experiment, steps, accelerator.num_processes),
        reading=typical(times),
        workers=recipe.train.workers,
    )
    model = experiment.model.to(accelerator.device)
    return forecast_from_batches(model, first_steps, accelerator, workload, seed=recipe.train.seed)


def print_forecast(path: str, overrides: Iterable[str]) -> None:
    """Print the forecast of a recipe file, for this machine and number of processes (``mmbert check --forecast``).

    Args:
        path: of the recipe.
        overrides: ``section.key=value``, as ``--set`` takes them.
    """
    recipe = load_recipe(path, overrides).recipe
    accelerator = make_accelerator(recipe.train)
    experiment = build(recipe)
    if recipe.trunk.cache:
        cache_features(experiment, accelerator.device)
    steps = experiment.total_steps
    estimate = forecast_experiment(experiment, accelerator, steps=steps)
    console = Console(speaks=accelerator.is_main_process)
    console.say(f"{path}: {steps} steps of {estimate.step:.2g} s, {estimate.sentence()}")
    accelerator.end_training()


def count_evaluation_batches(experiment: Experiment, steps: int, world: int) -> int:
    """The number of batches that a process evaluates in a run.

    Validation counts each time, test once and once more without each input.

    Args:
        experiment: to be trained.
        steps: of the run.
        world: the number of processes.
    """
    rows = {split: math.ceil(sum(map(len, experiment.splits[split])) / world) for split in ("validation", "test")}
    size, inputs = experiment.recipe.evaluate.batch_size, len(experiment.processors.inputs)
    validations = math.ceil(steps / min(steps, experiment.evaluation_interval)) * math.ceil(rows["validation"] / size)
    return validations + (1 + (inputs if inputs > 1 else 0)) * math.ceil(rows["test"] / size)
