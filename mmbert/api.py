"""What the command line does, as functions: train, evaluate, predict, baseline, check, load."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from mmbert.checkpoint.resume import finished
from mmbert.data.loader import LoaderOptions, evaluation_batches
from mmbert.data.sampler import Shard
from mmbert.errors import DataError
from mmbert.evaluation.evaluate import evaluate as evaluate_model
from mmbert.evaluation.results import from_evaluation
from mmbert.experiment.build import build
from mmbert.experiment.check_data import bad_values
from mmbert.inference.predict import load, open_run, predict
from mmbert.recipe.load import load_recipe
from mmbert.recipe.schema import resolve_steps, with_steps
from mmbert.recipe.serialize import recipe_hash
from mmbert.tracking.console import Console
from mmbert.tracking.ledger import Measured, append_results
from mmbert.tracking.run_folder import RunFolder
from mmbert.tracking.status import occupied
from mmbert.training.artifacts import baselines
from mmbert.training.failures import in_words
from mmbert.training.launch import make_accelerator
from mmbert.training.signals import Interruption
from mmbert.training.trainer import Run

__all__ = ["baseline", "check", "evaluate", "load", "predict", "train"]

RUNS = Path("runs")


def train(
    recipe: str | Path,
    *,
    overrides: Iterable[str] = (),
    out: str | Path | None = None,
    ledger: str | Path | None = None,
    arm: str = "mmbert",
    resume: str | Path = "auto",
) -> dict[str, Any]:
    """Train a recipe, evaluate its best checkpoint on the test split, and write everything into a run folder.

    Args:
        recipe: the path of a recipe.
        overrides: ``section.key=value``, as ``--set`` takes them.
        out: the run folder; by default ``runs/<name>-<hash>``.
        ledger: a CSV file that all lines of the result table are appended to, under the study named like the recipe.
        arm: what the run is called there, its variant of the recipe.
        resume: ``auto`` goes on from the newest checkpoint in the run folder, if there is one; ``never`` begins anew
            and removes what is there; or the path of a checkpoint or of a run.

    Returns what ``result.json`` holds: scores of the test split by task and metric, of the run and of the baselines.

    Raises the errors of mmbert/errors.py; ``Preempted``, with a checkpoint to go on from, where a signal stops it.

    >>> result = train("recipes/debug.yaml", overrides=["train.steps=2"])  # doctest: +SKIP
    """
    loaded = load_recipe(recipe, overrides).recipe
    accelerator = make_accelerator(loaded.train)
    main = accelerator.is_main_process
    console = Console(speaks=main)
    folder = RunFolder(Path(out) if out else RUNS / f"{loaded.name}-{recipe_hash(loaded)[:8]}", writes=main)
    console.say(f"preparing data and model of {recipe} ...")
    launched = any(name in os.environ for name in ("WORLD_SIZE", "ACCELERATE_MIXED_PRECISION"))
    with Interruption(launched=launched) as signals, occupied(folder) as status, in_words("the run"):
        run = Run(loaded, accelerator, folder, status, signals, console)
        result = broadcast_object_list([finished(folder.path, run.identity) if str(resume) == "auto" else None])[0]
        if result is not None:
            console.say(f"'{folder.path}' is finished, nothing is trained or written; --resume never trains it again")
            return result
        state = run.begin(str(resume))
        try:
            run.fit(state)
            return run.score(state.progress.best_step, ledger, arm)
        finally:
            folder.trackers.finish()


def evaluate(run: str | Path, *, split: str = "test") -> dict[str, dict[str, float]]:
    """The scores of a run's best checkpoint on a split of its recipe's data, by task and metric."""
    built = open_run(run, data=True)
    accelerator = Accelerator()
    shard = Shard(accelerator.process_index, accelerator.num_processes)
    loading = LoaderOptions(on_bad=built.bad.add)
    batches = evaluation_batches(built.items(split), built.recipe.evaluate.batch_size, shard=shard, loading=loading)
    found = evaluate_model(built.model.to(accelerator.device), batches, device=accelerator.device)
    Console(speaks=accelerator.is_main_process).results([from_evaluation("mmbert", found)], {}, split=split)
    return found.scores


def baseline(
    recipe: str | Path, *, overrides: Iterable[str] = (), ledger: str | Path | None = None
) -> dict[str, dict[str, dict[str, float]]]:
    """The cheap baselines of a recipe on its test split: arm -> task -> metric -> value. Nothing is trained."""
    loaded = load_recipe(recipe, overrides).recipe
    built = build(loaded)
    console = Console(speaks=True)
    results = baselines(built, console)
    console.results(results, {})
    if ledger:
        identity = recipe_hash(with_steps(built.recipe, resolve_steps(loaded, len(built.items("train")))[0]))
        run = Measured(loaded.name, loaded.train.seed, "test", identity, built.survey.fingerprint)
        append_results(ledger, {one.arm: one.scores for one in results}, run)
    return {one.arm: one.scores for one in results}


def check(recipe: str | Path, *, overrides: Iterable[str] = ()) -> None:
    """Read every value of a recipe's data. Raises ``DataError`` where any is bad, after listing all of them."""
    found, rows = bad_values(load_recipe(recipe, overrides).recipe)
    console = Console(speaks=True)
    console.bad_values(found)
    if found:
        raise DataError(f"{recipe}: {len(found)} bad value{'s' if len(found) > 1 else ''} in {rows} rows")
    console.say(f"{recipe}: no bad value in {rows} rows")
