"""Time saved by joint training and by the feature cache: seconds of training on the same rows, arms interleaved.

    python -m benchmarks.multitask --json multitask.json --ledger results/multitask.csv

takes less than 20 minutes on one core and prints two tables. With all inputs: one joint run of two tasks, the whole
trunk tuned, and two runs of one task; the joint run with a frozen trunk, without and with cache. With names only:
seconds per epoch, after the first (medians), with full tuning and, cached, ``top2`` and ``frozen``. Every row has both
labels. Each cache is new, in a folder of its own.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator

from mmbert.data.loader import batches
from mmbert.data.sampler import StepPlan
from mmbert.experiment.build import build
from mmbert.experiment.splits import chained
from mmbert.experiment.trunk_cache import cache_features
from mmbert.recipe.load import load_recipe
from mmbert.recipe.serialize import recipe_hash
from mmbert.tracking.ledger import Measured, append_results
from mmbert.training.launch import make_accelerator
from mmbert.training.optimizer import make_optimizer
from mmbert.training.step import accumulate_gradients, count_units

RECIPE = Path(__file__).parents[1] / "recipes" / "quickstart.yaml"
PLAIN = ["train.input_dropout=0", "train.workers=0", "train.batch_size=32"]
NAMES = ["inputs.structure=null", "inputs.descriptors=null", "trunk.packing=true"]
TASKS = ("melting_point", "logp")
WHOLE, FROZEN, CACHED = ["trunk.tune=full"], ["trunk.tune=frozen"], ["trunk.tune=frozen", "trunk.cache=true"]
JOINT = {
    "joint": WHOLE,
    **{f"{task} alone": [*WHOLE, *(f"tasks.{removed}=null" for removed in TASKS if removed != task)] for task in TASKS},
    "joint, frozen": FROZEN,
    "joint, frozen, cached": CACHED,
}
EPOCHS = {
    "full": [*NAMES, *WHOLE],
    "top2, cached": [*NAMES, "trunk.tune=top2", "trunk.cache=true"],
    "frozen, cached": [*NAMES, *CACHED],
}


class TimedRun:
    """A run that is trained epoch by epoch.

    Args:
        settings: changes of the recipe.
        ids: the training rows.

    Attributes:
        preparing: seconds that data, model and cache took.
        epochs: seconds of each epoch.
    """

    def __init__(self, settings: Iterable[str], ids: frozenset[int]):
        start = time.perf_counter()
        self.recipe = load_recipe(RECIPE, [*PLAIN, *settings]).recipe
        self.accelerator: Accelerator = make_accelerator(self.recipe.train)
        experiment = build(self.recipe)
        chosen = [
            samples[np.array([position for position, sample in enumerate(samples) if sample.id in ids])]
            for samples in experiment.splits["train"]
        ]
        self.experiment = replace(experiment, splits={"train": chosen})
        self.model = experiment.model.to(self.accelerator.device)
        if self.recipe.trunk.cache:
            previous = os.environ.get("XDG_CACHE_HOME")
            self.folder = tempfile.TemporaryDirectory()
            os.environ["XDG_CACHE_HOME"] = self.folder.name
            cache_features(self.experiment, self.accelerator.device)
            del os.environ["XDG_CACHE_HOME"]
            os.environ.update({"XDG_CACHE_HOME": previous} if previous else {})
        self.optimizer = make_optimizer(self.model, self.recipe.optim)
        self.preparing = time.perf_counter() - start
        self.epochs: list[float] = []

    def train_epoch(self) -> None:
        """Train one epoch and record its seconds."""
        train, dataset = self.recipe.train, self.experiment.dataset("train")
        steps_per_epoch = len(dataset) // train.batch_size
        done = steps_per_epoch * len(self.epochs)
        weights = {name: task.weight for name, task in self.model.tasks.items()}
        start = time.perf_counter()
        plan = StepPlan(train.seed, len(dataset), train.batch_size)
        for step, batch in enumerate(batches(plan, dataset, steps=done + steps_per_epoch, start=done), done):
            units = count_units(self.model, batch, self.accelerator.device)
            accumulate_gradients(self.model, batch, units, weights, self.accelerator, seed=(train.seed, step))
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.recipe.optim.clip or float("inf"))
            self.optimizer.step()
            self.optimizer.zero_grad()
        self.epochs.append(time.perf_counter() - start)

    @property
    def seconds(self) -> dict[str, float]:
        """The measured seconds; the first epoch warms up and counts in the total only."""
        return {
            "seconds": self.preparing + sum(self.epochs),
            "seconds_preparing": self.preparing,
            "seconds_an_epoch": statistics.median(self.epochs[1:]),
        }


def time_arms(arms: dict[str, list[str]], ids: frozenset[int], epochs: int) -> tuple[dict[str, Any], dict[str, str]]:
    """Train all arms, in turn for each epoch.

    Args:
        arms: name -> changes of the recipe.
        ids: the training rows.
        epochs: of each arm.

    Returns:
        The seconds of each arm, and the hash of its recipe.
    """
    runs = {name: TimedRun(settings, ids) for name, settings in arms.items()}
    for _ in range(epochs):
        for run in runs.values():
            run.train_epoch()
    seconds = {name: run.seconds for name, run in runs.items()}
    return seconds, {name: recipe_hash(run.recipe) for name, run in runs.items()}


def labelled_ids(rows: int) -> frozenset[int]:
    """The ids of the first training rows that have both labels."""
    splits = build(load_recipe(RECIPE, [*PLAIN, *NAMES, *FROZEN]).recipe).splits
    ids = [sample.id for sample in chained(splits, "train") if all(task in sample.targets for task in TASKS)]
    return frozenset(ids[:rows])


def main() -> int:
    """Time all arms, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=384, help="training rows (384)")
    parser.add_argument("--epochs", type=int, default=6, help="passes of each arm, the first of which warms up (6)")
    parser.add_argument("--json", help="a file for all numbers")
    parser.add_argument("--ledger", help="a CSV file that they are appended to")
    arguments = parser.parse_args()
    ids = labelled_ids(arguments.rows)
    joint, hashes = time_arms(JOINT, ids, arguments.epochs)
    alone = [joint[f"{task} alone"]["seconds"] for task in TASKS]
    joint["joint"] |= {
        "times_faster": sum(alone) / joint["joint"]["seconds"],
        "seconds_a_task": joint["joint"]["seconds"] / len(TASKS),
    }
    slow, fast = joint["joint, frozen"], joint["joint, frozen, cached"]
    fast |= {
        "times_faster": slow["seconds"] / fast["seconds"],
        "times_faster_an_epoch": slow["seconds_an_epoch"] / fast["seconds_an_epoch"],
    }
    names, more_hashes = time_arms(EPOCHS, ids, arguments.epochs)
    for seconds in names.values():
        seconds["times_faster_an_epoch"] = names["full"]["seconds_an_epoch"] / seconds["seconds_an_epoch"]
    print(f"{len(ids)} rows, {arguments.epochs} epochs")
    tables = {"names, structure, descriptors": joint, "names": names}
    for inputs, arms in tables.items():
        print(f"\n{inputs}:")
        for arm, seconds in arms.items():
            print(f"  {arm:<22}" + "".join(f"  {name} {value:.3g}" for name, value in seconds.items()))
    if arguments.json:
        facts = {"rows": len(ids), "epochs": arguments.epochs, **tables}
        Path(arguments.json).write_text(json.dumps(facts, indent=1) + "\n")
    for arm, seconds in {**joint, **names}.items() if arguments.ledger else ():
        run = Measured("multitask", 0, "train", {**hashes, **more_hashes}[arm])
        append_results(arguments.ledger, {arm: {"all": seconds}}, run)
    return 0


if __name__ == "__main__":
    sys.exit(main())
