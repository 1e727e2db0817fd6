"""What the command line does, as functions: train, evaluate, predict, baseline, load."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from mmbert.build import Built, build, facts
from mmbert.build import load as load_built
from mmbert.data.items import Items
from mmbert.data.loader import batches, evaluation_batches
from mmbert.data.plan import StepPlan
from mmbert.errors import IntegrityError, RecipeError
from mmbert.evaluate.evaluator import Evaluation
from mmbert.evaluate.evaluator import evaluate as evaluate_model
from mmbert.evaluate.ledger import append_results
from mmbert.evaluate.results import Result, best, cached_baselines, compare, fingerprint, from_evaluation, primary
from mmbert.fetch import cache_folder
from mmbert.recipe.load import load_recipe
from mmbert.recipe.schema import Recipe
from mmbert.recipe.write import dump, recipe_hash
from mmbert.train.checkpoint import load_weights, save_checkpoint
from mmbert.train.console import Console, count_parameters
from mmbert.train.folder import RunFolder, environment
from mmbert.train.launch import make_accelerator
from mmbert.train.loop import fit
from mmbert.types import Sample

RUNS = Path("runs")


def train(
    recipe: str | Path,
    *,
    overrides: Iterable[str] = (),
    out: str | Path | None = None,
    ledger: str | Path | None = None,
    arm: str = "base",
) -> dict[str, Any]:
    """Train a recipe, evaluate its best checkpoint on the test split, and write everything into a run folder.

    Args:
        recipe: the path of a recipe.
        overrides: ``section.key=value``, as ``--set`` takes them.
        out: the run folder; by default ``runs/<name>-<hash>``.
        ledger: a CSV file that the test scores are appended to, under the study named like the recipe.
        arm: what the run is called in the ledger.

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
    loaded = built.recipe.model_copy(
        update={"train": loaded.train.model_copy(update={"steps": total, "epochs": None})}
    )
    data = fingerprint({split: list(built.samples(split)) for split in built.splits})
    folder.write("recipe.yaml", dump(loaded))
    folder.write("env.json", environment(accelerator.num_processes))
    folder.write("data.json", {"fingerprint": data, "rows": data_rows(built)})
    console.banner(f"mmbert: {loaded.name}", _facts(built, accelerator, folder, total))
    model = built.model.to(accelerator.device)
    share = {"rank": accelerator.process_index, "world": accelerator.num_processes}
    loading = {**share, "workers": loaded.train.workers, "pin_memory": accelerator.device.type == "cuda"}

    def evaluation(split: str, without: Sequence[str] = ()) -> Evaluation:
        batches = evaluation_batches(built.items(split), loaded.evaluate.batch_size, **loading)
        return evaluate_model(model, batches, device=accelerator.device, without=without)

    def keep() -> None:
        parts = {f"inputs.{name}": part for name, part in built.processors.items()}
        parts |= {f"tasks.{name}": part for name, part in built.labels.items()}
        save_checkpoint(folder.checkpoint, model, parts, facts(model))

    plan = StepPlan(loaded.train.seed, len(built.items("train")), loaded.train.batch_size)
    steps = batches(plan, built.items("train"), steps=total, accumulate=loaded.train.accumulate, **loading)
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
        "recipe": recipe_hash(loaded),
        "seed": loaded.train.seed,
        "best_step": progress.best_step,
        "test": ours.scores,
        "hidden": {one.arm: one.scores for one in hidden},
        "baselines": {one.arm: one.scores for one in beside},
        "against_best_baseline": differences,
    }
    folder.log(progress.best_step, "test", ours.scores)
    folder.write("result.json", result)
    if ledger:
        common = {"study": loaded.name, "seed": loaded.train.seed, "split": "test", "recipe": recipe_hash(loaded)}
        append_results(ledger, ours.scores, arm=arm, **common)
        append_results(ledger, differences, arm=f"{arm} against baseline", **common)
    _show(console, [ours, *hidden, *beside], differences, list(ours.scores))
    console.say("", f"run folder: {folder.path}", f"next: python -m mmbert predict {folder.path} --split test "
                "--output predictions.jsonl")  # fmt: skip
    return result


