"""The result table of a run: the model, the model without each input, the cheap baselines, and what the best lacks."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

from mmbert.checkpoint.resume import Identity
from mmbert.evaluation.evaluate import Evaluation
from mmbert.evaluation.results import (
    BaselineComparison,
    Result,
    best_result,
    cached_baselines,
    compare,
    from_evaluation,
    primary_metric,
)
from mmbert.experiment.experiment import Experiment
from mmbert.io.download import cache_folder
from mmbert.tracking.console import Console
from mmbert.tracking.ledger import Measured, Scores, append_results


@dataclass(frozen=True)
class ResultTable:
    """The results of one run on one split.

    Attributes:
        split: test, or validation if no test row has a label.
        ours: of the trained model.
        without_one_input: of the same model, without one input each.
        baselines: of the cheap models.
        comparisons: task -> our result against the best baseline.
    """

    split: str
    ours: Result
    without_one_input: Sequence[Result]
    baselines: Sequence[Result]
    comparisons: Mapping[str, BaselineComparison]

    @property
    def results(self) -> list[Result]:
        """All lines of the table."""
        return [self.ours, *self.without_one_input, *self.baselines]


def make_table(
    experiment: Experiment, evaluation: Evaluation, without_one_input: Sequence[Result], baselines: Sequence[Result]
) -> ResultTable:
    """The result table of a run on the scored split.

    Args:
        experiment: that was trained.
        evaluation: of the scored split.
        without_one_input: the results without one input each.
        baselines: of the cheap models.
    """
    ours = from_evaluation("mmbert", evaluation)
    comparisons = compare_to_baselines(experiment, ours, baselines, evaluation)
    return ResultTable(experiment.scored_split, ours, without_one_input, baselines, comparisons)


def append_table(ledger: str | Path, identity: Identity, arm: str, table: ResultTable) -> None:
    """Append the results of a run to a ledger.

    Args:
        ledger: a CSV file.
        identity: of the run.
        arm: the run's name in the ledger.
        table: its results.
    """
    rows: dict[str, Scores] = {result.arm.replace("mmbert", arm): result.scores for result in table.results}
    differences = {
        task: {f"{comparison.metric}_difference{name}": value for name, value in _numbers(comparison).items()}
        for task, comparison in table.comparisons.items()
    }
    rows[f"{arm} against the best baseline"] = {task: numbers for task, numbers in differences.items() if numbers}
    run = Measured(identity.recipe.name, identity.recipe.train.seed, table.split, identity.hash, identity.data)
    append_results(ledger, {name: scores for name, scores in rows.items() if scores}, run)


def _numbers(comparison: BaselineComparison) -> dict[str, float]:
    """The numbers of a comparison that exist, by the end of their names in the ledger."""
    difference = comparison.difference
    if difference is None:
        return {}
    numbers = {"": difference.difference, "_low": difference.low, "_high": difference.high, "_p": difference.p}
    return {name: value for name, value in numbers.items() if value is not None}


def score_baselines(experiment: Experiment, console: Console) -> list[Result]:
    """The cheap baselines of a recipe, fitted and scored; a baseline that fails is a result without scores.

    Args:
        experiment: its data are read; copies of its tasks score.
        console: the terminal output.
    """
    split = experiment.scored_split
    console.say("", f"baselines, scored on {split} ...")
    recipe, report = experiment.recipe, experiment.data_report
    splits = {name: experiment.good_samples(name) for name in dict.fromkeys(("train", "validation", split))}
    tasks = {
        name: deepcopy(task).cpu()
        for name, task in experiment.model.tasks.items()
        if report.labelled.get(split, {}).get(name)
    }
    parts = {**recipe.inputs, **recipe.tasks}
    results = cached_baselines(
        cache_folder() / "baselines",
        splits,
        experiment.processors,
        experiment.text_inputs,
        tasks,
        data=report.fingerprint,
        options={name: part.model_dump(mode="json") for name, part in parts.items()},
        split=split,
    )
    for result in results:
        for task, failure in result.failures.items():
            console.warn(f"the baseline {result.arm} of {task} is none: {failure}")
    return results


def compare_to_baselines(
    experiment: Experiment, ours: Result, baselines: Sequence[Result], evaluation: Evaluation
) -> dict[str, BaselineComparison]:
    """Task -> our primary metric against that of the best baseline; a comparison that fails says why.

    Args:
        experiment: that was trained.
        ours: its results on the scored split.
        baselines: those of the cheap models.
        evaluation: of the scored split.
    """
    comparisons = {}
    groups = experiment.groups(experiment.scored_split)
    for name in ours.scores:
        if not any(name in result.scores for result in baselines):
            continue
        task, metric = experiment.model.tasks[name], primary_metric(ours.scores[name])
        baseline = best_result(baselines, name, task)
        try:
            difference = compare(ours, baseline, name, task, evaluation.targets[name], groups)
        except Exception as error:  # a comparison must not cost the result of the run
            reason = f"{type(error).__name__}: {error}"
            comparisons[name] = BaselineComparison(baseline.arm, metric, None, reason)
        else:
            comparisons[name] = BaselineComparison(baseline.arm, metric, difference)
    return comparisons
