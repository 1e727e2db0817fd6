"""What each input of a trained model is worth, measured, told and kept: ``mmbert evaluate RUN --inputs``."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from accelerate import Accelerator

from mmbert.analysis.encoded_rows import encode_rows, model_for_encoded_rows
from mmbert.analysis.outputs import TaskOutputs, labelled_outputs
from mmbert.analysis.probe import (
    Probe,
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
from mmbert.errors import DataError, IntegrityError, RecipeError, SampleError
from mmbert.evaluation.calibration import TEMPERATURES, best_temperature, calibration
from mmbert.evaluation.perturbations import RATES
from mmbert.evaluation.results import primary_metric
from mmbert.experiment.experiment import Experiment
from mmbert.inference.predict import open_run
from mmbert.tracking.console import Console
from mmbert.tracking.run_folder import RunFolder
from mmbert.types import Batch, Sample

ROWS = 2000  # of a split, by default
MOST_INPUTS = 8  # 2 ** 8 subsets are scored, each with a pass over the rows
ADDITIVE_ROWS = 128


class _Row(NamedTuple):
    source: int  # of the recipe's, counted
    place: int  # in that source's part of the split
    sample: Sample  # without inputs and targets


def measure_contributions(run: str | Path, *, split: str = "test", rows: int | None = None) -> dict[str, Any]:
    """Measure, print and write into the run folder what the inputs of a finished run are worth on a split.

    Scores for every subset of inputs with what each contributes; for inputs that are absent, or corrupted (another
    row's stands in their place), in a rising share of the rows; of the additive projection; and how well probabilities
    are calibrated. The file is ``inputs.json`` (``inputs.validation.json`` of another split), the same each time.

    Args:
        run: the run folder.
        split: whose rows are scored.
        rows: how many of them at most, by default 2000; which ones is a matter of chance, but the same each time.

    Raises ``IntegrityError`` where the run is not finished, ``DataError`` where no row of the split has a label, and
    ``RecipeError`` where several processes were launched.
    """
    accelerator, path, rows = Accelerator(), Path(run), ROWS if rows is None else rows
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
    chosen = _chosen(experiment, split, rows)
    encoded = encode_rows(model, _batches(experiment, split, chosen), device=device)
    groups = {row.sample.id: row.sample.attributes["group"] for row in chosen if "group" in row.sample.attributes}
    probe = Probe(model_for_encoded_rows(model), encoded, groups, experiment.recipe.train.seed, device)
    made = _measured(experiment, probe, split, rows, console)
    made = {"split": split, "rows": len(encoded.ids), "of": len(experiment.dataset(split)), "seed": probe.seed, **made}
    print_contributions(made, console)
    name = "inputs.json" if split == "test" else f"inputs.{split}.json"
    RunFolder(path, writes=True).write(name, made)
    console.say("", f"written to {path / name}")
    return made


def _measured(experiment: Experiment, probe: Probe, split: str, rows: int, console: Console) -> dict[str, Any]:
    inputs, size, notes = probe.inputs, experiment.recipe.evaluate.batch_size, _notes(experiment, probe)
    found = probe.evaluate()
    if not found.scores:
        raise DataError(f"expected labels in the rows of the {split} split, found none")
    said = predict_constant(probe, found)
    chance = score_predictions(probe, found, said)
    tasks = {
        name: {"metric": primary_metric(scores), "rows": len(found.targets[name]),
               "lower_is_better": primary_metric(scores) in probe.task(name).lower_is_better}
        for name, scores in found.scores.items()
    }  # fmt: skip
    made: dict[str, Any] = {"inputs": inputs, "tasks": tasks, "constant": chance, "subsets": [], "contributions": {}}
    if len(inputs) <= MOST_INPUTS:
        console.say(f"scores of {2 ** len(inputs)} subsets of the inputs ...")
        values = score_subsets(probe, found, chance)
        made["subsets"] = [{"inputs": sorted(subset), "scores": scores} for subset, scores in values.items()]
        made["contributions"] = shapley_contributions(probe, values)
    else:
        notes.append(f"{len(inputs)} inputs have {2 ** len(inputs)} subsets, more than the {2**MOST_INPUTS} that are "
                     "scored: subsets and contributions are left out.")  # fmt: skip
    console.say("scores with inputs absent, or corrupted ...")
    errors = standard_errors_of_gain(probe, found, said)
    curves = {f"{name} corrupted": score_with_corrupted(probe, name) for name in inputs}
    if len(inputs) > 1:
        curves = {"absent at random": score_with_missing(probe), **curves}
    else:
        notes.append("The only input is never absent: there is no curve of that.")
    made["rates"], made["curves"], refused = [0.0, *RATES], {}, {}
    for name, points in curves.items():
        curve = [found.scores, *points]
        area, refused = retained_by_task(probe, curve, chance, errors)
        made["curves"][name] = {"scores": curve, "areas": area}
    notes += refused.values()
    console.say("the additive projection ...")
    made["additive"] = compare_to_additive(probe, found, most=ADDITIVE_ROWS, batch=size)
    made["calibration"] = _calibrated(experiment, probe, split, rows)
    return {**made, "notes": notes}


def _notes(experiment: Experiment, probe: Probe) -> list[str]:
    whole = [name for name, has in probe.encoded.has.items() if bool(has.all())]
    if experiment.recipe.train.input_dropout or not whole or len(probe.inputs) < 2:
        return []
    return [f"Every row has {', '.join(whole)}, and train.input_dropout is 0: if that was so in training, the model "
            "has not learnt to do without."]  # fmt: skip


def _batches(experiment: Experiment, split: str, chosen: Sequence[_Row]) -> Iterator[Batch]:
    """The rows in the order of the split, as evaluation reads them."""
    parts = []
    for source, samples in enumerate(experiment.splits[split]):
        places = sorted(row.place for row in chosen if row.source == source)
        parts.append(samples[np.array(places, dtype=np.int64)])
    items = replace(experiment, splits={split: parts}).dataset(split)
    return evaluation_batches(
        items, experiment.recipe.evaluate.batch_size, loading=LoaderOptions(on_bad=experiment.bad_samples.add)
    )


def _chosen(experiment: Experiment, split: str, rows: int) -> list[_Row]:
    """At most so many rows of a split; which ones depends on their ids and the seed alone."""
    found = [
        _Row(source, place, sample)
        for source, samples in enumerate(experiment.splits[split])
        for place, sample in enumerate(samples.read(()))
        if not isinstance(sample, SampleError)
    ]
    return sorted(found, key=lambda row: uniform(experiment.recipe.train.seed, row.sample.id, "rows"))[:rows]


def _calibrated(experiment: Experiment, probe: Probe, split: str, rows: int) -> dict[str, Any]:
    """Task -> how well calibrated it is, and with the temperature that is best on the validation split.

    None is fitted where that is the split in question, or has no label.
    """
    kinds = {name: kind for name, task in probe.model.tasks.items()
             if (kind := getattr(task, "baseline", None)) in ("classification", "multilabel")}  # fmt: skip
    found = labelled_outputs(probe.model, probe.encoded.batches(), kinds, device=probe.device)
    fitted = {}
    if kinds and split != "validation":
        fitted = labelled_outputs(
            experiment.model,
            _batches(experiment, "validation", _chosen(experiment, "validation", rows)),
            kinds,
            device=probe.device,
        )
    made = {}
    for name, said in found.items():
        made[name] = {"before": calibration(*_arrays(said))._asdict()}
        if name in fitted:
            temperature = best_temperature(*_arrays(fitted[name]))
            after = calibration(*_arrays(said), temperature=temperature)._asdict()
            made[name] |= {"temperature": temperature, "after": after}
            if not TEMPERATURES[0] * 1.01 < temperature < TEMPERATURES[1] / 1.01:
                made[name]["at_bound"] = True
    return made


def _arrays(said: TaskOutputs) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Logits, what is true and, of labels, what is known."""
    known = said.targets.get("known")
    return said.outputs.numpy(), said.targets["target"].numpy(), None if known is None else known.numpy()
