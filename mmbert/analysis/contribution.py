"""Contributions of the inputs of a trained model, and its robustness: ``mmbert evaluate RUN --inputs``."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmbert.analysis.encoded_rows import encode_rows, model_for_encoded_rows
from mmbert.analysis.outputs import TaskOutputs, labelled_outputs
from mmbert.analysis.probe import (
    Probe,
    Scores,
    compare_to_additive,
    predict_constant,
    retained_by_task,
    score_predictions,
    score_subsets,
    score_with_corrupted,
    score_with_missing,
    shapley_contributions,
    standard_errors_of_gain,
)
from mmbert.analysis.tables import print_contributions
from mmbert.data.keyed_random import uniform
from mmbert.data.loader import LoaderOptions, evaluation_batches
from mmbert.distributed import connect
from mmbert.errors import DataError, IntegrityError, RecipeError, SampleError
from mmbert.evaluation.calibration import TEMPERATURES, best_temperature, calibration
from mmbert.evaluation.perturbations import RATES
from mmbert.evaluation.results import primary_metric
from mmbert.experiment.experiment import Experiment
from mmbert.inference.predict import open_run
from mmbert.preprocessing.labels import UNSEEN
from mmbert.tracking.console import Console
from mmbert.tracking.run_folder import RunFolder
from mmbert.types import Batch, Sample

ROWS = 2000  # of a split, by default
MOST_INPUTS = 8  # 2 ** 8 subsets are scored, each with a pass over the rows
ADDITIVE_ROWS = 128


class _ChosenRow(NamedTuple):
    """A row of a split, by its source and its position in that source's part of the split."""

    source: int
    position: int
    sample: Sample  # without inputs and targets


def measure_contributions(run: str | Path, *, split: str = "test", rows: int | None = None) -> dict[str, Any]:
    """Measure, print and store what the inputs of a finished run contribute to its scores.

    Measured are the scores for every subset of the inputs with the Shapley value of each input; the scores with inputs
    absent, or corrupted (taken from another row), in a rising share of the rows; the scores of the additive projection;
    and the calibration of probabilities. They are written into the run folder as ``inputs.json``, for another split
    than "test" as ``inputs.<split>.json``; repeated calls give the same file.

    Args:
        run: the run folder.
        split: whose rows are scored.
        rows: the most rows, by default 2000; a random choice that is always the same.

    Returns:
        The content of the file.

    Raises:
        IntegrityError: where the run is not finished.
        DataError: where no row of the split has a label.
        RecipeError: where ``rows`` is below 1 or several processes were launched.
    """
    accelerator, path, rows = connect(), Path(run), ROWS if rows is None else rows
    if rows < 1:
        raise RecipeError(f"--rows: expected 1 or more, found {rows}")
    if accelerator.num_processes > 1:
        raise RecipeError(f"evaluate --inputs runs in one process, however: {accelerator.num_processes=}")
    if path.exists() and not (path / "result.json").exists():
        raise IntegrityError(f"'{path}' must hold a finished run, with result.json; it does not")
    console = Console(speaks=True)
    experiment, device = open_run(run, data=True), accelerator.device
    model = experiment.model.to(device)
    console.say(f"reading at most {rows} rows of the {split} split ...")
    chosen = _choose_rows(experiment, split, rows)
    encoded = encode_rows(model, _batches(experiment, split, chosen), device=device)
    groups = {row.sample.id: row.sample.attributes["group"] for row in chosen if "group" in row.sample.attributes}
    probe = Probe(model_for_encoded_rows(model), encoded, groups, experiment.recipe.train.seed, device)
    total = len(experiment.dataset(split))
    report = {"split": split, "rows": len(encoded.ids), "of": total, "seed": probe.seed}
    report |= _measure(experiment, probe, split, rows, console)
    print_contributions(report, console)
    name = "inputs.json" if split == "test" else f"inputs.{split}.json"
    RunFolder(path, writes=True).write(name, report)
    console.say("", f"written to {path / name}")
    return report