def evaluate(run: str | Path, *, split: str = "test") -> dict[str, dict[str, float]]:
    """The scores of a run's best checkpoint on a split of its recipe's data, by task and metric."""
    built = _open(run, data=True)
    found = evaluate_model(built.model, evaluation_batches(built.items(split), built.recipe.evaluate.batch_size))
    ours = from_evaluation("mmbert", found)
    _show(Console(speaks=True), [ours], {}, list(ours.scores))
    return found.scores


def baseline(
    recipe: str | Path, *, overrides: Iterable[str] = (), ledger: str | Path | None = None
) -> dict[str, dict[str, dict[str, float]]]:
    """The cheap baselines of a recipe on its test split: arm -> task -> metric -> value. Nothing is trained."""
    loaded = load_recipe(recipe, overrides).recipe
    built = build(loaded)
    console = Console(speaks=True)
    data = fingerprint({split: list(built.samples(split)) for split in built.splits})
    results = _baselines(built, data, console)
    _show(console, results, {}, list(loaded.tasks))
    if ledger:
        for one in results:
            common = {"study": loaded.name, "seed": 0, "split": "test", "recipe": recipe_hash(loaded)}
            append_results(ledger, one.scores, arm=one.arm, **common)
    return {one.arm: one.scores for one in results}


class Model:
    """A trained model: ``mmbert.load(run).predict(frame)``."""

    def __init__(self, built: Built):
        self.built = built
        self.model = built.model

    def predict(self, rows: Any) -> list[dict[str, Any]]:
        """Predictions for the rows of a DataFrame, or for dicts, whose columns are the recipe's: one dict a row, in order.

        A row's value under a task's name is what ``Task.decode`` makes of the prediction. A missing column or value is an
        absent input. Raises ``SampleError`` naming the row and the input of a bad value.
        """
        records = rows.to_dict("records") if hasattr(rows, "to_dict") else list(rows)
        samples = [_sample(index, record, self.built.recipe) for index, record in enumerate(records)]
        return list(self._predict(Items([samples], self.built.processors, {})))

    def predict_split(self, split: str) -> Iterator[dict[str, Any]]:
        """The same for a split of the recipe's own data, with the key of each row."""
        yield from self._predict(self.built.items(split))

    @torch.no_grad()
    def _predict(self, items: Items) -> Iterator[dict[str, Any]]:
        bare = Items(items.splits, items.processors, {})
        keys = (bare.sample(position).attributes.get("key") for position in range(len(bare)))
        dtype = next(self.model.parameters()).dtype
        for batch in evaluation_batches(bare, self.built.recipe.evaluate.batch_size):
            found = self.model.predict(batch.to("cpu", dtype))
            for row in range(len(batch)):
                key = next(keys)
                decoded = {name: self.model.tasks[name].decode(values[row]) for name, values in found.items()}
                yield {"key": key, **decoded} if key is not None else decoded


def load(run: str | Path) -> Model:
    """The best model of a finished or running run. Raises ``IntegrityError`` where the folder holds none."""
    return Model(_open(run))


def predict(run: str | Path, *, output: str | Path, input: str | Path | None = None, split: str | None = None) -> int:
    """Write predictions as JSON lines, one for each row in order: of a CSV, JSON Lines or Parquet file, or of a split.

    Media paths in the file are relative to its folder. Returns the number of rows. The file is written as a whole.
    """
    if (input is None) == (split is None):
        raise RecipeError("predict needs either --input FILE or --split train|validation|test")
    if input is None:
        found: Iterable[dict[str, Any]] = Model(_open(run, data=True)).predict_split(str(split))
    else:
        found = load(run).predict(_read_rows(Path(input)))
    temporary = Path(f"{output}.tmp")
    count = 0
    with open(temporary, "w", encoding="utf-8") as file:
        for count, row in enumerate(found, 1):  # noqa: B007
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    os.replace(temporary, output)
    return count


def steps_of(recipe: Recipe, rows: int) -> tuple[int, int]:
    """Optimiser steps of a run, and steps between evaluations, for so many training rows."""
    epoch = rows / recipe.train.batch_size
    total = recipe.train.steps or max(1, round((recipe.train.epochs or 1) * epoch))
    return total, min(total, max(1, round(recipe.evaluate.every * epoch)))


