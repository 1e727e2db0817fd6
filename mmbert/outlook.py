"""The forecast of a recipe's run, from the first steps of its plan."""

import math
import time
from collections.abc import Iterable
from typing import Any

from accelerate import Accelerator

from mmbert.build import Built, build
from mmbert.data.loader import batches, evaluation_batches
from mmbert.features import cache_features
from mmbert.recipe.length import steps_of
from mmbert.recipe.load import load_recipe
from mmbert.train.console import Console
from mmbert.train.forecast import STEPS, Forecast, forecast, typical
from mmbert.train.launch import make_accelerator
from mmbert.world import together


def outlook(built: Built, accelerator: Accelerator, *, total: int, every: int) -> Forecast:
    """The forecast of a run of ``total`` further steps, evaluated after ``every`` steps; called on all processes.

    The model is moved to the accelerator's device and else left as it is; the batches of the first steps are read, and
    are read again when the run comes to them. It costs about three steps and one batch of an evaluation, twice as much
    where the trunk is tuned fully and the run is long. Raises on all where one cannot read its rows.
    """
    recipe = built.recipe
    share: dict[str, Any] = {"rank": accelerator.process_index, "world": accelerator.num_processes}
    share["on_bad"] = built.bad.add
    items = built.items("train")
    read, times, error = [], [], None
    try:
        made = batches(built.plan(total), items, steps=STEPS, accumulate=recipe.train.accumulate, **share)
        for _ in range(STEPS):
            start = time.perf_counter()
            read.append(next(made))
            times.append(time.perf_counter() - start)
        validation = next(evaluation_batches(built.items("validation"), recipe.evaluate.batch_size, **share), None)
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
    total, every = steps_of(recipe, len(built.items("train")))
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
