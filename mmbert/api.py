"""What the command line does, as functions: train, evaluate, predict, baseline, check, load."""

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from mmbert.bad_values import bad_values
from mmbert.build import Built, build, facts
from mmbert.data.loader import batches, evaluation_batches
from mmbert.errors import DataError
from mmbert.evaluate.evaluator import Evaluation
from mmbert.evaluate.evaluator import evaluate as evaluate_model
from mmbert.evaluate.ledger import append_results
from mmbert.evaluate.results import Result, best, cached_baselines, compare, from_evaluation, primary
from mmbert.fetch import cache_folder
from mmbert.predictor import load, open_run, predict
from mmbert.recipe.load import load_recipe
from mmbert.recipe.schema import Recipe
from mmbert.recipe.write import dump, recipe_hash
from mmbert.samples import chained
from mmbert.train.checkpoint import load_weights, save_checkpoint
from mmbert.train.console import Console, count_parameters
from mmbert.train.folder import RunFolder, environment
from mmbert.train.launch import make_accelerator
from mmbert.train.loop import fit

__all__ = ["baseline", "check", "evaluate", "load", "predict", "train"]

RUNS = Path("runs")


def train(
    recipe: str | Path,
    *,
    overrides: Iterable[str] = (),
    out: str | Path | None = None,
    ledger: str | Path | None = None,
    arm: str = "mmbert",
) -> dict[str, Any]:
    """Train a recipe, evaluate its best checkpoint on the test split, and write everything into a run folder.

    Args:
        recipe: the path of a recipe.
        overrides: ``section.key=value``, as ``--set`` takes them.
        out: the run folder; by default ``runs/<name>-<hash>``.
        ledger: a CSV file that all lines of the result table are appended to, under the study named like the recipe.
        arm: what the run is called there, its variant of the recipe.

    Returns what ``result.json`` holds: scores of the test split by task and metric, of the run and of the baselines.

    Raises ``RecipeError``, ``DataError``, ``NumericalError`` or ``IntegrityError`` (see mmbert/errors.py).

    >>> result = train("recipes/debug.yaml", overrides=["train.steps=2"])  # doctest: +SKIP
    """
    loaded = load_recipe(recipe, overrides).recipe
    accelerator = make_accelerator(loaded.train)
    console = Console(speaks=accelerator.is_main_process)
    folder = RunFolder(Path(out) if out else RUNS / f"{loaded.name}-{recipe_hash(loaded)[:8]}",
                       writes=accelerator.is_main_process)  # fmt: skip
    console.say(f"preparing data and model of {recipe} ...")
    built = build(loaded)
    total, every = steps_of(loaded, len(built.items("train")))
    loaded = _in_steps(built.recipe, total)
    identity = recipe_hash(loaded)
    data = built.survey.fingerprint
    folder.clear()
    folder.write("recipe.yaml", dump(loaded))
    folder.write("env.json", environment(accelerator.num_processes))
    folder.write("data.json", {"fingerprint": data, "rows": built.survey.rows})
    built.bad.keep_in(folder)
    console.banner(f"mmbert: {loaded.name}", _facts(built, accelerator, folder, total))
    console.say(*(f"warning: {warning}" for warning in built.survey.warnings))
    model = built.model.to(accelerator.device)
    share = {"rank": accelerator.process_index, "world": accelerator.num_processes}
    loading = {**share, "workers": loaded.train.workers, "pin_memory": accelerator.device.type == "cuda",
               "on_bad": built.bad.add}  # fmt: skip

    def evaluation(split: str, without: Sequence[str] = ()) -> Evaluation:
        batches = evaluation_batches(built.items(split), loaded.evaluate.batch_size, **loading)
        found = evaluate_model(model, batches, device=accelerator.device, without=without)
        built.bad.share()
        return found

    def keep() -> None:
        parts = {f"inputs.{name}": part for name, part in built.processors.items()}
        parts |= {f"tasks.{name}": part for name, part in built.labels.items()}
        save_checkpoint(folder.checkpoint, model, parts, facts(model))

    steps = batches(built.plan(total), built.items("train"), steps=total, accumulate=loaded.train.accumulate, **loading)
    console.start(total)
    try:
        progress = fit(
            model, steps, lambda: evaluation("validation"), keep, accelerator,
            train=loaded.train, optim=loaded.optim, total=total, every=every, folder=folder, console=console,
        )  # fmt: skip
    finally:
        console.stop()
    load_weights(folder.checkpoint, model)
    found = evaluation("test")
    ours = from_evaluation("mmbert", found)
    hidden = [
        from_evaluation(f"mmbert without {name}", evaluation("test", [name]))
        for name in sorted(built.processors) if len(built.processors) > 1
    ]  # fmt: skip
    accelerator.end_training()
    if not accelerator.is_main_process:
        return {}
    beside = _baselines(built, data, console) if loaded.evaluate.baselines else []
    differences = _differences(built, ours, beside, found)
    result = {
        "recipe": identity,
        "seed": loaded.train.seed,
        "best_step": progress.best_step,
        "test": ours.scores,
        "hidden": {one.arm: one.scores for one in hidden},
        "baselines": {one.arm: one.scores for one in beside},
        "against_best_baseline": {name: {"baseline": arm, **one} for name, (arm, one) in differences.items()},
    }
    folder.log(progress.best_step, "test", ours.scores)
    folder.write("result.json", result)
    console.results([ours, *hidden, *beside], differences)
    if ledger:
        common = {"study": loaded.name, "seed": loaded.train.seed, "split": "test", "recipe": identity}
        lines = {one.arm.replace("mmbert", arm): one.scores for one in (ours, *hidden, *beside)}
        lines[f"{arm} against the best baseline"] = {name: one for name, (_, one) in differences.items()}
        for name, scores in lines.items():
            append_results(ledger, scores, arm=name, **common)
    path = shlex.quote(str(folder.path))
    console.say("", f"run folder: {folder.path}")
    console.say(f"next: python -m mmbert predict {path} --split test --output predictions.jsonl")
    return result


