"""What the inputs of a trained model are worth: its scores with inputs absent or exchanged, and what follows of them.

All of it is plain values for a file of JSON; scores are task -> metric -> value, of all labelled rows.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmbert.analysis.encoded_rows import Encoded
from mmbert.contracts import Task
from mmbert.data.keyed_random import uniform
from mmbert.errors import NumericalError
from mmbert.evaluation.attribution import area, effects, project, shapley, subsets
from mmbert.evaluation.baselines import Labelled, constant
from mmbert.evaluation.bootstrap import paired_bootstrap, standard_error
from mmbert.evaluation.evaluate import Evaluation, evaluate
from mmbert.evaluation.perturbations import RATES, View, exchanged, missing
from mmbert.evaluation.results import primary
from mmbert.model import MMBert
from mmbert.types import Batch

PAIRS = 50_000  # rows put together for the additive projection, at most
DRAWS = {"error": 100, "interval": 500}  # of a bootstrap: an interval needs more than a standard error

Scores = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Probe:
    """A trained model, as ``encoded.reader`` makes it, and the rows that it is asked about."""

    model: MMBert
    encoded: Encoded
    groups: Mapping[int, Any]  # sample id -> group, of those that have one
    seed: int
    device: torch.device | str = "cpu"

    @property
    def inputs(self) -> list[str]:
        return sorted(self.encoded.columns)

    def evaluate(self, view: View | None = None, without: Sequence[str] = ()) -> Evaluation:
        return evaluate(self.model, self.encoded.batches(view), device=self.device, without=without)

    def task(self, name: str) -> Task:
        return self.model.tasks[name]

    def of_groups(self, ids: Sequence[int]) -> list[str]:
        """The group of each sample; one without is its own."""
        return [str(self.groups.get(sample, f"{sample} alone")) for sample in ids]


def of_constant(probe: Probe, found: Evaluation) -> dict[str, list[Tensor]]:
    """What the best predictor that ignores the input says of the rows of ``found``: what no input at all is worth."""
    said = {}
    for name, targets in found.targets.items():
        items, task = targets.rows(), deepcopy(probe.task(name)).cpu()
        rows = {"": Labelled(np.arange(len(items)), list(targets), items, {})}
        said[name] = list(task.predict(constant(task, rows, {*probe.inputs, "text"})[""]))
    return said


def score(probe: Probe, found: Evaluation, predictions: Mapping[str, Sequence[Tensor]]) -> dict[str, dict[str, float]]:
    """The scores of predictions for the rows of ``found``."""
    return {name: probe.task(name).score(made, found.targets[name].rows()) for name, made in predictions.items()}


def of_subsets(probe: Probe, found: Evaluation, chance: Scores) -> dict[frozenset[str], Scores]:
    """The scores for every subset of inputs, the others taken away; ``chance`` for none, ``found`` for all."""
    values: dict[frozenset[str], Scores] = {}
    for subset in subsets(probe.inputs):
        if not subset:
            values[subset] = chance
        elif len(subset) == len(probe.inputs):
            values[subset] = found.scores
        else:
            values[subset] = probe.evaluate(without=sorted({*probe.inputs} - subset)).scores
    return values


def contributions(probe: Probe, values: Mapping[frozenset[str], Scores]) -> dict[str, dict[str, dict[str, float]]]:
    """Task -> metric -> input -> its Shapley contribution: how much better it makes the score, also of an error."""
    result: dict[str, dict[str, dict[str, float]]] = {}
    for name, metrics in values[frozenset(probe.inputs)].items():
        errors = probe.task(name).lower_is_better
        for metric in metrics:
            sign = -1 if metric in errors else 1
            worth = {subset: sign * scores[name][metric] for subset, scores in values.items()}
            result.setdefault(name, {})[metric] = shapley(worth, probe.inputs)
    return result


def of_missing(probe: Probe) -> list[Scores]:
    """The scores at each of ``RATES`` at which inputs are absent at random."""
    has, ids = probe.encoded.has, probe.encoded.ids
    return [probe.evaluate(missing(has, ids, rate, probe.seed)).scores for rate in RATES]


def of_exchanged(probe: Probe, name: str) -> list[Scores]:
    """The scores at each of ``RATES`` at which one input is another row's."""
    has, ids = probe.encoded.has, probe.encoded.ids
    return [probe.evaluate(exchanged(has, ids, name, rate, probe.seed)).scores for rate in RATES]


def errors_of_gain(probe: Probe, found: Evaluation, said: Mapping[str, Sequence[Tensor]]) -> dict[str, float]:
    """Task -> the standard error of its primary metric minus the constant's, over rows or groups of rows."""
    result = {}
    for name, targets in found.targets.items():
        true, made, task = targets.rows(), found.predictions[name].rows(), probe.task(name)
        metric = primary(found.scores[name])

        def gain(rows: np.ndarray, name=name, true=true, made=made, task=task, metric=metric) -> float:
            items = [true[row] for row in rows]
            return (
                task.score([made[row] for row in rows], items)[metric]
                - task.score([said[name][row] for row in rows], items)[metric]
            )

        result[name] = standard_error(gain, probe.of_groups(list(targets)), samples=DRAWS["error"])
    return result


