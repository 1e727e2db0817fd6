"""What joint training and the feature cache save: seconds of training on the same rows, arms interleaved.

    python -m benchmarks.multitask --json multitask.json --ledger results/multitask.csv

takes less than 20 minutes on one core and prints two tables. With all inputs: one joint run of two tasks, the whole
trunk tuned, against two runs of one task; the joint run with a frozen trunk, uncached and cached. With names alone:
seconds an epoch, after the first (medians), under full tuning and, cached, ``top2`` and ``frozen``. Every row has both
labels. A cache is filled anew, in a folder of its own.
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
    **{f"{task} alone": [*WHOLE, *(f"tasks.{other}=null" for other in TASKS if other != task)] for task in TASKS},
    "joint, frozen": FROZEN,
    "joint, frozen, cached": CACHED,
}
EPOCHS = {
    "full": [*NAMES, *WHOLE],
    "top2, cached": [*NAMES, "trunk.tune=top2", "trunk.cache=true"],
    "frozen, cached": [*NAMES, *CACHED],
}


class Arm:
    """One run: ``preparing`` are the seconds of data, model and cache, ``epochs`` those of each pass."""

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
            usual = os.environ.get("XDG_CACHE_HOME")
            self.folder = tempfile.TemporaryDirectory()
            os.environ["XDG_CACHE_HOME"] = self.folder.name
            cache_features(self.experiment, self.accelerator.device)
            del os.environ["XDG_CACHE_HOME"]
            os.environ.update({"XDG_CACHE_HOME": usual} if usual else {})
        self.optimizer = make_optimizer(self.model, self.recipe.optim)
        self.preparing = time.perf_counter() - start
        self.epochs: list[float] = []

    def epoch(self) -> None:
        train, items = self.recipe.train, self.experiment.dataset("train")
        each = len(items) // train.batch_size
        done = each * len(self.epochs)
        weights = {name: task.weight for name, task in self.model.tasks.items()}
        start = time.perf_counter()
        plan = StepPlan(train.seed, len(items), train.batch_size)
        for step, batch in enumerate(batches(plan, items, steps=done + each, start=done), done):
            units = count_units(self.model, batch, self.accelerator.device)
            accumulate_gradients(self.model, batch, units, weights, self.accelerator, seed=(train.seed, step))
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.recipe.optim.clip or float("inf"))
            self.optimizer.step()
            self.optimizer.zero_grad()
        self.epochs.append(time.perf_counter() - start)

    @property
    def seconds(self) -> dict[str, float]:
        """The first epoch warms up, and counts in the total alone."""
        return {
            "seconds": self.preparing + sum(self.epochs),
            "seconds_preparing": self.preparing,
            "seconds_an_epoch": statistics.median(self.epochs[1:]),
        }


def measured(arms: dict[str, list[str]], ids: frozenset[int], epochs: int) -> tuple[dict[str, Any], dict[str, str]]:
    """The seconds of each arm, epoch by epoch in turn, and the hash of each arm's recipe."""
    made = {name: Arm(settings, ids) for name, settings in arms.items()}
    for _ in range(epochs):
        for arm in made.values():
            arm.epoch()
    return {name: arm.seconds for name, arm in made.items()}, {
        name: recipe_hash(arm.recipe) for name, arm in made.items()
    }


def labelled(rows: int) -> frozenset[int]:
    """The ids of the first training rows that have both labels."""
    splits = build(load_recipe(RECIPE, [*PLAIN, *NAMES, *FROZEN]).recipe).splits
    found = [sample.id for sample in chained(splits, "train") if all(task in sample.targets for task in TASKS)]
    return frozenset(found[:rows])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=384, help="training rows (384)")
    parser.add_argument("--epochs", type=int, default=6, help="passes of each arm, the first of which warms up (6)")
    parser.add_argument("--json", help="a file for all numbers")
    parser.add_argument("--ledger", help="a CSV file that they are appended to")
    arguments = parser.parse_args()
    ids = labelled(arguments.rows)
    joint, hashes = measured(JOINT, ids, arguments.epochs)
    alone = [joint[f"{task} alone"]["seconds"] for task in TASKS]
    joint["joint"] |= {"times_faster": sum(alone) / joint["joint"]["seconds"],
                       "seconds_a_task": joint["joint"]["seconds"] / len(TASKS)}  # fmt: skip
    slow, fast = joint["joint, frozen"], joint["joint, frozen, cached"]
    fast |= {"times_faster": slow["seconds"] / fast["seconds"],
             "times_faster_an_epoch": slow["seconds_an_epoch"] / fast["seconds_an_epoch"]}  # fmt: skip
    names, more = measured(EPOCHS, ids, arguments.epochs)
    for found in names.values():
        found["times_faster_an_epoch"] = names["full"]["seconds_an_epoch"] / found["seconds_an_epoch"]
    print(f"{len(ids)} rows, {arguments.epochs} epochs")
    tables = {"names, structure, descriptors": joint, "names": names}
    for inputs, arms in tables.items():
        print(f"\n{inputs}:")
        for arm, found in arms.items():
            print(f"  {arm:<22}" + "".join(f"  {name} {value:.3g}" for name, value in found.items()))
    if arguments.json:
        facts = {"rows": len(ids), "epochs": arguments.epochs, **tables}
        Path(arguments.json).write_text(json.dumps(facts, indent=1) + "\n")
    for arm, found in {**joint, **names}.items() if arguments.ledger else ():
        run = Measured("multitask", 0, "train", {**hashes, **more}[arm])
        append_results(arguments.ledger, {arm: {"all": found}}, run)
    return 0


if __name__ == "__main__":
    sys.exit(main())
