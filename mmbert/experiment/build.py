"""From a recipe to an experiment ready to train, and from a checkpoint back to one that predicts."""

from pathlib import Path
from typing import Any, cast

from torch import Tensor

from encoders import ENCODERS
from mmbert.checkpoint import manifest
from mmbert.checkpoint.processors import read_config, read_json, restore_processor
from mmbert.checkpoint.tensors import load_weights
from mmbert.contracts import Encoder, Processor, Processors
from mmbert.data.collate import encode_sample
from mmbert.errors import DataError, IntegrityError, RecipeError, SampleError
from mmbert.experiment.build_model import build_model, fresh_trunk
from mmbert.experiment.check_splits import check_labels
from mmbert.experiment.data_report import DataReport
from mmbert.experiment.experiment import Experiment, text_names
from mmbert.experiment.prepare_data import prepare_data
from mmbert.experiment.processors import fit_processor, make_processors
from mmbert.experiment.splits import Values, count, open_splits
from mmbert.experiment.trunk_cache import check_cache
from mmbert.model import MMBert
from mmbert.recipe.schema import Recipe
from mmbert.tracking.bad_samples import BadSamples
from mmbert.trunk.huggingface import HuggingFaceTrunk
from mmbert.trunk.text import TextProcessor
from mmbert.trunk.vocabulary import Vocabulary
from mmbert.trunk.weights import build_from_stored_config
from mmbert.version import CODE_EPOCH
from tasks import TASKS


def build(recipe: Recipe) -> Experiment:
    """Prepare the data, fit the processors on the training split and make a model ready to train.

    Args:
        recipe: as it was loaded; the experiment holds it resolved: all defaults and data-dependent values filled in.

    Raises:
        SampleError: at the first bad value, if ``train.max_bad_fraction`` is 0.
        DataError: if the data cannot be used as a whole, see ``scan_rows``.
        RecipeError: if parts do not fit each other.
    """
    check_cache(recipe)
    data = prepare_data(recipe)
    recipe, splits, bad_samples = data.recipe, data.splits, data.bad_samples
    texts = text_names(recipe)
    values = {name: Values(splits, "train", "input", name, bad_samples) for name in recipe.inputs}
    trunk, vocabulary = fresh_trunk(recipe, [values[name] for name in texts])
    processors = make_processors(recipe, vocabulary)
    for name, processor in processors.inputs.items():
        fit_processor(processor, "input", name, values[name], bad_samples.add)
    for name, processor in processors.targets.items():
        labels = Values(splits, "train", "task", name, bad_samples)
        fit_processor(processor, "task", name, labels, bad_samples.add)
    labels = check_labels(processors.targets, splits, bad_samples, bad_samples.add)
    data.report.labelled = labels.rows
    data.report.warnings += labels.warnings
    stand_ins = {
        name: _stand_in(processor, name, values[name], bad_samples)
        for name, processor in processors.inputs.items()
        if name not in texts
    }
    model = build_model(recipe, trunk, vocabulary, processors, stand_ins=stand_ins)
    for name, encoder in model.encoders.items():
        encoder.load_pretrained()
        _freeze_if_requested(f"inputs.{name}", encoder, recipe.inputs[name].tune)
    return Experiment(recipe, model.train(), processors, splits, bad_samples, data.report)


def load_experiment(folder: Path, recipe: Recipe, *, data: bool = False) -> Experiment:
    """A trained model from a checkpoint and the recipe beside it.

    Args:
        folder: of the checkpoint.
        recipe: the run's.
        data: whether to open the data of the recipe too.

    Raises:
        IntegrityError: if code of another epoch trained it: this code may compute something else from its weights.
    """
    config = read_config(folder)
    if (epoch := read_json(folder / manifest.MANIFEST)["identity"].get("epoch")) != str(CODE_EPOCH):
        raise IntegrityError(
            f"'{folder}' was trained by an incompatible version of mmbert (code epoch {epoch or 'unknown'}; this one "
            f"has {CODE_EPOCH}): the same weights may give other predictions. Use the commit that the run's env.json "
            "names, or train it again"
        )
    inputs = {name: part for name, part in recipe.inputs.items() if f"inputs.{name}" in config["processors"]}
    recipe = recipe.model_copy(update={"inputs": inputs})
    input_classes: dict[str, type[Processor]] = {
        name: TextProcessor if part.type == "text" else ENCODERS.get(part.type).processor
        for name, part in inputs.items()
    }
    target_classes = {name: TASKS.get(part.type).processor for name, part in recipe.tasks.items()}
    processors = Processors(
        {name: restore_processor(folder, f"inputs.{name}", cls) for name, cls in input_classes.items()},
        {name: restore_processor(folder, f"tasks.{name}", cls) for name, cls in target_classes.items()},
    )
    vocabulary = Vocabulary(**config["vocabulary"])
    trunk = build_from_stored_config(config["trunk"], folder / "model.safetensors")
    model = build_model(recipe, trunk, vocabulary, processors, stand_ins={})
    load_weights(folder, model)
    splits = open_splits(recipe) if data else {}
    bad_samples = BadSamples(count(splits), recipe.train.max_bad_fraction)
    report = DataReport(reading=config.get("reading", {}))
    return Experiment(recipe, model.eval(), processors, splits, bad_samples, report)


def model_config(model: MMBert) -> dict[str, Any]:
    """What ``load_experiment`` needs beside weights and processors: the trunk's configuration and vocabulary.

    Args:
        model: whose trunk is a ``HuggingFaceTrunk``.
    """
    trunk = cast(HuggingFaceTrunk, model.trunk)
    return {"trunk": trunk.model.config.to_dict(), "vocabulary": vars(trunk.vocabulary)}


def _stand_in(processor: Processor, name: str, values: Values, bad_samples: BadSamples) -> dict[str, Tensor]:
    """An example item for ``MMBert.stand_ins``: the first training value of an input that is not empty, collated."""
    for sample, _ in values.with_samples():
        try:
            if item := encode_sample(sample, Processors({name: processor}, {})).inputs.get(name):
                return processor.collate([item])
        except SampleError as error:
            bad_samples.add(error)
    raise DataError(f"inputs.{name}: every value of the training split is empty")


def _freeze_if_requested(where: str, encoder: Encoder, tune: str) -> None:
    if tune == "frozen":
        pretrained = encoder.pretrained()
        if pretrained is None:
            raise RecipeError(f"{where}.tune: frozen needs pretrained weights; this encoder starts from random ones")
        pretrained.requires_grad_(False)
