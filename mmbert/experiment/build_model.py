"""The model of a recipe: trunk, encoders, fusion, tasks and heads on single inputs, each initialised under its own key.

A key of its own for each part's random weights lets recipes that share a part share its initialisation.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, cast

import torch
from torch import Tensor, nn

from encoders import ENCODERS
from mmbert.contracts import Encoder, Fusion, Processor, Processors, Task
from mmbert.errors import RecipeError
from mmbert.experiment.experiment import text_names
from mmbert.experiment.processors import check_tagged, part_options
from mmbert.fusion import FUSIONS
from mmbert.layers.dropout import set_dropout
from mmbert.layers.resampler import MissingToken
from mmbert.layers.unimodal_heads import UnimodalHeads
from mmbert.model import MMBert
from mmbert.recipe.schema import Recipe
from mmbert.trunk.huggingface import HuggingFaceTrunk
from mmbert.trunk.text import TextProcessor
from mmbert.trunk.vocabulary import Vocabulary, train_vocabulary
from mmbert.trunk.weights import build_from_config, fresh_config, load_checkpoint
from tasks import TASKS


def fresh_trunk(recipe: Recipe, texts: Sequence[Iterable[Any]]) -> tuple[nn.Module, Vocabulary]:
    """The library's encoder and its vocabulary: those of ``trunk.checkpoint``, or new ones.

    Args:
        recipe: the resolved one.
        texts: the training texts of each text input; a new vocabulary is trained on them.
    """
    trunk = recipe.trunk
    if trunk.checkpoint is not None:
        return load_checkpoint(trunk.checkpoint)
    vocabulary = train_vocabulary(_Chained(texts), trunk.vocabulary)
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
        return build_from_config(config), vocabulary


def build_model(
    recipe: Recipe,
    trunk_module: nn.Module,
    vocabulary: Vocabulary,
    processors: Processors,
    *,
    stand_ins: Mapping[str, dict[str, Tensor]],
) -> MMBert:
    """The whole model around a trunk.

    Args:
        recipe: the resolved one.
        trunk_module: the library's encoder.
        vocabulary: of the trunk.
        processors: fitted.
        stand_ins: one item of each encoder's input, see ``MMBert``; none for a model that only predicts.

    Raises:
        RecipeError: where parts do not fit each other.
    """
    seed, texts = recipe.train.seed, text_names(recipe)
    check_tagged(recipe)
    trunk = HuggingFaceTrunk(trunk_module, vocabulary, texts, tune=recipe.trunk.tune, packing=recipe.trunk.packing)
    _check_lengths(trunk, processors.inputs, texts)
    encoders: dict[str, Encoder] = {}
    for name, part in recipe.inputs.items():
        if name not in texts:
            cls = ENCODERS.get(part.type)
            with _keyed(seed, f"inputs.{name}"):
                encoders[name] = cls(trunk.dim, processors.inputs[name], **part_options(cls, part))
    missing = {}
    for name in encoders:
        if recipe.inputs[name].missing == "learned":
            with _keyed(seed, f"missing.{name}"):
                missing[name] = MissingToken(trunk.dim)
    targets = processors.targets
    tasks = {name: _head(recipe, name, targets, trunk.dim, f"tasks.{name}") for name in recipe.tasks}
    tagged_streams = {task.of for task in tasks.values() if task.of}
    cls = FUSIONS.get(recipe.fusion.type)
    with _keyed(seed, "fusion"):
        fusion = cls(trunk.dim, {name: name in tagged_streams for name in encoders}, **recipe.fusion.options)
    _check_layers(recipe, trunk, fusion)
    streams = [*encoders, *(["text"] if texts else [])]
    unimodal = _unimodal_heads(recipe, trunk.dim, targets, tasks, streams)
    model = MMBert(trunk, encoders, fusion, tasks, stand_ins, missing, unimodal)
    if recipe.train.dropout is not None:
        set_dropout(model, recipe.train.dropout)
    return model.double() if recipe.train.precision == "fp64" else model


@contextmanager
def _keyed(seed: int, name: str) -> Iterator[None]:
    """Random initialisation under a key of seed and name."""
    with torch.random.fork_rng():
        digest = hashlib.blake2b(f"{seed}\0{name}".encode(), digest_size=7).digest()
        torch.manual_seed(int.from_bytes(digest, "big"))
        yield


class _Chained:
    """Iterables one after another, as often as it is iterated."""

    def __init__(self, iterables: Sequence[Iterable[Any]]):
        self._iterables = iterables

    def __iter__(self) -> Iterator[Any]:
        return chain.from_iterable(self._iterables)


def _head(recipe: Recipe, name: str, targets: Mapping[str, Processor], dim: int, key: str) -> Task:
    """A head of the task ``name``, initialised under ``key``."""
    part = recipe.tasks[name]
    cls = TASKS.get(part.type)
    with _keyed(recipe.train.seed, key):
        return cls(dim, targets[name], **part_options(cls, part))


def _unimodal_heads(
    recipe: Recipe, dim: int, targets: Mapping[str, Processor], tasks: Mapping[str, Task], streams: Sequence[str]
) -> UnimodalHeads | None:
    """The heads that read one stream alone. Raises ``RecipeError`` where they are asked for and can do nothing."""
    joins, balance = FUSIONS.get(recipe.fusion.type).joins, recipe.balance
    adds = recipe.fusion.logit_sum or not joins
    if not (adds or balance.unimodal_aux or balance.ogm_ge):
        return None
    row_tasks = [name for name, task in tasks.items() if task.of is None]
    if not row_tasks:
        raise RecipeError(
            "fusion.logit_sum and balance need a task of whole rows; all tasks here tag the units of a stream"
        )
    if balance.ogm_ge and all(type(tasks[name]).likelihood is Task.likelihood for name in row_tasks):
        raise RecipeError("balance.ogm_ge compares probabilities, and no task here gives any: remove it")
    heads = {
        name: {
            stream: _head(recipe, name, targets, dim, f"unimodal.{name}.{stream}")
            for stream in streams
            if joins or stream != "text"  # which the tasks' own heads read then
        }
        for name in row_tasks
    }
    return UnimodalHeads(dim, heads, streams, adds=adds, weight=balance.unimodal_aux)


def _check_layers(recipe: Recipe, trunk: HuggingFaceTrunk, fusion: Fusion) -> None:
    """Raise ``RecipeError`` where the fusion needs more trunk layers than there are or than the trunk exposes."""
    needed, exposed = fusion.needs_layers, len(trunk.layers)
    if needed and not exposed:
        raise RecipeError(f"fusion '{recipe.fusion.type}' needs a trunk with layers: BERT-like or ModernBERT")
    if needed > exposed:
        raise RecipeError(
            f"fusion '{recipe.fusion.type}' with these options needs a trunk of {needed} layers or more, but this one "
            f"has {exposed}"
        )


def _check_lengths(trunk: HuggingFaceTrunk, processors: Mapping[str, Processor], texts: Iterable[str]) -> None:
    """Raise ``RecipeError`` where the texts of a row may be longer than the trunk has positions."""
    lengths = {name: cast(TextProcessor, processors[name]).max_length + 1 for name in texts}
    if 1 + sum(lengths.values()) > trunk.max_length:
        room = trunk.max_length - 1 - len(lengths)
        raise RecipeError(
            f"inputs: the texts of a row may have {sum(lengths.values()) + 1} tokens with separators, but the trunk "
            f"has {trunk.max_length} positions. Lower max_length: {room} tokens for {', '.join(lengths)} together"
        )
