"""What a run predicted beside what is true, from its examples: classes with the commonest mistakes, and numbers."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmbert.report.formatting import as_number

OTHER = "(other classes)"


@dataclass(frozen=True)
class Confusions:
    """Of one classification."""

    classes: Sequence[str]  # the most frequent first, the rest in one
    counts: Sequence[Sequence[int]]  # [true, predicted]
    mistakes: Sequence[tuple[str, str, list[Mapping[str, Any]]]]  # (true, predicted, rows), the commonest first
    rows: int
    joined: int  # how many classes stand for OTHER


def confusions(examples: Iterable[Mapping[str, Any]], task: str, *, most: int) -> Confusions | None:
    """Count them over at most ``most`` classes; None where the task predicts no single label.

    >>> rows = [{"true": {"kind": true}, "predicted": {"kind": {"label": "a"}}} for true in "aab"]
    >>> confusions(rows, "kind", most=5).counts
    [[2, 0], [1, 0]]
    """
    named = [(*pair, row) for row in examples if (pair := _pair(row, task))]
    if not named:
        return None
    frequent = Counter(true for true, _, _ in named)
    frequent.update({predicted: 0 for _, predicted, _ in named})
    order = sorted(frequent, key=lambda one: (-frequent[one], one))
    kept = order if len(order) <= most else order[: most - 1]
    place = {one: at for at, one in enumerate(kept)}
    size = len(kept) + (len(order) > len(kept))
    counts = [[0] * size for _ in range(size)]
    wrong: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for true, predicted, row in named:
        counts[place.get(true, size - 1)][place.get(predicted, size - 1)] += 1
        if true != predicted:
            wrong.setdefault((true, predicted), []).append(row)
    mistakes = sorted(wrong.items(), key=lambda pair: (-len(pair[1]), pair[0]))
    classes = kept if size == len(kept) else [*kept, OTHER]
    return Confusions(classes, counts, [(*pair, rows) for pair, rows in mistakes], len(named), len(order) - len(kept))


def pairs(examples: Iterable[Mapping[str, Any]], task: str) -> list[tuple[float, float]]:
    """(true, predicted) of each row of a task that predicts numbers; none of any other task.

    >>> pairs([{"true": {"price": 2}, "predicted": {"price": 1.5}}], "price")
    [(2.0, 1.5)]
    """
    found = []
    for row in examples:
        true, predicted = row.get("true"), row.get("predicted")
        if isinstance(true, dict) and isinstance(predicted, dict):
            found.append((as_number(true.get(task)), as_number(predicted.get(task))))
    return [pair for pair in found if all(map(math.isfinite, pair))]


def probability(row: Mapping[str, Any], task: str) -> Any:
    """How sure the prediction was."""
    return row["predicted"][task].get("probability")


def _pair(row: Mapping[str, Any], task: str) -> tuple[str, str] | None:
    true, predicted = row.get("true"), row.get("predicted")
    if not isinstance(true, dict) or not isinstance(predicted, dict):
        return None
    label, guess = true.get(task), predicted.get(task)
    if not isinstance(guess, dict) or "label" not in guess or label is None or isinstance(label, dict | list):
        return None
    return str(label), str(guess["label"])