def evaluate(run: str | Path, *, split: str = "test") -> dict[str, dict[str, float]]:
    """The scores of a run's best checkpoint on a split of its recipe's data, by task and metric."""
    built = open_run(run, data=True)
    accelerator = Accelerator()
    share = {"rank": accelerator.process_index, "world": accelerator.num_processes}
    batches = evaluation_batches(built.items(split), built.recipe.evaluate.batch_size, **share, on_bad=built.bad.add)
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
    data = built.survey.fingerprint
    results = _baselines(built, data, console)
    console.results(results, {})
    if ledger:
        for one in results:
            identity = recipe_hash(_in_steps(built.recipe, steps_of(loaded, len(built.items("train")))[0]))
            common = {"study": loaded.name, "seed": loaded.train.seed, "split": "test", "recipe": identity}
            append_results(ledger, one.scores, arm=one.arm, **common)
    return {one.arm: one.scores for one in results}


def check(recipe: str | Path, *, overrides: Iterable[str] = ()) -> None:
    """Read every value of a recipe's data. Raises ``DataError`` where any is bad, after listing all of them."""
    found, rows = bad_values(load_recipe(recipe, overrides).recipe)
    console = Console(speaks=True)
    console.bad_values(found)
    if found:
        raise DataError(f"{recipe}: {len(found)} bad value{'s' if len(found) > 1 else ''} in {rows} rows")
    console.say(f"{recipe}: no bad value in {rows} rows")


def _in_steps(recipe: Recipe, total: int) -> Recipe:
    """The recipe of a run as its folder keeps it, and as the ledger names it by its hash."""
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"steps": total, "epochs": None})})


def steps_of(recipe: Recipe, rows: int) -> tuple[int, int]:
    """Optimiser steps of a run, and steps between evaluations, for so many training rows."""
    epoch = rows / recipe.train.batch_size
    total = recipe.train.steps or max(1, round((recipe.train.epochs or 1) * epoch))
    return total, min(total, max(1, round(recipe.evaluate.every * epoch)))


def _facts(built: Built, accelerator: Accelerator, folder: RunFolder, total: int) -> dict[str, str]:
    rows = built.survey.rows
    present = {
        name: " / ".join(str(rows[split].get(name, 0)) for split in rows)
        for name in ("rows", *sorted(built.processors), *sorted(built.labels))
    }
    precision = "fp64" if built.recipe.train.precision == "fp64" else accelerator.mixed_precision.replace("no", "fp32")
    return {
        "run folder": str(folder.path),
        "processes": f"{accelerator.num_processes} on {accelerator.device.type}, {precision}",
        "steps": f"{total} of {built.recipe.train.batch_size} rows",
        **{f"{name} (train/validation/test)": counts for name, counts in present.items()},
        **{f"{name} parameters (learning / all)": count for name, count in count_parameters(built.model).items()},
    }


def _baselines(built: Built, data: str, console: Console) -> list[Result]:
    console.say("", "baselines on the same split ...")
    splits = {split: built.good_samples(split) for split in built.splits}
    rows = built.survey.rows  # a baseline is fitted, chosen and scored
    tasks = {name: task.cpu() for name, task in built.model.tasks.items() if all(rows[one].get(name) for one in rows)}
    parts = {**built.recipe.inputs, **built.recipe.tasks}
    options = {name: part.model_dump(mode="json") for name, part in parts.items()}
    given = (splits, built.processors, built.texts, tasks, built.labels)
    return cached_baselines(cache_folder() / "baselines", *given, data=data, options=options)


def _differences(
    built: Built, ours: Result, beside: Sequence[Result], found: Evaluation
) -> dict[str, tuple[str, dict[str, float]]]:
    """For each task: the best baseline, and the difference of the primary metric to it with its 95 % interval."""
    differences = {}
    groups = {sample.id: sample.attributes["group"] for sample in chained(built.splits, "test", ())
              if "group" in sample.attributes}  # fmt: skip
    for name in ours.scores:
        if not any(name in one.scores for one in beside):
            continue
        task = built.model.tasks[name]
        other = best(beside, name, task)
        metric, one = primary(ours.scores[name]), compare(ours, other, name, task, found.targets[name], groups)
        differences[name] = (
            other.arm,
            {
                f"{metric}_difference": one.difference,
                f"{metric}_difference_low": one.low,
                f"{metric}_difference_high": one.high,
                f"{metric}_difference_p": one.p,
            },
        )
    return differences
