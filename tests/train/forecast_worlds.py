"""A program: two processes forecast a run and train it, with and without; ``forecast_worlds.py FOLDER``."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from accelerate import debug_launcher
from train_parts import DEBUG, SMALL, scored

from mmbert.build import build
from mmbert.data.loader import batches
from mmbert.data.plan import StepPlan
from mmbert.outlook import outlook
from mmbert.recipe.load import load_recipe
from mmbert.train import forecast
from mmbert.train.console import Console
from mmbert.train.folder import RunFolder
from mmbert.train.launch import make_accelerator
from mmbert.train.loop import fit

STEPS = 3
SETTINGS = [*SMALL, "trunk.layers=4", f"train.steps={STEPS}"]


def losses(told: bool) -> tuple[dict, list]:
    recipe = load_recipe(DEBUG, SETTINGS).recipe
    accelerator = make_accelerator(recipe.train)
    built = build(recipe)
    found = asdict(outlook(built, accelerator, total=STEPS, every=2)) if told else {}
    items = built.items("train")
    share = {"rank": accelerator.process_index, "world": accelerator.num_processes}
    steps = batches(StepPlan(recipe.train.seed, len(items), recipe.train.batch_size), items, steps=STEPS, **share)
    progress = fit(
        built.model, steps, lambda: scored(0.0), lambda: None, accelerator, train=recipe.train, optim=recipe.optim,
        total=STEPS, every=STEPS, folder=RunFolder(Path(), writes=False), console=Console(speaks=False),
    )  # fmt: skip
    return found, progress.losses


def run(folder: str) -> None:
    forecast.SHORT, forecast.WORTH = 0.0, 1e9
    _, without = losses(told=False)
    found, together = losses(told=True)
    rank = make_accelerator(load_recipe(DEBUG, SETTINGS).recipe.train).process_index
    (Path(folder) / f"{rank}.json").write_text(json.dumps({"forecast": found, "without": without, "with": together}))


if __name__ == "__main__":
    build(load_recipe(DEBUG, SETTINGS).recipe)  # imports what the parts need, once for both
    debug_launcher(run, (sys.argv[1],), num_processes=2)
