"""From a recipe to live objects, and from a run folder back to them: the one file that sees every room."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from encoders import ENCODERS
from mmbert.checkpoint import manifest
from mmbert.checkpoint.processors import read_facts, read_json, restore_processor
from mmbert.checkpoint.tensors import load_weights
from mmbert.contracts import Encoder, Fusion, Processor, Task
from mmbert.data.collate import encode_sample
from mmbert.errors import DataError, IntegrityError, RecipeError, SampleError
from mmbert.experiment.data_report import present_inputs, survey
from mmbert.experiment.experiment import Built, text_names
from mmbert.experiment.processors import check_labels, check_tagged, fit, make_labels, make_processors, own_options
from mmbert.experiment.splits import Values, count, open_splits
from mmbert.experiment.trunk_cache import check_cache
from mmbert.fusion import FUSIONS
from mmbert.layers.dropout import set_dropout
from mmbert.layers.resampler import Missing
from mmbert.layers.unimodal_heads import Unimodal
from mmbert.model import MMBert
from mmbert.recipe.schema import Recipe
from mmbert.tracking.bad_samples import BadSamples
from mmbert.trunk.huggingface import HuggingFaceTrunk
from mmbert.trunk.text import TextProcessor
from mmbert.trunk.vocabulary import Vocabulary, train_vocabulary
from mmbert.trunk.weights import fresh_config, from_config, load_checkpoint
from mmbert.version import CODE_EPOCH
from tasks import TASKS


def build(recipe: Recipe) -> Built:
    """Open the data, fit the processors on the training split and make a model ready to train.

    Bad values count as ``train.max_bad_fraction`` says: at 0 the first is raised as ``SampleError``. Raises
    ``DataError`` where the data cannot be used as a whole (see ``survey``), ``RecipeError`` where parts do not fit each
    other.
    """
    check_cache(recipe)
    opened = open_splits(recipe)
    bad = BadSamples(count(opened), recipe.train.max_bad_fraction)
    splits, seen = survey(recipe, opened, bad.add)
    recipe = present_inputs(recipe, seen.rows["train"])
    texts = text_names(recipe)
    values = {name: Values(splits, "train", "input", name, bad) for name in recipe.inputs}
    trunk, vocabulary = _fresh_trunk(recipe, [values[name] for name in texts])
    processors, labels = make_processors(recipe, vocabulary), make_labels(recipe)
    for name, processor in processors.items():
        fit(processor, "input", name, values[name], bad.add)
    for name, label in labels.items():
        fit(label, "task", name, Values(splits, "train", "task", name, bad), bad.add)
    check_labels(labels, splits, bad, bad.add)
    stand_ins = {
        name: _stand_in(part, name, values[name], bad) for name, part in processors.items() if name not in texts
    }
    model = _model(recipe, trunk, vocabulary, processors, labels, stand_ins=stand_ins)
    for name, encoder in model.encoders.items():
        encoder.load_pretrained()
        _tune(f"inputs.{name}", encoder, recipe.inputs[name].tune)
    return Built(recipe, model.train(), processors, labels, splits, bad, seen)


def load(folder: Path, recipe: Recipe, *, data: bool = False) -> Built:
    """A trained model from a checkpoint and the recipe beside it; ``data`` opens the recipe's data as well.

    Raises ``IntegrityError`` where code of another epoch trained it, in which its weights may mean something else.
    """
    facts = read_facts(folder)
    if (epoch := read_json(folder / manifest.NAME)["identity"].get("epoch")) != str(CODE_EPOCH):
        raise IntegrityError(
            f"'{folder}' was trained by code of epoch {epoch or 'unknown'}; this is epoch {CODE_EPOCH}, in which the "
            "same weights may give other predictions. Use the commit that the run's env.json names, or train it again"
        )
    vocabulary = Vocabulary(**facts["vocabulary"])
    kept = {name: part for name, part in recipe.inputs.items() if f"inputs.{name}" in facts["processors"]}
    recipe = recipe.model_copy(update={"inputs": kept})
    classes = {name: TextProcessor if part.type == "text" else ENCODERS.get(part.type).processor
               for name, part in kept.items()}  # fmt: skip
    processors = {name: restore_processor(folder, f"inputs.{name}", cls) for name, cls in classes.items()}
    labels = {
        name: restore_processor(folder, f"tasks.{name}", TASKS.get(part.type).processor)
        for name, part in recipe.tasks.items()
    }
    model = _model(recipe, from_config(facts["trunk"]), vocabulary, processors, labels, stand_ins={})
    load_weights(folder, model)
    splits = open_splits(recipe) if data else {}
    bad = BadSamples(count(splits), recipe.train.max_bad_fraction)
    return Built(recipe, model.eval(), processors, labels, splits, bad)


def facts(model: MMBert) -> dict[str, Any]:
    """What a checkpoint keeps beside weights and processors."""
    trunk = cast(HuggingFaceTrunk, model.trunk)
    return {"trunk": trunk.model.config.to_dict(), "vocabulary": vars(trunk.vocabulary)}


def _stand_in(processor: Processor, name: str, values: Values, bad: BadSamples) -> dict[str, Tensor]:
    """The first training value of an input that holds anything, as a batch of one."""
    for sample, _ in values.of_samples():
        try:
            if item := encode_sample(sample, {name: processor}, {}).inputs.get(name):
                return processor.collate([item])
        except SampleError as error:
            bad.add(error)
    raise DataError(f"inputs.{name}: every value of the training split is empty")


@contextmanager
def _keyed(seed: int, name: str) -> Iterator[None]:
    """Random initialisation under a key of its own name, so that recipes share the weights of what they share."""
    with torch.random.fork_rng():
        digest = hashlib.blake2b(f"{seed}\0{name}".encode(), digest_size=7).digest()
        torch.manual_seed(int.from_bytes(digest, "big"))
        yield


class _Joined:
    """Iterables one after another, as often as it is iterated."""

    def __init__(self, parts: Sequence[Iterable[Any]]):
        self._parts = parts

    def __iter__(self) -> Iterator[Any]:
        return chain.from_iterable(self._parts)


def _fresh_trunk(recipe: Recipe, texts: Sequence[Iterable[Any]]) -> tuple[nn.Module, Vocabulary]:
    trunk = recipe.trunk
    if trunk.checkpoint is not None:
        return load_checkpoint(trunk.checkpoint)
    vocabulary = train_vocabulary(_Joined(texts), trunk.vocabulary)
    config = fresh_config(
        family=trunk.family,
        layers=trunk.layers,
        hidden_size=trunk.hidden_size,
        heads=trunk.heads,
        max_positions=trunk.max_positions,
        initializer_range=trunk.initializer_range,
        vocabulary=vocabulary,
    )
    with _keyed(recipe.train.seed, "trunk"):
        return from_config(config), vocabulary


def _model(
    recipe: Recipe,
    model: nn.Module,
    vocabulary: Vocabulary,
    processors: Mapping[str, Processor],
    labels: Mapping[str, Processor],
    *,
    stand_ins: Mapping[str, dict[str, Tensor]],
) -> MMBert:
    seed, texts = recipe.train.seed, text_names(recipe)
    check_tagged(recipe)
    trunk = HuggingFaceTrunk(model, vocabulary, texts, tune=recipe.trunk.tune, packing=recipe.trunk.packing)
    _check_lengths(trunk, processors, texts)
    encoders: dict[str, Encoder] = {}
    for name, part in recipe.inputs.items():
        if name not in texts:
            cls = ENCODERS.get(part.type)
            with _keyed(seed, f"inputs.{name}"):
                encoders[name] = cls(trunk.dim, processors[name], **own_options(cls, part))
    missing = {}
    for name in encoders:
        if recipe.inputs[name].missing == "learned":
            with _keyed(seed, f"missing.{name}"):
                missing[name] = Missing(trunk.dim)
    tasks = {name: _head(recipe, name, labels, trunk.dim, f"tasks.{name}") for name in recipe.tasks}
    tagged = {stream for task in tasks.values() if (stream := getattr(task, "of", None))}
    cls = FUSIONS.get(recipe.fusion.type)
    with _keyed(seed, "fusion"):
        fusion = cls(trunk.dim, {name: name in tagged for name in encoders}, **recipe.fusion.options)
    _check_layers(recipe, trunk, fusion)
    unimodal = _unimodal(recipe, trunk.dim, labels, tasks, [*encoders, *(["text"] if texts else [])])
    whole = MMBert(trunk, encoders, fusion, tasks, stand_ins, missing, unimodal)
    if recipe.train.dropout is not None:
        set_dropout(whole, recipe.train.dropout)
    return whole.double() if recipe.train.precision == "fp64" else whole


def _check_layers(recipe: Recipe, trunk: HuggingFaceTrunk, fusion: Fusion) -> None:
    """Raise ``RecipeError`` where the fusion works between layers that the trunk has not, or does not show."""
    needed, shown = fusion.needs_layers, len(trunk.layers)
    if needed and not shown:
        raise RecipeError(f"fusion '{recipe.fusion.type}' needs a trunk with layers: BERT-like or ModernBERT")
    if needed > shown:
        raise RecipeError(
            f"fusion '{recipe.fusion.type}' with these options needs a trunk of {needed} layers or more, but this one "
            f"has {shown}"
        )


def _head(recipe: Recipe, name: str, labels: Mapping[str, Processor], dim: int, key: str) -> Task:
    """A task's head, or one more of its kind, initialised under ``key``."""
    part = recipe.tasks[name]
    cls = TASKS.get(part.type)
    with _keyed(recipe.train.seed, key):
        return cls(dim, labels[name], **own_options(cls, part))