def areas(
    probe: Probe, curve: Sequence[Scores], chance: Scores, errors: Mapping[str, float]
) -> tuple[dict[str, float], dict[str, str]]:
    """Task -> the area of its curve in the primary metric, and task -> why there is none."""
    found, refused = {}, {}
    for name, scores in curve[0].items():
        metric = primary(scores)
        values, lower = [one[name][metric] for one in curve], metric in probe.task(name).lower_is_better
        try:
            found[name] = area(values, chance[name][metric], error=errors[name], lower_is_better=lower)
        except NumericalError as error:
            refused[name] = f"{name}: {metric} {error}"
    return found, refused


def additive(probe: Probe, found: Evaluation, *, most: int, batch: int) -> dict[str, Any]:
    """The scores of the model and of its additive projection on the same rows, at most ``most``; nothing for one input.

    With ``difference``, the primary metric of the model minus that of the projection, by paired bootstrap.
    """
    names, inputs = [name for name in found.scores if row_level(probe.task(name))], probe.inputs
    passes = 1 if len(inputs) == 2 else len(inputs)
    chosen = _labelled(probe, found, names)[: min(most, int((PAIRS / passes) ** 0.5))]
    if len(inputs) < 2 or len(chosen) < 2:
        return {}
    dtype = next(probe.model.parameters()).dtype

    def outputs(view: View) -> dict[str, Tensor]:
        made = probe.encoded.inputs({name: chosen[places] for name, places in view.items()})
        ids = torch.zeros(len(next(iter(view.values()))), dtype=torch.int64)
        return of_rows(probe.model, Batch(ids, made, {}).to(probe.device, dtype), names)

    whole = [outputs(dict.fromkeys(inputs, places)) for places in torch.arange(len(chosen)).split(batch)]
    means = effects(outputs, inputs, len(chosen), batch=batch)
    samples, tasks = probe.encoded.ids[chosen].tolist(), {}
    for name in names:
        own = [place for place, sample in enumerate(samples) if sample in found.targets[name]]
        if own:
            both = torch.cat([one[name] for one in whole])[own], project(means[name])[own]
            tasks[name] = _compared(probe, found, name, [samples[place] for place in own], *both)
    return {"rows": len(chosen), "tasks": tasks}


def _labelled(probe: Probe, found: Evaluation, names: Sequence[str]) -> Tensor:
    """The rows that have a label of some of these tasks, in an order of chance."""
    ids = probe.encoded.ids.tolist()
    rows = [row for row, sample in enumerate(ids) if any(sample in found.targets[name] for name in names)]
    return torch.tensor(sorted(rows, key=lambda row: uniform(probe.seed, ids[row], "additive")), dtype=torch.int64)


def _compared(
    probe: Probe, found: Evaluation, name: str, samples: Sequence[int], model: Tensor, projected: Tensor
) -> dict[str, Any]:
    """What the outputs [samples, ...] of the model and of its projection are worth for one task."""
    task, true = probe.task(name), [found.targets[name][sample] for sample in samples]
    one, other = (list(task.predict(output.to(probe.device)).cpu()) for output in (model, projected))
    scores = task.score(one, true)
    metric = primary(scores)
    difference = paired_bootstrap(
        lambda made, items: task.score(made, items)[metric], true, one, other, probe.of_groups(samples),
        samples=DRAWS["interval"],
    )  # fmt: skip
    return {"rows": len(samples), "model": scores, "additive": task.score(other, true),
            "difference": difference._asdict()}  # fmt: skip


class Said(NamedTuple):
    """The outputs of one task for its labelled rows, and what is true of these."""

    outputs: Tensor  # [rows, ...] float64
    targets: dict[str, Tensor]  # [rows, ...] each


def row_level(task: Task) -> bool:
    """Whether an output is one row's and has the same shape for all: the baselines need to know it too."""
    return getattr(task, "baseline", None) is not None


@torch.no_grad()
def of_rows(model: MMBert, batch: Batch, tasks: Collection[str]) -> dict[str, Tensor]:
    """Task -> the output [rows, ...] for every row of a batch, float64 on the CPU. The model is in evaluation mode."""
    assert not model.training
    fused = model.fuse(batch)
    return {name: model.output(name, fused).double().cpu() for name in tasks}


def of_labelled(
    model: MMBert, batches: Iterable[Batch], tasks: Collection[str], *, device: torch.device | str = "cpu"
) -> dict[str, Said]:
    """Task -> the outputs for the labelled rows of all batches; a task without any is not there."""
    dtype = next(model.parameters()).dtype
    parts: dict[str, list[Said]] = {}
    for batch in batches:
        wanted = [name for name in tasks if name in batch.targets]
        found = of_rows(model, batch.to(device, dtype), wanted)
        for name in wanted:
            target = batch.targets[name]
            parts.setdefault(name, []).append(Said(found[name][target.rows], target.tensors))
    return {name: _joined(parts[name]) for name in tasks if name in parts}


def _joined(parts: list[Said]) -> Said:
    keys = parts[0].targets
    return Said(torch.cat([one.outputs for one in parts]), {key: torch.cat([one.targets[key] for one in parts])
                                                            for key in keys})  # fmt: skip
