"""Throughput of each input's processor on one core, and the share of time that training waits for its data.

    python -m benchmarks.processors --ledger results/processors.csv

Three tables in one: processors on made-up values; processors on the values of recipes whose data is in the cache; and
for each recipe the share of the loop's time that it waits for the next batch, without a data worker and with one.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from encoders import ENCODERS
from mmbert.data.loader import LoaderOptions, batches
from mmbert.data.sampler import StepPlan
from mmbert.experiment.build import build
from mmbert.experiment.experiment import Experiment
from mmbert.experiment.splits import chained
from mmbert.recipe.load import load_recipe
from mmbert.recipe.serialize import recipe_hash
from mmbert.tracking.ledger import Measured, append_results
from mmbert.training.forecast import gradients
from mmbert.training.optimizer import make_optimizer

RECIPES = {
    "debug": [],
    "molecules": [],
    "stamps": [],
    "stamps without speech": ["inputs.speech=null"],
}
SECONDS = 2.0  # of each processor
VALUES = 200
WARM, STEPS = 3, 20


def samples_per_second(processor: Callable[..., Any], values: Sequence[Any]) -> float:
    """Samples per second, augmentation included.

    Args:
        processor: that is timed.
        values: raw values, repeated for ``SECONDS``.
    """
    for value in values[:3]:
        processor(value, np.random.default_rng(0))
    count, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < SECONDS:
        processor(values[count % len(values)], np.random.default_rng(count))
        count += 1
    return count / spent


def time_on_examples() -> Iterator[tuple[str, float]]:
    """(type of input, samples per second) on made-up values, for inputs that need no vocabulary."""
    for name in ENCODERS.names():
        processor = ENCODERS.get(name).processor()
        rng = np.random.default_rng(0)
        values = [ENCODERS.get(name).processor.example(rng) for _ in range(VALUES)]
        processor.fit(values)
        yield name, samples_per_second(processor, values)


def time_on_training_values(experiment: Experiment) -> Iterator[tuple[str, float]]:
    """(input, samples per second) on the first training values."""
    for name, processor in experiment.processors.inputs.items():
        samples = (sample.inputs for sample in chained(experiment.splits, "train") if name in sample.inputs)
        values = [inputs[name] for inputs, _ in zip(samples, range(VALUES), strict=False)]
        yield name, samples_per_second(processor, values)


def waiting_share(experiment: Experiment, workers: int) -> float:
    """The share of the time of a training loop in which it waits for a batch.

    Args:
        experiment: that is trained.
        workers: number of data workers.
    """
    recipe, model = experiment.recipe, experiment.model
    accelerator = Accelerator(cpu=True)
    optimizer = make_optimizer(model, recipe.optim)
    weights = {name: task.weight for name, task in model.tasks.items()}
    items = experiment.dataset("train")
    plan = StepPlan(recipe.train.seed, len(items), recipe.train.batch_size)
    steps = batches(plan, items, steps=WARM + STEPS, accumulate=recipe.train.accumulate, loading=LoaderOptions(workers))
    waited = start = 0.0
    for step in range(WARM + STEPS):
        if step == WARM:
            waited, start = 0.0, time.perf_counter()
        before = time.perf_counter()
        batch = next(steps)
        waited += time.perf_counter() - before
        gradients(model, batch, accelerator, weights, step)
        optimizer.step()
        optimizer.zero_grad()
    return waited / (time.perf_counter() - start)


def main() -> int:
    """Time all processors and training loops, print and append the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ledger")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'arm':<34} {'task':<14} {'metric':<18} value")

    def report(arm: str, task: str, metric: str, value: float, recipe: str = "") -> None:
        print(f"{arm:<34} {task:<14} {metric:<18} {value:.3g}", flush=True)
        if arguments.ledger:
            append_results(arguments.ledger, {arm: {task: {metric: value}}}, Measured("processors", 0, "train", recipe))

    for name, speed in time_on_examples():
        report("examples", name, "samples_per_second", speed)
    for name, settings in RECIPES.items():
        recipe = load_recipe(Path("recipes", f"{name.partition(' ')[0]}.yaml"), settings).recipe
        experiment, identity = build(recipe), recipe_hash(recipe)
        if not settings:
            for field, speed in time_on_training_values(experiment):
                report(name, field, "samples_per_second", speed, identity)
        for workers in (0, 1):
            arm = f"{name}, {workers} worker{'' if workers == 1 else 's'}"
            report(arm, "all", "waiting_share", waiting_share(experiment, workers), identity)
    return 0


if __name__ == "__main__":
    sys.exit(main())
