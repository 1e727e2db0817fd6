"""The linear baselines of a recipe, without boosting, which is slow where labels are many.

    python -m benchmarks.linear recipes/programs.yaml --set inputs.numbers=null --ledger results/programs.csv

The linear baselines of ``mmbert baseline``, for all inputs together and for each alone, on the test split. A row of the
ledger names its inputs, as a study may leave some out with ``--set``; it does not show other changes of the recipe.
"""

import argparse
import sys
from pathlib import Path

from mmbert.evaluation.baselines import run_baselines
from mmbert.experiment.build import build
from mmbert.recipe.load import load_recipe
from mmbert.tracking.ledger import Measured, append_results


def main() -> int:
    """Fit and score the linear baselines, print and append the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="a.b=c")
    parser.add_argument("--ledger", type=Path)
    arguments = parser.parse_args()
    recipe = load_recipe(arguments.recipe, arguments.settings).recipe
    experiment = build(recipe)
    splits = {split: experiment.good_samples(split) for split in experiment.splits}
    tasks = dict(experiment.model.tasks)
    for row in run_baselines(splits, experiment.processors, experiment.text_inputs, tasks, ("linear",)):
        if row.split == "test":
            arm = f"linear ({', '.join(row.inputs)})" if row.inputs else row.baseline
            print(f"{row.task:<12} {arm:<36} {row.metrics}", flush=True)
            if arguments.ledger:
                measured = Measured(recipe.name, 0, "test", data=experiment.data_report.fingerprint)
                append_results(arguments.ledger, {arm: {row.task: row.metrics}}, measured, once=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
