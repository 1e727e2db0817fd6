"""A run's scores beside those of the cheap baselines on the same split."""

from collections.abc import Sequence

from mmbert.built import Built
from mmbert.evaluate.evaluator import Evaluation
from mmbert.evaluate.results import Result, best, cached_baselines, compare, primary
from mmbert.fetch import cache_folder
from mmbert.train.console import Console


def baselines(built: Built, console: Console) -> list[Result]:
    """What cheap models reach on the test split of a recipe's data."""
    console.say("", "baselines on the same split ...")
    splits = {split: built.good_samples(split) for split in built.splits}
    rows = built.survey.rows  # a baseline is fitted, chosen and scored
    tasks = {name: task.cpu() for name, task in built.model.tasks.items() if all(rows[one].get(name) for one in rows)}
    parts = {**built.recipe.inputs, **built.recipe.tasks}
    options = {name: part.model_dump(mode="json") for name, part in parts.items()}
    given = (splits, built.processors, built.texts, tasks, built.labels)
    return cached_baselines(cache_folder() / "baselines", *given, data=built.survey.fingerprint, options=options)


def differences(
    built: Built, ours: Result, beside: Sequence[Result], found: Evaluation
) -> dict[str, tuple[str, dict[str, float]]]:
    """For each task: the best baseline, and the difference of the primary metric to it with its 95 % interval."""
    found_differences = {}
    groups = built.groups("test")
    for name in ours.scores:
        if not any(name in one.scores for one in beside):
            continue
        task = built.model.tasks[name]
        other = best(beside, name, task)
        metric, one = primary(ours.scores[name]), compare(ours, other, name, task, found.targets[name], groups)
        found_differences[name] = (
            other.arm,
            {
                f"{metric}_difference": one.difference,
                f"{metric}_difference_low": one.low,
                f"{metric}_difference_high": one.high,
                f"{metric}_difference_p": one.p,
            },
        )
    return found_differences