def _unimodal(
    recipe: Recipe, dim: int, labels: Mapping[str, Processor], tasks: Mapping[str, Task], streams: Sequence[str]
) -> Unimodal | None:
    """The heads that read one stream alone. Raises ``RecipeError`` where they are asked for and can do nothing."""
    joins, balance = FUSIONS.get(recipe.fusion.type).joins, recipe.balance
    adds = recipe.fusion.logit_sum or not joins
    if not (adds or balance.unimodal_aux or balance.ogm_ge):
        return None
    rows = [name for name, task in tasks.items() if getattr(task, "of", None) is None]
    if not rows:
        raise RecipeError("fusion.logit_sum and balance need a task of whole rows; here all tag the units of a stream")
    if balance.ogm_ge and all(type(tasks[name]).likelihood is Task.likelihood for name in rows):
        raise RecipeError("balance.ogm_ge compares probabilities, and no task here gives any: remove it")
    heads = {
        name: {
            stream: _head(recipe, name, labels, dim, f"unimodal.{name}.{stream}")
            for stream in streams
            if joins or stream != "text"  # which the tasks' own heads read then
        }
        for name in rows
    }
    return Unimodal(dim, heads, streams, adds=adds, weight=balance.unimodal_aux)


def _check_lengths(trunk: HuggingFaceTrunk, processors: Mapping[str, Processor], texts: Iterable[str]) -> None:
    """Raise ``RecipeError`` where the texts of a row may be longer than the trunk has positions."""
    lengths = {name: cast(TextProcessor, processors[name]).max_length + 1 for name in texts}
    if 1 + sum(lengths.values()) > trunk.max_length:
        room = trunk.max_length - 1 - len(lengths)
        raise RecipeError(
            f"inputs: the texts of a row may have {sum(lengths.values()) + 1} tokens with separators, but the trunk "
            f"has {trunk.max_length} positions. Lower max_length: {room} tokens for {', '.join(lengths)} together"
        )


def _tune(where: str, encoder: Encoder, mode: str) -> None:
    if mode == "frozen":
        part = encoder.pretrained()
        if part is None:
            raise RecipeError(f"{where}.tune: frozen needs pretrained weights; this encoder starts from random ones")
        part.requires_grad_(False)
