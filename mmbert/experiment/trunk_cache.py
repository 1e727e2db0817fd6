"""Cache of the hidden states of the trunk's frozen layers for a recipe's texts, computed once for all runs.

The states are those at the cut: all layers below it are frozen and in evaluation mode. Inputs that are hidden at random
only change which texts a row has, and that is decided before the cache is read.
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

from mmbert.contracts import Processors
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

ROWS = 1024  # tokenized at once


def check_cache(recipe: Recipe) -> None:
    """Check that the fusion of a recipe allows ``trunk.cache``, if that is set.

    Args:
        recipe: to check.

    Raises:
        RecipeError: where it does not.
    """
    if recipe.trunk.cache and not FUSIONS.get(recipe.fusion.type).reads_text_alone:
        alone = [name for name in FUSIONS.names() if FUSIONS.get(name).reads_text_alone]
        raise RecipeError(
            f"trunk.cache: under the fusion '{recipe.fusion.type}' other inputs enter the trunk's layers, but the "
            f"cache holds tokens of the text alone. Set fusion.type to {' or '.join(alone)}, or remove trunk.cache"
        )


def cache_features(experiment: Experiment, device: torch.device | str = "cpu") -> Path:
    """Fill the cache for all rows of an experiment's data and attach it to the trunk.

    The folder is named by a hash of the frozen weights, the trunk's configuration and the texts; one process fills it
    while others wait. A text that is not in the cache is computed as usual. Checkpoints and loaded models are
    independent of the cache.

    Args:
        experiment: of a recipe with ``trunk.cache``.
        device: for the frozen layers; the trunk is moved there.

    Returns:
        The folder in the cache.

    Raises:
        RecipeError: where the disk has not enough room.
        IntegrityError: where a file in the cache has another size than when it was written.
    """
    trunk = cast(HuggingFaceTrunk, experiment.model.trunk).to(device)
    assert trunk.cut is not None, "the recipe was checked"
    assert trunk.facet is None, "the recipe was checked"
    dtype = np.dtype("float64" if trunk.model.dtype == torch.float64 else "float32")
    sequences = Sequences.collect(_sequences(experiment, trunk))
    folder = cache_folder() / "features" / _identity(trunk, sequences, dtype)

    def compute(ids: Tensor, mask: Tensor) -> Tensor:
        return trunk.run_frozen_layers(ids.to(device), mask.to(device))

    def make(partial: Path) -> None:
        texts = f"{len(sequences.digests)} texts"
        _check_room(partial, sequences.tokens * trunk.dim * dtype.itemsize, texts)
        with progress(f"computing the frozen layers for {texts}") as tell:
            try:
                TokenStore.write(partial, sequences, compute, trunk.dim, dtype, tell)
            except OSError as error:  # another process has filled the disk
                raise RecipeError(f"trunk.cache: '{folder.parent}' cannot be written: {error.strerror}") from error

    make_once(folder, make)
    trunk.store = TokenStore(folder)
    return folder


def _sequences(experiment: Experiment, trunk: HuggingFaceTrunk) -> Iterator[tuple[Tensor, Tensor]]:
    """The ids and masks of all rows of all splits, and of a row without text."""
    ids, _, mask = trunk.build_sequences({}, 1)
    yield ids, mask
    processors = {name: experiment.processors.inputs[name] for name in experiment.text_inputs}
    items = SampleDataset(
        [samples for sources in experiment.splits.values() for samples in sources], Processors(processors, {})
    )
    loading = LoaderOptions(experiment.recipe.train.workers, on_bad=experiment.bad_samples.add)
    for batch in evaluation_batches(items, ROWS, loading=loading):
        ids, _, mask = trunk.build_sequences(batch.to(ids.device).inputs, len(batch))
        yield ids, mask


def _identity(trunk: HuggingFaceTrunk, sequences: Sequences, dtype: np.dtype) -> str:
    """A digest of everything that the cached states depend on."""
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
