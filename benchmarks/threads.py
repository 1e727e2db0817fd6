"""Rows per second of the same recipe on two cores: one process of two threads, or two processes of one thread.

    python -m benchmarks.threads recipes/joint.yaml recipes/debug.yaml --ledger results/threads.csv

Two processes train one model together (DDP: each step waits for the slower one), or each trains a model of its own, as
the seeds of a study do: then their rows are added. Each run measures itself while all runs are training.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from mmbert.recipe.load import load_recipe
from mmbert.recipe.serialize import recipe_hash
from mmbert.tracking.ledger import Measured, append_results

WARM, SECONDS = 3, 15.0
ALONE = [sys.executable, "-m", "benchmarks.threads"]
LAUNCH = ["accelerate", "launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]
TOGETHER = [*LAUNCH, "-m", "benchmarks.threads"]
ARMS = {  # name -> command, threads per process, runs at the same time
    "one process, two threads": (ALONE, 2, 1),
    "two processes, DDP": (TOGETHER, 1, 1),
    "two runs": (ALONE, 1, 2),
}


def rows_per_second(recipe: str, command: list[str], threads: int, runs: int) -> float:
    """The rows per second of an arm, summed over its runs.

    Args:
        recipe: path of the recipe.
        command: that starts a run.
        threads: of each process.
        runs: at the same time.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "GLOO_SOCKET_IFNAME": "lo"}
    if command is TOGETHER:
        environment["ACCELERATE_USE_CPU"] = "1"
    with TemporaryDirectory() as folder:
        words = [*command, recipe, "--run", folder, "--runs", str(runs)]
        started = [subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL) for _ in range(runs)]
        codes = [process.wait() for process in started]
        if any(codes):
            raise SystemExit(f"{' '.join(words)} failed")
        speeds = [json.loads(file.read_text()) for file in Path(folder).glob("*.json")]
    assert len(speeds) == runs
    return sum(speeds)


def run(recipe: str, folder: Path, runs: int) -> None:
    """Train for ``SECONDS`` once all runs are ready, and write the rows per second into a file.

    Args:
        recipe: path of the recipe.
        folder: shared by all runs.
        runs: at the same time.
    """
    import torch
    from accelerate.utils import broadcast

    from mmbert.data.loader import batches
    from mmbert.data.sampler import Shard, StepPlan
    from mmbert.experiment.build import build
    from mmbert.training.forecast import gradients
    from mmbert.training.launch import make_accelerator
    from mmbert.training.optimizer import make_optimizer

    loaded = load_recipe(recipe).recipe
    accelerator = make_accelerator(loaded.train)
    experiment = build(loaded)
    model, optimizer = accelerator.prepare(experiment.model, make_optimizer(experiment.model, loaded.optim))
    weights = {name: task.weight for name, task in experiment.model.tasks.items()}
    dataset, size = experiment.dataset("train"), loaded.train.batch_size
    shard = Shard(accelerator.process_index, accelerator.num_processes)
    steps = batches(StepPlan(0, len(dataset), size), dataset, steps=1_000_000, shard=shard)
    start, done = time.perf_counter(), 0
    for step, batch in enumerate(steps):
        if step == WARM:
            accelerator.wait_for_everyone()
            if accelerator.is_main_process:
                (folder / f"{os.getpid()}.ready").touch()
                while len([*folder.glob("*.ready")]) < runs:
                    time.sleep(0.01)
            accelerator.wait_for_everyone()
            start, done = time.perf_counter(), 0
        gradients(model, batch, accelerator, weights, step)
        optimizer.step()
        optimizer.zero_grad()
        done += size
        finished = torch.tensor([step > WARM and time.perf_counter() - start > SECONDS])
        if broadcast(finished):  # the first process decides
            break
    if accelerator.is_main_process:
        (folder / f"{os.getpid()}.json").write_text(json.dumps(done / (time.perf_counter() - start)))
    accelerator.end_training()


def main() -> int:
    """Measure all arms on each recipe, print and append the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+")
    parser.add_argument("--ledger")
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--runs", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        run(arguments.recipes[0], arguments.run, arguments.runs)
        return 0
    for recipe in arguments.recipes:
        loaded = load_recipe(recipe).recipe
        speeds = {arm: rows_per_second(recipe, *settings) for arm, settings in ARMS.items()}
        first = speeds["one process, two threads"]
        for arm, rows in speeds.items():
            print(f"{loaded.name:<12} {arm:<26} {rows:8.1f} rows per second, {rows / first:.2f} times the first")
        if arguments.ledger:
            lines = {arm: {loaded.name: {"rows_per_second": rows}} for arm, rows in speeds.items()}
            append_results(arguments.ledger, lines, Measured("threads", 0, "train", recipe_hash(loaded)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
