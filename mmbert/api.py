"""The Python API: train, evaluate, predict, baseline, check and load, as the command line has them."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mmbert.data.loader import LoaderOptions, evaluation_batches
from mmbert.data.sampler import Shard
from mmbert.distributed import connect, on_main_then_broadcast
from mmbert.errors import DataError
from mmbert.evaluation.evaluate import evaluate as evaluate_model
from mmbert.evaluation.results import from_evaluation
from mmbert.experiment.build import build
from mmbert.experiment.check_data import find_bad_values
from mmbert.experiment.splits import open_sources
from mmbert.inference.predict import load, open_run, predict
from mmbert.recipe.load import load_recipe
from mmbert.recipe.serialize import recipe_hash
from mmbert.tracking.console import Console
from mmbert.tracking.ledger import Measured, append_results
from mmbert.tracking.run_folder import RunFolder
from mmbert.tracking.status import lock_run_folder
from mmbert.training.comparison import score_baselines
from mmbert.training.failures import explain_resource_errors
from mmbert.training.launch import make_accelerator
from mmbert.training.signals import Interruption
from mmbert.training.start import adopt_run
from mmbert.training.trainer import Trainer

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
    adopt: bool = False,
) -> dict[str, Any]:
    """Train a recipe, score its best checkpoint on the test split, and write everything into a run folder.

    Args:
        recipe: the path of a recipe.
        overrides: ``section.key=value``, as ``--set`` takes them.
        out: the run folder; by default ``runs/<name>-<hash>``.
        ledger: a CSV file to append the result table to, under the study named like the recipe.
        arm: the name of this run in the ledger.
        resume: ``auto`` resumes from the newest checkpoint in the run folder, if there is one; ``never`` starts again
            and removes the earlier run; or the path of a checkpoint or of a run.
        adopt: whether the folder of a run that an earlier version wrote is taken over.

    Returns:
        What ``result.json`` holds: scores of the test split by task and metric, of the run and of the baselines. If no
        test row has a label, they are those of the validation split, under ``validation``.

    Raises:
        MMBertError: one of mmbert/errors.py, by what is wrong.
        Preempted: with a checkpoint to resume from, if a signal stops the run.

    Example:
        >>> result = train("recipes/debug.yaml", overrides=["train.steps=2"])  # doctest: +SKIP
    """
    loaded = load_recipe(recipe, overrides).recipe
    accelerator = make_accelerator(loaded.train)
    main = accelerator.is_main_process
    console = Console(speaks=main)
    folder = RunFolder(Path(out) if out else RUNS / f"{loaded.name}-{recipe_hash(loaded)[:8]}", writes=main)
    console.say(f"preparing data and model of {recipe} ...")
    launched = any(name in os.environ for name in ("WORLD_SIZE", "ACCELERATE_MIXED_PRECISION"))
    if adopt:
        on_main_then_broadcast(lambda: adopt_run(folder.path))
    with (
        Interruption(launched=launched) as interruption,
        lock_run_folder(folder) as status,
        explain_resource_errors("the run"),
    ):
        trainer = Trainer(loaded, accelerator, folder, status, interruption, console)
        trainer.prepare()
        if str(resume) == "auto" and (result := trainer.finished_result()) is not None:
            console.say(f"'{folder.path}' is finished: nothing to train. --resume never trains it again")
            return result
        trainer.start(str(resume))
        try:
            trainer.fit()
            return trainer.score(ledger, arm)
        finally:
            folder.trackers.finish()


def evaluate(run: str | Path, *, split: str = "test") -> dict[str, dict[str, float]]:
    """The scores of a run's best checkpoint on a split of its recipe's data, by task and metric.

    Args:
        run: a run folder.
        split: ``train``, ``validation`` or ``test``.
    """
    accelerator = connect()
    experiment = open_run(run, data=True)
    shard = Shard(accelerator.process_index, accelerator.num_processes)
    loading = LoaderOptions(on_bad=experiment.bad_samples.add)
    dataset, size = experiment.dataset(split), experiment.recipe.evaluate.batch_size
    batches = evaluation_batches(dataset, size, shard=shard, loading=loading)
    evaluation = evaluate_model(experiment.model.to(accelerator.device), batches, device=accelerator.device)
    if not evaluation.scores:
        raise DataError(f"no row of the {split} split has a label: nothing can be scored. --split names another split")
    Console(speaks=accelerator.is_main_process).results([from_evaluation("mmbert", evaluation)], {}, split=split)
    return evaluation.scores


def baseline(
    recipe: str | Path, *, overrides: Iterable[str] = (), ledger: str | Path | None = None
) -> dict[str, dict[str, dict[str, float]]]:
    """The cheap baselines of a recipe on its test split, or on validation without one. Nothing is trained.

    Args:
        recipe: the path of a recipe.
        overrides: ``section.key=value``, as ``--set`` takes them.
        ledger: a CSV file to append the scores to.

    Returns:
        arm -> task -> metric -> value.
    """
    experiment = build(load_recipe(recipe, overrides).recipe)
    console = Console(speaks=True)
    results = score_baselines(experiment, console)
    console.results(results, {}, split=experiment.scored_split)
    if ledger:
        resolved, report, split = experiment.recipe, experiment.data_report, experiment.scored_split
        run = Measured(resolved.name, resolved.train.seed, split, recipe_hash(resolved), report.fingerprint)
        append_results(ledger, {result.arm: result.scores for result in results if result.scores}, run)
    return {result.arm: result.scores for result in results}


def check(recipe: str | Path, *, overrides: Iterable[str] = ()) -> None:
    """Say what each column of a recipe's data is, read every value and list the bad ones.

    Args:
        recipe: the path of a recipe.
        overrides: ``section.key=value``, as ``--set`` takes them.

    Raises:
        DataError: if any value is bad, after listing all of them.
    """
    loaded, console = load_recipe(recipe, overrides).recipe, Console(speaks=True)
    sources = open_sources(loaded)
    for name, source in sources.items():
        console.columns(name, source.summary)
    checked = find_bad_values(loaded, sources)
    errors = checked.errors
    console.bad_values(errors)
    for warning in checked.warnings:
        console.warn(warning)
    if errors:
        raise DataError(f"{recipe}: {len(errors)} bad value{'s' if len(errors) > 1 else ''} in {checked.rows} rows")
    console.say(f"{recipe}: no bad value in {checked.rows} rows")
