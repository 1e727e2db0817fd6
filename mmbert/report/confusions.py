"""Predictions against true labels, from a run's examples: confusion matrices of classes, pairs of numbers."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmbert.report.formatting import as_number

OTHER = "(other classes)"


@dataclass(frozen=True)
class Confusions:
    """The confusions of one classification task."""

    classes: Sequence[str]  # the most frequent first; the rarest are merged into OTHER
    counts: Sequence[Sequence[int]]  # [true, predicted]
    mistakes: Sequence[tuple[str, str, list[Mapping[str, Any]]]]  # (true, predicted, rows), the most frequent first
    rows: int
    merged: int  # how many classes OTHER stands for


def count_confusions(examples: Iterable[Mapping[str, Any]], task: str, *, max_classes: int) -> Confusions | None:
    """Count how often each class was predicted for each class; None if the task predicts no single label.

    Args:
        examples: the lines of ``examples.jsonl``.
        task: the name of the task.
        max_classes: how many classes are counted apart; rarer ones are merged.

    Example:
        >>> rows = [{"true": {"kind": true}, "predicted": {"kind": {"label": "a"}}} for true in "aab"]
        >>> count_confusions(rows, "kind", max_classes=5).counts
        [[2, 0], [1, 0]]
    """
    labelled = [(*labels, row) for row in examples if (labels := _labels(row, task))]
    if not labelled:
        return None
    frequencies = Counter(true for true, _, _ in labelled)
    frequencies.update({predicted: 0 for _, predicted, _ in labelled})
    ordered = sorted(frequencies, key=lambda name: (-frequencies[name], name))
    classes = ordered if len(ordered) <= max_classes else ordered[: max_classes - 1]
    index = {name: position for position, name in enumerate(classes)}
    size = len(classes) + (len(ordered) > len(classes))
    counts = [[0] * size for _ in range(size)]
    wrong: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for true, predicted, row in labelled:
        counts[index.get(true, size - 1)][index.get(predicted, size - 1)] += 1
        if true != predicted:
            wrong.setdefault((true, predicted), []).append(row)
    mistakes = [(*labels, rows) for labels, rows in sorted(wrong.items(), key=lambda item: (-len(item[1]), item[0]))]
    merged = len(ordered) - len(classes)
    return Confusions([*classes, OTHER] if merged else classes, counts, mistakes, len(labelled), merged)


def number_pairs(examples: Iterable[Mapping[str, Any]], task: str) -> list[tuple[float, float]]:
    """Return (true, predicted) of each row of a task that predicts numbers; an empty list for any other task.

    Args:
        examples: the lines of ``examples.jsonl``.
        task: the name of the task.

    Example:
        >>> number_pairs([{"true": {"price": 2}, "predicted": {"price": 1.5}}], "price")
        [(2.0, 1.5)]
    """
    pairs = []
    for row in examples:
        true, predicted = row.get("true"), row.get("predicted")
        if isinstance(true, dict) and isinstance(predicted, dict):
            pairs.append((as_number(true.get(task)), as_number(predicted.get(task))))
    return [pair for pair in pairs if all(map(math.isfinite, pair))]


def probability(row: Mapping[str, Any], task: str) -> Any:
    """Return the probability of the predicted class of a row; None if the row has none.

    Args:
        row: a line of ``examples.jsonl`` with a prediction of the task.
        task: the name of a classification task.
    """
    return row["predicted"][task].get("probability")


def _labels(row: Mapping[str, Any], task: str) -> tuple[str, str] | None:
    true, predicted = row.get("true"), row.get("predicted")
    if not isinstance(true, dict) or not isinstance(predicted, dict):
        return None
    label, guess = true.get(task), predicted.get(task)
    if not isinstance(guess, dict) or "label" not in guess or label is None or isinstance(label, dict | list):
        return None
    return str(label), str(guess["label"])
