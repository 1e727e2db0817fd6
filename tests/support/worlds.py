"""A program that trains one small recipe in 1, 2 and 3 processes, in several variants: ``worlds.py FOLDER``.

Each rank writes its losses and scores into the folder. A forecast is tested in 2 processes. Processes are forked, so
the parent must never have run a backward pass.
"""

import json
import sys
from pathlib import Path

import forecast_worlds
from accelerate import PartialState, debug_launcher
from safetensors.torch import save_file
from train_parts import trained

from mmbert.data.loader import batches, evaluation_batches
from mmbert.data.sampler import Shard, StepPlan
from mmbert.evaluation.evaluate import evaluate
from mmbert.experiment.build import build
from mmbert.fusion import FUSIONS
from mmbert.recipe.load import load_recipe
from mmbert.tracking.run_folder import RunFolder, read_log
from mmbert.training.launch import make_accelerator
from mmbert.training.optimizer import make_optimizer

STEPS = 4
RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "debug.yaml"
SMALL = [
    "trunk.hidden_size=16",
    "trunk.heads=2",
    "trunk.layers=1",
    "data.generated.absent=0.5",
    "inputs.image.size=16",
    "inputs.image.width=16",
    "inputs.sound.width=16",
    "inputs.sound.mels=8",
    "inputs.cells.width=16",
    "inputs.graph.width=16",
    "inputs.graph.layers=1",
    "train.precision=fp64",
    "train.dropout=0",
    "train.batch_size=12",
    f"train.steps={STEPS}",
    "evaluate.batch_size=5",
    "optim.lr.new=3e-3",
    "optim.lr.trunk=1e-3",
]
OTHERS = sorted({*FUSIONS.names()} - {"joint", "concat"})
WAYS = {
    "plain": ["fusion.tokens=2"],
    # unimodal heads, whose input may be absent on one rank, and learned tokens for absent inputs
    "alone": [
        "fusion.tokens=2",
        "fusion.logit_sum=true",
        "balance.unimodal_aux=0.5",
        "balance.ogm_ge={alpha: 0.5, mode: gradient}",
        "inputs.image.missing=learned",
        "inputs.series.missing=learned",
    ],
    "rates": ["fusion={type: concat}", "balance.ogm_ge={alpha: 0.5}", "inputs.graph.missing=learned"],
    **{name: [f"fusion={{type: {name}}}", "trunk.layers=2"] for name in OTHERS},
}
WORLDS = {1: (*WAYS,), 2: (*WAYS,), 3: ("plain",)}  # number of processes -> variants


def run(world: int, folder: str) -> None:
    """Train every variant on one rank."""
    for way in WORLDS[world]:
        train(world, way, folder)
    PartialState().destroy_process_group()


def train(world: int, way: str, folder: str) -> None:
    """Train one variant, evaluate the test split, and write losses, scores and rows."""
    recipe = load_recipe(RECIPE, [*SMALL, *WAYS[way], f"train.accumulate={min(world, 2)}"]).recipe
    accelerator = make_accelerator(recipe.train)
    experiment = build(recipe)
    rank = accelerator.process_index
    shard = Shard(rank, accelerator.num_processes)
    items = experiment.dataset("train")
    plan = StepPlan(recipe.train.seed, len(items), recipe.train.batch_size)
    steps = list(batches(plan, items, steps=STEPS, accumulate=recipe.train.accumulate, shard=shard))

    def evaluation(split):
        return list(evaluation_batches(experiment.dataset(split), recipe.evaluate.batch_size, shard=shard))

    log = RunFolder(Path(folder) / f"log-{way}-{world}-{rank}", writes=True)
    trained(experiment, steps=steps, every=STEPS, folder=log, accelerator=accelerator)
    losses: list[dict[str, float]] = [{} for _ in range(STEPS)]
    for line in read_log(log.path):
        if line["split"] == "train":
            losses[line["step"] - 1][f"{line['task']} {line['metric']}"] = line["value"]
    evaluation_result = evaluate(experiment.model, evaluation("test"))
    seen = {
        "world": accelerator.num_processes,
        "losses": losses,
        "test": {"loss": evaluation_result.loss, "skill": evaluation_result.skill, "scores": evaluation_result.scores},
        "labelled": {name: list(rows) for name, rows in evaluation_result.predictions.items()},
        "evaluated": [sample for batch in evaluation("test") for sample in batch.ids.tolist()],
        "inputs": [sorted(batch.inputs) for step in steps for batch in step],
        "targets": [sorted(batch.targets) for step in steps for batch in step],
    }
    (Path(folder) / f"{way}-{world}-{rank}.json").write_text(json.dumps(seen))
    save_file(dict(experiment.model.state_dict()), Path(folder) / f"{way}-{world}-{rank}.safetensors")


if __name__ == "__main__":
    experiment = build(load_recipe(RECIPE, SMALL).recipe)
    make_optimizer(experiment.model, experiment.recipe.optim)  # imported here once, before forking
    for world in WORLDS:
        debug_launcher(run, (world, sys.argv[1]), num_processes=world)
    debug_launcher(forecast_worlds.run, (sys.argv[1],), num_processes=2)