def data_rows(built: Built) -> dict[str, dict[str, int]]:
    """Rows of each split, and how many of them have each input and each label."""
    counts: dict[str, dict[str, int]] = {}
    for split in built.splits:
        found = counts.setdefault(split, {"rows": 0})
        for sample in built.samples(split):
            found["rows"] += 1
            for name in (*sample.inputs, *sample.targets):
                found[name] = found.get(name, 0) + 1
    return counts


def _facts(built: Built, accelerator: Accelerator, folder: RunFolder, total: int) -> dict[str, str]:
    rows = data_rows(built)
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
    splits = {split: list(built.samples(split)) for split in built.splits}
    tasks = {name: task.cpu() for name, task in built.model.tasks.items()}
    cache = cache_folder() / "baselines"
    return cached_baselines(cache, splits, built.processors, built.texts, tasks, built.labels, data=data)


def _differences(
    built: Built, ours: Result, beside: Sequence[Result], found: Evaluation
) -> dict[str, dict[str, float]]:
    """For each task: the difference of the primary metric to the best baseline, with its 95 % interval."""
    differences = {}
    for name in ours.scores if beside else ():
        task = built.model.tasks[name]
        other = best(beside, name, task)
        metric, one = primary(ours.scores[name]), compare(ours, other, name, task, found.targets[name])
        differences[name] = {
            f"{metric}_difference": one.difference,
            f"{metric}_difference_low": one.low,
            f"{metric}_difference_high": one.high,
            f"{metric}_difference_p": one.p,
        }
    return differences


def _show(
    console: Console, results: Sequence[Result], differences: Mapping[str, dict[str, float]], tasks: Sequence[str]
) -> None:
    metrics = {name: primary(one.scores[name]) for name in tasks for one in results if name in one.scores}
    rows = [
        (one.arm, *(f"{one.scores[name][metric]:.4g}" if name in one.scores else "" for name, metric in metrics.items()))
        for one in results
    ]
    console.say("")
    console.table("test split", ["", *(f"{name} {metric}" for name, metric in metrics.items())], rows)
    for name, found in differences.items():
        difference, low, high, p = found.values()
        console.say(f"{name}: {metrics[name]} differs from the best baseline's by {difference:+.4g} "
                    f"(paired bootstrap, 95 % interval {low:+.4g} to {high:+.4g}, p = {p:.3g})")  # fmt: skip


def _open(run: str | Path, data: bool = False) -> Built:
    path = Path(run)
    if not (path / "recipe.yaml").exists():
        raise IntegrityError(f"'{path}' is not a run folder: it has no recipe.yaml")
    if not (path / "checkpoints" / "best").exists():
        raise IntegrityError(f"'{path}' holds no checkpoint yet: no evaluation was reached")
    return load_built(path / "checkpoints" / "best", load_recipe(path / "recipe.yaml").recipe, data=data)


def _sample(index: int, record: Mapping[str, Any], recipe: Recipe) -> Sample:
    """A record as a sample without targets; what is missing is absent."""
    inputs = {}
    for name, part in recipe.inputs.items():
        if isinstance(part.column, list):
            value: Any = {column: record[column] for column in part.column if _is_there(record.get(column))} or None
        else:
            value = record.get(part.column or name)
        if _is_there(value):
            inputs[name] = value
    return Sample(index, "rows", inputs, {}, {"where": f"row {index + 1}"})


def _is_there(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and value != value)


def _read_rows(path: Path) -> list[dict[str, Any]]:
    import pandas as pd

    readers = {
        ".csv": pd.read_csv,
        ".tsv": lambda file: pd.read_csv(file, sep="\t"),
        ".jsonl": lambda file: [json.loads(line) for line in open(file, encoding="utf-8") if line.strip()],
        ".parquet": pd.read_parquet,
    }
    if path.suffix not in readers:
        raise RecipeError(f"--input '{path}' must end in one of {', '.join(readers)}")
    rows = readers[path.suffix](path)
    return rows if isinstance(rows, list) else rows.to_dict("records")