def _measure(experiment: Experiment, probe: Probe, split: str, rows: int, console: Console) -> dict[str, Any]:
    inputs, notes = probe.inputs, _notes(experiment, probe)
    evaluation = probe.evaluate()
    if not evaluation.scores:
        raise DataError(f"expected labels in the rows of the {split} split, found none")
    constant = predict_constant(probe, evaluation)
    chance = score_predictions(probe, evaluation, constant)
    tasks = {}
    for name, scores in evaluation.scores.items():
        metric = primary_metric(scores)
        lower_is_better = metric in probe.task(name).lower_is_better
        tasks[name] = {"metric": metric, "rows": len(evaluation.targets[name]), "lower_is_better": lower_is_better}
    report: dict[str, Any] = {"inputs": inputs, "tasks": tasks, "constant": chance, "subsets": [], "contributions": {}}
    if len(inputs) <= MOST_INPUTS:
        console.say(f"scores of {2 ** len(inputs)} subsets of the inputs ...")
        by_subset = score_subsets(probe, evaluation, chance)
        report["subsets"] = [{"inputs": sorted(subset), "scores": scores} for subset, scores in by_subset.items()]
        report["contributions"] = shapley_contributions(probe, by_subset)
    else:
        notes.append(
            f"{len(inputs)} inputs have {2 ** len(inputs)} subsets, more than the {2**MOST_INPUTS} that are scored: "
            "subsets and contributions are left out."
        )
    console.say("scores with inputs absent, or corrupted ...")
    errors = standard_errors_of_gain(probe, evaluation, constant)
    curves: dict[str, list[Scores]] = {}
    if len(inputs) > 1:
        curves["absent at random"] = score_with_missing(probe)
    else:
        notes.append("The only input is never absent: its curve is left out.")
    curves |= {f"{name} corrupted": score_with_corrupted(probe, name) for name in inputs}
    report["rates"], report["curves"], refused = [0.0, *RATES], {}, {}
    for name, points in curves.items():
        curve = [evaluation.scores, *points]
        retained, refused = retained_by_task(probe, curve, chance, errors)  # refused: the same for all curves
        report["curves"][name] = {"scores": curve, "areas": retained}
    notes += refused.values()
    console.say("the additive projection ...")
    batch = experiment.recipe.evaluate.batch_size
    report["additive"] = compare_to_additive(probe, evaluation, most=ADDITIVE_ROWS, batch=batch)
    report["calibration"] = _measure_calibration(experiment, probe, split, rows)
    report["notes"] = notes
    return report


def _notes(experiment: Experiment, probe: Probe) -> list[str]:
    complete = [name for name, has in probe.encoded.has.items() if bool(has.all())]
    if experiment.recipe.train.input_dropout or not complete or len(probe.inputs) < 2:
        return []
    return [
        f"Every row has {', '.join(complete)}, and train.input_dropout is 0: if the training rows were complete too, "
        "the model has not learned to do without."
    ]


def _batches(experiment: Experiment, split: str, chosen: Sequence[_ChosenRow]) -> Iterator[Batch]:
    """The chosen rows in the order of the split, as evaluation reads them."""
    parts = []
    for source, samples in enumerate(experiment.splits[split]):
        positions = sorted(row.position for row in chosen if row.source == source)
        parts.append(samples[np.array(positions, dtype=np.int64)])
    dataset = replace(experiment, splits={split: parts}).dataset(split)
    loading = LoaderOptions(on_bad=experiment.bad_samples.add)
    return evaluation_batches(dataset, experiment.recipe.evaluate.batch_size, loading=loading)


def _choose_rows(experiment: Experiment, split: str, rows: int) -> list[_ChosenRow]:
    """At most ``rows`` rows of a split; the choice depends on their ids and the seed only."""
    candidates = [
        _ChosenRow(source, position, sample)
        for source, samples in enumerate(experiment.splits[split])
        for position, sample in enumerate(samples.read(()))
        if not isinstance(sample, SampleError)
    ]
    return sorted(candidates, key=lambda row: uniform(experiment.recipe.train.seed, row.sample.id, "rows"))[:rows]


def _measure_calibration(experiment: Experiment, probe: Probe, split: str, rows: int) -> dict[str, Any]:
    """The calibration of each task, without and with the temperature that is best on the validation split.

    No temperature is fitted where ``split`` is the validation split, or the validation split has no label.
    """
    tasks = [name for name, task in probe.model.tasks.items() if task.baseline in ("classification", "multilabel")]
    outputs = labelled_outputs(probe.model, probe.encoded.batches(), tasks, device=probe.device)
    validation = {}
    if tasks and split != "validation":
        batches = _batches(experiment, "validation", _choose_rows(experiment, "validation", rows))
        validation = labelled_outputs(experiment.model, batches, tasks, device=probe.device)
    measures = {}
    for name, task_outputs in outputs.items():
        arrays = _calibration_arrays(task_outputs)
        if not len(arrays[0]):
            continue
        measures[name] = {"before": calibration(*arrays)._asdict()}
        if name in validation and len(_calibration_arrays(validation[name])[0]):
            temperature = best_temperature(*_calibration_arrays(validation[name]))
            after = calibration(*arrays, temperature=temperature)._asdict()
            measures[name] |= {"temperature": temperature, "after": after}
            if not TEMPERATURES[0] * 1.01 < temperature < TEMPERATURES[1] / 1.01:
                measures[name]["at_bound"] = True
    return measures


def _calibration_arrays(outputs: TaskOutputs) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Logits, targets and, for binary labels, which targets are known; classes that training did not have are left out.

    These have no probability: no temperature changes that they are wrong.
    """
    known, target = outputs.targets.get("known"), outputs.targets["target"]
    if known is not None:
        return outputs.outputs.numpy(), target.numpy(), known.numpy()
    seen = target != UNSEEN
    return outputs.outputs[seen].numpy(), target[seen].numpy(), None
