"""Scores of a trained model under absent and corrupted inputs, and the measures that are computed from them.

All results are plain values for a JSON file. Scores are task -> metric -> value, over all labelled rows.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmbert.analysis.encoded_rows import EncodedRows
from mmbert.analysis.outputs import is_row_level, row_outputs
from mmbert.contracts import Task
from mmbert.data.keyed_random import uniform
from mmbert.errors import NumericalError
from mmbert.evaluation.attribution import (
    project_to_additive,
    retained_performance,
    shapley_values,
    subsets,
    unimodal_means,
)
from mmbert.evaluation.baseline_models import LabelledRows, constant_outputs
from mmbert.evaluation.bootstrap import standard_error
from mmbert.evaluation.contrasts import ScoredRows
from mmbert.evaluation.evaluate import Evaluation, evaluate
from mmbert.evaluation.permutation import compare_predictions
from mmbert.evaluation.perturbations import RATES, View, corrupt_input, drop_at_random
from mmbert.evaluation.results import primary_metric
from mmbert.model import MMBert
from mmbert.types import Batch

MAX_PAIRS = 50_000  # of rows that are combined for the additive projection
DRAWS = 100  # of the bootstrap of a standard error

Scores = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Probe:
    """A trained model and the rows on which it is scored.

    Attributes:
        model: as ``model_for_encoded_rows`` returns it.
        encoded: the rows.
        groups: sample id -> group, of the samples that have one.
        seed: of all random choices.
        device: of the model.
    """

    model: MMBert
    encoded: EncodedRows
    groups: Mapping[int, Any]
    seed: int
    device: torch.device | str = "cpu"

    @property
    def inputs(self) -> list[str]:
        """The names of the inputs, sorted."""
        return sorted(self.encoded.columns)

    def evaluate(self, view: View | None = None, without: Sequence[str] = ()) -> Evaluation:
        """Evaluate the model on all rows.

        Args:
            view: which row's values each row is shown; by default its own.
            without: inputs that are removed from every row.
        """
        return evaluate(self.model, self.encoded.batches(view), device=self.device, without=without)

    def task(self, name: str) -> Task:
        """A task by its name."""
        return self.model.tasks[name]

    def group_names(self, ids: Sequence[int]) -> list[str]:
        """The group of each sample; a sample without one is a group of its own."""
        return [str(self.groups.get(sample, f"{sample} alone")) for sample in ids]


def predict_constant(probe: Probe, evaluation: Evaluation) -> dict[str, list[Tensor]]:
    """The predictions of the best predictor that ignores the input: the value of no input at all.

    Args:
        probe: whose tasks predict.
        evaluation: whose rows are predicted.

    Returns:
        Task -> one prediction a row.
    """
    predictions = {}
    for name, targets in evaluation.targets.items():
        items, task = targets.rows(), deepcopy(probe.task(name)).cpu()
        labelled = {"": LabelledRows(np.arange(len(items)), list(targets), items, {})}
        predictions[name] = list(task.predict(constant_outputs(task, labelled, {*probe.inputs, "text"})[""]))
    return predictions


def score_predictions(
    probe: Probe, evaluation: Evaluation, predictions: Mapping[str, Sequence[Tensor]]
) -> dict[str, dict[str, float]]:
    """The scores of predictions.

    Args:
        probe: whose tasks score.
        evaluation: that has the targets.
        predictions: task -> one prediction a row of ``evaluation``.
    """
    return {name: probe.task(name).score(rows, evaluation.targets[name].rows()) for name, rows in predictions.items()}


def score_subsets(probe: Probe, evaluation: Evaluation, chance: Scores) -> dict[frozenset[str], Scores]:
    """The scores for every subset of the inputs, where the other inputs are removed.

    Args:
        probe: the model and its rows.
        evaluation: with all inputs.
        chance: the scores of the constant predictor, for the empty subset.
    """
    values: dict[frozenset[str], Scores] = {}
    for subset in subsets(probe.inputs):
        if not subset:
            values[subset] = chance
        elif len(subset) == len(probe.inputs):
            values[subset] = evaluation.scores
        else:
            values[subset] = probe.evaluate(without=sorted({*probe.inputs} - subset)).scores
    return values


def shapley_contributions(
    probe: Probe, scores_of_subsets: Mapping[frozenset[str], Scores]
) -> dict[str, dict[str, dict[str, float]]]:
    """The Shapley value of each input in each metric; above 0 where the input helps, also in errors.

    Args:
        probe: the model and its rows.
        scores_of_subsets: as ``score_subsets`` returns them.

    Returns:
        Task -> metric -> input -> Shapley value.
    """
    contributions: dict[str, dict[str, dict[str, float]]] = {}
    for name, metrics in scores_of_subsets[frozenset(probe.inputs)].items():
        errors = probe.task(name).lower_is_better
        for metric in metrics:
            sign = -1 if metric in errors else 1
            values = {subset: sign * scores[name][metric] for subset, scores in scores_of_subsets.items()}
            contributions.setdefault(name, {})[metric] = shapley_values(values, probe.inputs)
    return contributions


def score_with_missing(probe: Probe) -> list[Scores]:
    """The scores at each of ``RATES`` at which inputs are absent at random."""
    has, ids = probe.encoded.has, probe.encoded.ids
    return [probe.evaluate(drop_at_random(has, ids, rate, probe.seed)).scores for rate in RATES]


def score_with_corrupted(probe: Probe, name: str) -> list[Scores]:
    """The scores at each of ``RATES`` at which one input comes from another row.

    Args:
        probe: the model and its rows.
        name: the input.
    """
    has, ids = probe.encoded.has, probe.encoded.ids
    return [probe.evaluate(corrupt_input(has, ids, name, rate, probe.seed)).scores for rate in RATES]


def standard_errors_of_gain(
    probe: Probe, evaluation: Evaluation, constant: Mapping[str, Sequence[Tensor]]
) -> dict[str, float]:
    """The standard error of each task's primary metric minus that of the constant predictor.

    Args:
        probe: the model and its rows, which are drawn by group.
        evaluation: of the model with all inputs.
        constant: task -> the constant predictor's prediction of each row.
    """
    errors = {}
    for name, targets in evaluation.targets.items():
        true, predicted, task = targets.rows(), evaluation.predictions[name].rows(), probe.task(name)
        metric = primary_metric(evaluation.scores[name])

        def gain(rows: np.ndarray, name=name, true=true, predicted=predicted, task=task, metric=metric) -> float:
            items = [true[row] for row in rows]
            return (
                task.score([predicted[row] for row in rows], items)[metric]
                - task.score([constant[name][row] for row in rows], items)[metric]
            )

        errors[name] = standard_error(gain, probe.group_names(list(targets)), samples=DRAWS)
    return errors


def retained_by_task(
    probe: Probe, curve: Sequence[Scores], chance: Scores, errors: Mapping[str, float]
) -> tuple[dict[str, float], dict[str, str]]:
    """The performance that each task retains under corruption, in its primary metric.

    Args:
        probe: the model and its rows.
        curve: the scores at rising rates, the first at rate 0.
        chance: the scores of the constant predictor.
        errors: task -> standard error of the gain over chance.

    Returns:
        Task -> retained performance, and task -> the reason why it has none.
    """
    retained, refused = {}, {}
    for name, scores in curve[0].items():
        metric = primary_metric(scores)
        values, lower = [point[name][metric] for point in curve], metric in probe.task(name).lower_is_better
        try:
            retained[name] = retained_performance(
                values, chance[name][metric], error=errors[name], lower_is_better=lower
            )
        except NumericalError as error:
            refused[name] = f"{name}: {metric} {error}"
    return retained, refused


def compare_to_additive(probe: Probe, evaluation: Evaluation, *, most: int, batch: int) -> dict[str, Any]:
    """Compare the model with its additive projection (EMAP) on the same rows.

    Args:
        probe: the model and its rows.
        evaluation: of the model with all inputs.
        most: the most rows.
        batch: rows in one pass of the model.

    Returns:
        The number of rows, and for each task the scores of both with the difference of the primary metric (model minus
        projection) by a paired permutation test; empty where the model has one input.
    """
    names, inputs = [name for name in evaluation.scores if is_row_level(probe.task(name))], probe.inputs
    passes = 1 if len(inputs) == 2 else len(inputs)
    chosen = _shuffled_labelled_rows(probe, evaluation, names)[: min(most, int((MAX_PAIRS / passes) ** 0.5))]
    if len(inputs) < 2 or len(chosen) < 2:
        return {}
    dtype = next(probe.model.parameters()).dtype

    def outputs(view: View) -> dict[str, Tensor]:
        encoded = probe.encoded.inputs({name: chosen[rows] for name, rows in view.items()})
        ids = torch.zeros(len(next(iter(view.values()))), dtype=torch.int64)
        return row_outputs(probe.model, Batch(ids, encoded, {}).to(probe.device, dtype), names)

    unperturbed = [outputs(dict.fromkeys(inputs, rows)) for rows in torch.arange(len(chosen)).split(batch)]
    means = unimodal_means(outputs, inputs, len(chosen), batch=batch)
    samples, tasks = probe.encoded.ids[chosen].tolist(), {}
    for name in names:
        rows = [row for row, sample in enumerate(samples) if sample in evaluation.targets[name]]
        if rows:
            model = torch.cat([part[name] for part in unperturbed])[rows]
            additive = project_to_additive(means[name])[rows]
            tasks[name] = _compare(probe, evaluation, name, [samples[row] for row in rows], (model, additive))
    return {"rows": len(chosen), "tasks": tasks}


def _shuffled_labelled_rows(probe: Probe, evaluation: Evaluation, names: Sequence[str]) -> Tensor:
    """The rows that have a label of some of these tasks, in random order."""
    ids = probe.encoded.ids.tolist()
    rows = [row for row, sample in enumerate(ids) if any(sample in evaluation.targets[name] for name in names)]
    return torch.tensor(sorted(rows, key=lambda row: uniform(probe.seed, ids[row], "additive")), dtype=torch.int64)


def _compare(
    probe: Probe, evaluation: Evaluation, name: str, samples: Sequence[int], outputs: tuple[Tensor, Tensor]
) -> dict[str, Any]:
    """The scores of one task for the outputs [samples, ...] of the model and of its projection."""
    task, true = probe.task(name), [evaluation.targets[name][sample] for sample in samples]
    model, additive = (list(task.predict(output.to(probe.device)).cpu()) for output in outputs)
    scores = task.score(model, true)
    metric = primary_metric(scores)

    sides = [[ScoredRows(task, predictions, true)] for predictions in (model, additive)]
    difference = compare_predictions(sides[0], sides[1], metric, probe.group_names(samples))
    return {
        "rows": len(samples),
        "model": scores,
        "additive": task.score(additive, true),
        "difference": difference._asdict(),
    }
