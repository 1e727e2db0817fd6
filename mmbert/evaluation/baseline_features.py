"""Crude features of raw inputs for the baselines: TF-IDF of texts, standardised Processor.features of the rest."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_union
from sklearn.utils.extmath import randomized_svd

from mmbert.contracts import Processor

TERMS = 40_000  # of words, and of letters; the most frequent
COMPONENTS = 64  # of a text, for trees
FAR = 10.0  # standard deviations at which a feature is cut off: one broken value must not rule a linear model

Matrix = np.ndarray | sparse.csr_array


@dataclass(frozen=True, slots=True)
class Features:
    """The features of one input in every split, row by row; a row without the input is zero and says so in a column."""

    linear: dict[str, list[Matrix]]  # split -> blocks [rows, features]; a row's norm is about 1 a block
    trees: dict[str, np.ndarray]  # split -> [rows, features]


def of_texts(values: Mapping[str, Sequence[Any]]) -> Features:
    """TF-IDF of words (1-2) and of letters within words (2-5), learnt on "train"; 64 singular vectors for trees.

    ``values`` maps each split to the texts of its rows: strings, lists of strings, None where there is none.
    """
    texts = {split: [_joined(value) for value in rows] for split, rows in values.items()}
    absent = {split: _column([value is None for value in rows]) for split, rows in values.items()}
    if not any(texts["train"]):
        empty = {split: np.zeros((len(rows), 0), np.float32) for split, rows in texts.items()}
        return Features({split: [part] for split, part in empty.items()}, empty)
    shared = {"sublinear_tf": True, "max_features": TERMS, "dtype": np.float32}
    words = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\w+|[^\w\s]", **shared)
    letters = TfidfVectorizer(ngram_range=(2, 5), analyzer="char_wb", **shared)
    vectorise = make_union(words, letters).fit(texts["train"])
    wide = {split: sparse.csr_array(vectorise.transform(rows)) * np.float32(0.5**0.5) for split, rows in texts.items()}
    components = min(COMPONENTS, len(texts["train"]) - 1, len(vectorise.get_feature_names_out()) - 1)
    if components > 0:
        directions = randomized_svd(wide["train"], components, random_state=0)[2]
        narrow = {split: matrix @ directions.T for split, matrix in wide.items()}
    else:
        narrow = {split: matrix.toarray() for split, matrix in wide.items()}
    trees = {split: np.hstack([narrow[split], absent[split]]).astype(np.float32) for split in texts}
    return Features({split: [wide[split], absent[split]] for split in texts}, trees)


def of_values(values: Mapping[str, Sequence[Any]], processor: Processor) -> Features | None:
    """``Processor.features``, standardised by "train", without columns that never vary; None if no row has any."""
    vectors = {split: [_vector(value, processor) for value in rows] for split, rows in values.items()}
    present = [vector for vector in vectors["train"] if vector is not None]
    if not present:
        return None
    raw = {split: _stack(rows, len(present[0])) for split, rows in vectors.items()}
    known = np.stack(present).astype(np.float64)
    known[~np.isfinite(known)] = np.nan
    varies = np.nanmax(known, 0, initial=-np.inf) > np.nanmin(known, 0, initial=np.inf)
    mean, std = np.nanmean(known[:, varies], 0), np.nanstd(known[:, varies], 0)
    blocks = {}
    for split, rows in raw.items():
        scaled = np.clip((rows[:, varies] - mean) / std, -FAR, FAR)
        absent = _column([vector is None for vector in vectors[split]])
        blocks[split] = [np.where(np.isfinite(scaled), scaled, 0).astype(np.float32), absent]
    norm = np.float32(max(varies.sum(), 1) ** 0.5)
    linear: dict[str, list[Matrix]] = {split: [scaled / norm, absent] for split, (scaled, absent) in blocks.items()}
    return Features(linear, {split: np.hstack(parts) for split, parts in blocks.items()})


def of_inputs(
    values: Mapping[str, Mapping[str, Sequence[Any]]],
    processors: Mapping[str, Processor],
    texts: Collection[str],
) -> dict[str, Features]:
    """The features of each input (input -> split -> raw values); inputs that offer none are left out."""
    result = {}
    for name, rows in sorted(values.items()):
        features = of_texts(rows) if name in texts else of_values(rows, processors[name])
        if features is not None:
            result[name] = features
    return result


def _joined(text: Any) -> str:
    return "" if text is None else text if isinstance(text, str) else " ".join(_joined(part) for part in text)


def _vector(value: Any, processor: Processor) -> np.ndarray | None:
    item = None if value is None else processor(value)
    return processor.features(item) if item else None


def _stack(vectors: Sequence[np.ndarray | None], size: int) -> np.ndarray:
    result = np.full((len(vectors), size), np.nan)
    for row, vector in enumerate(vectors):
        if vector is not None:
            result[row] = vector
    return result


def _column(values: Sequence[bool]) -> np.ndarray:
    return np.array(values, np.float32)[:, None]
