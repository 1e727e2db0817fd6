"""The feature cache: what the frozen layers of the trunk make of a recipe's texts, computed once for all runs.

It holds the tokens at the cut, below which everything is frozen and in evaluation mode. Which texts a row has, hidden
inputs included, is decided before it is read.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from mmbert.data.loader import LoaderOptions, evaluation_batches
from mmbert.data.sample_dataset import SampleDataset
from mmbert.errors import RecipeError
from mmbert.experiment.experiment import Experiment
from mmbert.fusion import FUSIONS
from mmbert.io.cache import make_once, progress
from mmbert.io.download import cache_folder
from mmbert.recipe.schema import Recipe
from mmbert.trunk.huggingface import HuggingFaceTrunk
from mmbert.trunk.store import LAYOUT, Sequences, TokenStore

ROWS = 1024  # that are split into tokens at once


def check_cache(recipe: Recipe) -> None:
    """Raise ``RecipeError`` where ``trunk.cache`` is asked for and the fusion does not allow it."""
    if recipe.trunk.cache and not FUSIONS.get(recipe.fusion.type).reads_text_alone:
        alone = [name for name in FUSIONS.names() if FUSIONS.get(name).reads_text_alone]
        raise RecipeError(
            f"trunk.cache: under the fusion '{recipe.fusion.type}' other inputs enter the trunk's layers, but the "
            f"cache holds tokens of the text alone. Set fusion.type to {' or '.join(alone)}, or remove trunk.cache"
        )


def cache_features(experiment: Experiment, device: torch.device | str = "cpu") -> Path:
    """Let the trunk of a built recipe read the cache, filled now for all rows of its data; returns its folder there.

    The folder is named after the frozen weights, the trunk's configuration and the texts; one process fills it while
    others wait. A text that is not in it is computed as usual. Nothing of it is in checkpoints or loaded models.

    Args:
        built: of a recipe with ``trunk.cache``.
        device: what the frozen layers are computed on; the trunk is moved there.

    Raises ``RecipeError`` where the disk has not the room, and ``IntegrityError`` where a file in the cache is not as
    long as it was.
    """
    trunk = cast(HuggingFaceTrunk, experiment.model.trunk).to(device)
    assert trunk.cut is not None, "the recipe was checked"
    assert trunk.facet is None, "the recipe was checked"
    dtype = np.dtype("float64" if trunk.model.dtype == torch.float64 else "float32")
    sequences = Sequences.collect(_sequences(experiment, trunk))
    folder = cache_folder() / "features" / _identity(trunk, sequences, dtype)

    def compute(ids: Tensor, mask: Tensor) -> Tensor:
        return trunk.below(ids.to(device), mask.to(device))

    def make(partial: Path) -> None:
        texts = f"{len(sequences.digests)} texts"
        _check_room(partial, sequences.tokens * trunk.dim * dtype.itemsize, texts)
        with progress(f"computing the frozen layers for {texts}") as tell:
            try:
                TokenStore.write(partial, sequences, compute, trunk.dim, dtype, tell)
            except OSError as error:  # the disk was filled by another meanwhile
                raise RecipeError(f"trunk.cache: '{folder.parent}' cannot be written: {error.strerror}") from error

    make_once(folder, make)
    trunk.store = TokenStore(folder)
    return folder


def _sequences(experiment: Experiment, trunk: HuggingFaceTrunk) -> Iterator[tuple[Tensor, Tensor]]:
    """The ids and masks of all rows of all splits, and of a row without text."""
    ids, _, mask = trunk.sequence({}, 1)
    yield ids, mask
    processors = {name: experiment.processors.inputs[name] for name in experiment.text_inputs}
    items = SampleDataset([samples for sources in experiment.splits.values() for samples in sources], processors, {})
    loading = LoaderOptions(experiment.recipe.train.workers, on_bad=experiment.bad_samples.add)
    for batch in evaluation_batches(items, ROWS, loading=loading):
        ids, _, mask = trunk.sequence(batch.to(ids.device).inputs, len(batch))
        yield ids, mask


def _identity(trunk: HuggingFaceTrunk, sequences: Sequences, dtype: np.dtype) -> str:
    """A digest of all that the values depend on."""
    config = {name: value for name, value in trunk.model.config.to_dict().items() if name != "_name_or_path"}
    device = next(trunk.parameters()).device.type
    facts = [LAYOUT, trunk.cut, dtype.name, device, torch.__version__, config]
    digest = hashlib.blake2b(json.dumps(facts, sort_keys=True, default=str).encode(), digest_size=16)
    for name, weight in sorted(trunk.frozen_weights().items()):
        digest.update(f"{name} {weight.dtype} {[*weight.shape]}".encode())
        digest.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    digest.update(sequences.digests.tobytes())
    return digest.hexdigest()


def _check_room(folder: Path, needed: int, texts: str) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise RecipeError(
            f"trunk.cache: the tokens of {texts} take {needed / 1e9:.2f} GB, but '{folder.parent}' has "
            f"{free / 1e9:.2f} GB free. Make room, let XDG_CACHE_HOME name a folder on another disk, or remove "
            "trunk.cache"
        )
