"""Sets of the Hugging Face hub, through the ``datasets`` library."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from mmbert.data.row_folder import write_rows
from mmbert.data.splits import SPELLINGS
from mmbert.errors import DataError, nearest
from mmbert.io import download
from mmbert.io.cache import make_once

HUB = "hub:"


def hub_rows(path: str) -> Path:
    """Download a set of the hub into the cache.

    It keeps the rows of the train, validation and test splits, with a column ``split``; other splits (unlabelled ones)
    are left out. Class labels become their names, images and sounds the bytes of their files.

    Args:
        path: ``hub:OWNER/NAME`` or ``hub:OWNER/NAME:CONFIGURATION``.

    Returns:
        The folder in the cache, for ``ArrowRows``.

    Raises:
        DataError: where the set cannot be downloaded or has none of the three splits.
    """
    import datasets  # slow to import (two seconds) and needed here only

    name, _, configuration = path.removeprefix(HUB).partition(":")
    try:
        dataset = datasets.load_dataset(name, configuration or None, cache_dir=str(download.cache_folder() / "hub"))
    except (OSError, ValueError, RuntimeError) as error:  # DatasetNotFoundError is an OSError
        raise DataError(f"'{path}' cannot be downloaded from the hub: {error}") from error
    splits: dict[str, Any] = {str(split): rows for split, rows in dataset.items() if str(split).lower() in SPELLINGS}
    if not splits:
        raise DataError(
            f"'{path}' has no split for training, validation or test. {nearest('train', map(str, dataset))}"
        )
    state = [path, *(f"{split} {rows._fingerprint}" for split, rows in splits.items())]
    folder = download.cache_folder() / "files" / hashlib.blake2b("\n".join(state).encode(), digest_size=16).hexdigest()
    return make_once(folder, lambda folder: write_rows(folder, _tables(path, splits)))


def _tables(path: str, splits: dict[str, Any]) -> Iterator[tuple[str, pa.Table]]:
    import datasets

    for split, rows in splits.items():
        for batch in rows.with_format("arrow").iter(1000):
            columns = {"split": pa.array([split] * len(batch))}
            for name, feature in rows.features.items():
                cells = batch[name].combine_chunks()
                if isinstance(feature, datasets.ClassLabel):  # -1 means no label
                    labels = cells.to_pylist()
                    cells = pa.array(
                        [feature.names[label] if label not in (None, -1) else None for label in labels], pa.string()
                    )
                elif isinstance(feature, datasets.Image | datasets.Audio):
                    cells = cells.field("bytes")
                columns[name] = cells
            yield f"{path} {split}", pa.table(columns)
