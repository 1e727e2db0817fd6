"""Crude features of raw inputs for the baselines: TF-IDF of texts, standardised ``Processor.features`` of the rest."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mmbert.contracts import Processor
from mmbert.data.collate import describe_row
from mmbert.errors import SampleError
from mmbert.types import Sample

if TYPE_CHECKING:  # scipy.sparse and scikit-learn take seconds to import: only where baselines run
    from scipy import sparse

MAX_TERMS = 40_000  # of words, and of letters; the most frequent ones
COMPONENTS = 64  # singular vectors of a text, for trees
CLIP = 10.0  # standard deviations; a single broken value must not dominate a linear model


@dataclass(frozen=True, slots=True)
class Features:
    """The features of one input in every split, row by row. A row without the input is zero; a column marks it.

    Attributes:
        linear: split -> blocks [rows, features]; the norm of a row is about 1 in each block.
        trees: split -> [rows, features].
    """

    linear: "dict[str, list[np.ndarray | sparse.csr_array]]"
    trees: dict[str, np.ndarray]


def text_features(values: Mapping[str, Sequence[Any]]) -> Features:
    """TF-IDF of words (1-2) and of letters within words (2-5), fitted on "train"; 64 singular vectors for trees.

    Args:
        values: split -> the texts of its rows: strings, lists of strings, None where a row has none.
    """
    from scipy import sparse
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_union
    from sklearn.utils.extmath import randomized_svd

    texts = {split: [_join_texts(value) for value in rows] for split, rows in values.items()}
    absent = {split: _as_column([value is None for value in rows]) for split, rows in values.items()}
    if not any(texts["train"]):
        empty = {split: np.zeros((len(rows), 0), np.float32) for split, rows in texts.items()}
        return Features({split: [block] for split, block in empty.items()}, empty)
    options = {"sublinear_tf": True, "max_features": MAX_TERMS, "dtype": np.float32}
    words = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\w+|[^\w\s]", **options)
    letters = TfidfVectorizer(ngram_range=(2, 5), analyzer="char_wb", **options)
    vectorizer = make_union(words, letters).fit(texts["train"])
    wide = {split: sparse.csr_array(vectorizer.transform(rows)) * np.float32(0.5**0.5) for split, rows in texts.items()}
    components = min(COMPONENTS, len(texts["train"]) - 1, len(vectorizer.get_feature_names_out()) - 1)
    if components > 0:
        directions = randomized_svd(wide["train"], components, random_state=0)[2]
        narrow = {split: matrix @ directions.T for split, matrix in wide.items()}
    else:
        narrow = {split: matrix.toarray() for split, matrix in wide.items()}
    trees = {split: np.hstack([narrow[split], absent[split]]).astype(np.float32) for split in texts}
    return Features({split: [wide[split], absent[split]] for split in texts}, trees)


def value_features(values: Mapping[str, Sequence[Any]], processor: Processor) -> Features | None:
    """``Processor.features``, standardised by the training split, without constant columns.

    Args:
        values: split -> the raw values of its rows, None where a row has none.
        processor: fitted on the training split.

    Returns:
        The features; None where no training row has any.
    """
    vectors = {split: [_vector(value, processor) for value in rows] for split, rows in values.items()}
    present = [vector for vector in vectors["train"] if vector is not None]
    if not present:
        return None
    raw = {split: _stack(rows, len(present[0])) for split, rows in vectors.items()}
    finite = np.stack(present).astype(np.float64)
    finite[~np.isfinite(finite)] = np.nan
    varies = np.nanmax(finite, 0, initial=-np.inf) > np.nanmin(finite, 0, initial=np.inf)
    mean, std = np.nanmean(finite[:, varies], 0), np.nanstd(finite[:, varies], 0)
    blocks = {}
    for split, rows in raw.items():
        scaled = np.clip((rows[:, varies] - mean) / std, -CLIP, CLIP)
        absent = _as_column([vector is None for vector in vectors[split]])
        blocks[split] = [np.where(np.isfinite(scaled), scaled, 0).astype(np.float32), absent]
    norm = np.float32(max(varies.sum(), 1) ** 0.5)
    linear: dict[str, list[Any]] = {split: [scaled / norm, absent] for split, (scaled, absent) in blocks.items()}
    return Features(linear, {split: np.hstack(parts) for split, parts in blocks.items()})


def extract_features(
    values: Mapping[str, Mapping[str, Sequence[tuple[Sample, Any]]]],
    processors: Mapping[str, Processor],
    texts: Collection[str],
) -> tuple[dict[str, Features], dict[str, str]]:
    """The features of each input; inputs that offer none are left out.

    Args:
        values: input -> split -> the samples with their raw values, None where a sample has none.
        processors: input -> fitted processor; not needed for texts.
        texts: the inputs that are text.

    Returns:
        Input -> features, and input -> why it has none, where that is a failure.

    Raises:
        SampleError: where a value cannot be read, with its row: the model could not read it either.
    """
    features, failures = {}, {}
    for name, rows in sorted(values.items()):
        try:
            if name in texts:
                extracted = text_features({split: [value for _, value in pairs] for split, pairs in rows.items()})
            else:
                raw = {split: [value for _, value in pairs] for split, pairs in rows.items()}
                extracted = value_features(raw, processors[name])
        except Exception as error:  # features must not cost the run
            if isinstance(error, SampleError | OSError):
                _raise_with_row(name, rows, processors[name])
            failures[name] = f"{type(error).__name__}: {error}"
            continue
        if extracted is not None:
            features[name] = extracted
    return features, failures


def _raise_with_row(name: str, rows: Mapping[str, Sequence[tuple[Sample, Any]]], processor: Processor) -> None:
    for sample, value in (pair for pairs in rows.values() for pair in pairs if pair[1] is not None):
        try:
            processor(value)
        except OSError as error:  # a file that existed when the row was read
            raise SampleError(f"cannot be read: {error}").at(describe_row(sample), f"input '{name}'") from error
        except SampleError as error:
            raise error.at(describe_row(sample), f"input '{name}'") from error


def _join_texts(text: Any) -> str:
    return "" if text is None else text if isinstance(text, str) else " ".join(_join_texts(part) for part in text)


def _vector(value: Any, processor: Processor) -> np.ndarray | None:
    item = None if value is None else processor(value)
    return processor.features(item) if item else None


def _stack(vectors: Sequence[np.ndarray | None], size: int) -> np.ndarray:
    matrix = np.full((len(vectors), size), np.nan)
    for row, vector in enumerate(vectors):
        if vector is not None:
            matrix[row] = vector
    return matrix


def _as_column(values: Sequence[bool]) -> np.ndarray:
    return np.array(values, np.float32)[:, None]
