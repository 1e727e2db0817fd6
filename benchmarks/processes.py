"""One process and two on CPU: the largest relative difference of each task's loss over 20 steps, without dropout.

    python -m benchmarks.processes recipes/joint.yaml --ledger results/processes.csv

runs the recipe four times: unchanged in float32, and in float64 on a new trunk of two layers, where rounding cannot
hide an error of counting.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from mmbert.recipe.load import load_recipe
from mmbert.recipe.serialize import recipe_hash
from mmbert.tracking.ledger import Measured, append_results

STEPS = 20
EXACT = ["train.dropout=0", f"train.steps={STEPS}", "evaluate.baselines=false", "evaluate.every=1000"]
ARMS = {
    "float32": ["train.precision=fp32"],
    "float64 two layers": ["train.precision=fp64", "trunk.checkpoint=null", "trunk.layers=2", "trunk.tune=full"],
}
LAUNCHERS = {
    1: [sys.executable, "-m", "mmbert"],
    2: ["accelerate", "launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0", "-m", "mmbert"],
}


def losses(recipe: str, settings: list[str], processes: int, folder: Path) -> dict[str, dict[int, float]]:
    """Train once and read the loss of each task at each step.

    Args:
        recipe: path of the recipe.
        settings: changes of the recipe.
        processes: 1 or 2.
        folder: of the run.

    Returns:
        Task -> step -> loss.
    """
    words = [word for setting in settings for word in ("--set", setting)]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(2 // processes),
        "GLOO_SOCKET_IFNAME": "lo",
        **({"ACCELERATE_USE_CPU": "1"} if processes > 1 else {}),
    }
    command = [*LAUNCHERS[processes], "train", recipe, *words, "--out", str(folder)]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    by_task: dict[str, dict[int, float]] = {}
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        entry = json.loads(line)
        if entry["split"] == "train":
            by_task.setdefault(entry["task"], {})[entry["step"]] = entry["value"]
    return by_task


def main() -> int:
    """Train with one process and with two, print and append the differences."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe")
    parser.add_argument("--ledger")
    arguments = parser.parse_args()
    loaded = load_recipe(arguments.recipe).recipe
    for arm, settings in ARMS.items():
        with tempfile.TemporaryDirectory() as folder:
            single, double = (losses(arguments.recipe, EXACT + settings, n, Path(folder) / str(n)) for n in (1, 2))
        differences = {
            task: {"relative_difference": max(abs(double[task][step] / value - 1) for step, value in steps.items())}
            for task, steps in single.items()
        }
        assert all(single[task].keys() == double[task].keys() for task in single)
        for task, difference in differences.items():
            value, steps = difference["relative_difference"], len(single[task])
            print(f"{arm:<20}  {task:<16}  {value:.2e}  over {steps} steps with labels")
        if arguments.ledger:
            run = Measured(f"{loaded.name}, two processes", loaded.train.seed, "train", recipe_hash(loaded))
            append_results(arguments.ledger, {arm: differences}, run)
    return 0


if __name__ == "__main__":
    sys.exit(main())
