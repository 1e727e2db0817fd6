"""The part of ``worlds.py`` that two processes run: training with and without a forecast before it."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from train_parts import DEBUG, SMALL

from mmbert.data.loader import batches
from mmbert.data.sampler import Shard, StepPlan
from mmbert.experiment.build import build
from mmbert.recipe.load import load_recipe
from mmbert.training import forecast
from mmbert.training.forecast import forecast_experiment
from mmbert.training.launch import make_accelerator
from mmbert.training.optimizer import make_optimizer

STEPS = 2
SETTINGS = [*SMALL, "trunk.layers=4", f"train.steps={STEPS}"]


def trained(with_forecast: bool) -> tuple[int, dict, str]:
    """The rank, the forecast if requested, and a hash of the weights after some steps."""
    recipe = load_recipe(DEBUG, SETTINGS).recipe
    accelerator = make_accelerator(recipe.train)
    experiment = build(recipe)
    model, items = experiment.model, experiment.dataset("train")
    forecast_values = asdict(forecast_experiment(experiment, accelerator, steps=STEPS)) if with_forecast else {}
    shard = Shard(accelerator.process_index, accelerator.num_processes)
    wrapped, optimizer = accelerator.prepare(model, make_optimizer(model, recipe.optim))
    plan = StepPlan(recipe.train.seed, len(items), recipe.train.batch_size)
    for step, batch in enumerate(batches(plan, items, steps=STEPS, shard=shard)):
        forecast.gradients(wrapped, batch, accelerator, step)
        optimizer.step()
        optimizer.zero_grad()
    content = b"".join(tensor.numpy().tobytes() for tensor in model.state_dict().values())
    return accelerator.process_index, forecast_values, hashlib.blake2b(content).hexdigest()


def run(folder: str) -> None:
    forecast.SHORT, forecast.SHARE = 0.0, 1e9
    _, _, without = trained(with_forecast=False)
    rank, forecast_values, with_forecast = trained(with_forecast=True)
    (Path(folder) / f"forecast-{rank}.json").write_text(
        json.dumps({"forecast": forecast_values, "without": without, "with": with_forecast})
    )
