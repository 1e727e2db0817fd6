"""Labels as numbers: the sorted classes of the training split, and the index of one label among them.

A label that only validation or test have is a wrong prediction of the model, counted as such: see ``UNSEEN``.
"""

import difflib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from mmbert.errors import DataError, SampleError

Label = str | int | bool
UNSEEN = -2  # the index of a label that the training split does not have: no prediction of it can be right


def to_plain_label(label: Any) -> Label:
    """A label as a JSON value: a string, an integer or a bool; whole floats become integers.

    Args:
        label: the raw label, possibly a NumPy scalar.

    Raises:
        SampleError: if the label is of another type.
    """
    label = label.item() if isinstance(label, np.generic) else label
    if isinstance(label, float) and label.is_integer():  # pandas reads integers with gaps as floats
        return int(label)
    if not isinstance(label, Label):
        raise SampleError(f"expected a label (a string, an integer or a bool), found {label!r}")
    return label


def count_classes(labels: Iterable[Any]) -> tuple[list[Label], list[int]]:
    """The sorted classes and their counts.

    Args:
        labels: the labels of the training split, one per row.

    Raises:
        DataError: if there are fewer than two classes.
        SampleError: if a value is not a label.

    Example:
        >>> count_classes(["pear", "apple", "pear"])
        (['apple', 'pear'], [1, 2])
    """
    counts = Counter(to_plain_label(label) for label in labels)
    classes = sorted(counts, key=lambda label: (isinstance(label, str), label))
    if len(classes) < 2:
        raise DataError(f"expected at least two classes in the training split, found {classes}")
    return classes, [counts[label] for label in classes]


def class_index(label: Any, classes: Sequence[Label]) -> int:
    """The index of a label among the sorted classes; ``UNSEEN`` for a label that the training split does not have.

    Args:
        label: the raw label.
        classes: the sorted classes of the training split, from ``count_classes``.

    Raises:
        SampleError: on what is no label.

    Example:
        >>> class_index("plum", ["apple", "plum"]), class_index("fig", ["apple", "plum"]) == UNSEEN
        (1, True)
    """
    label = to_plain_label(label)
    return classes.index(label) if label in classes else UNSEEN


def unseen_labels(labels: Iterable[Any], classes: Sequence[Label]) -> list[Label]:
    """Those of some labels that are not among the classes.

    Args:
        labels: as the source gives them.
        classes: those of the training split.
    """
    return [label for label in map(to_plain_label, labels) if label not in classes]


def nearest_class(label: Label, classes: Sequence[Label]) -> str | None:
    """The class that resembles a label the most, by letters or as a number; None where none does.

    Args:
        label: that is not among the classes.
        classes: those of the training split.

    Example:
        >>> nearest_class("spamm", ["ham", "spam"]), nearest_class(12, [0, 1, 4]), nearest_class("x", ["ham"])
        ('spam', '4', None)
    """
    if not isinstance(label, str) and not any(isinstance(known, str) for known in classes):
        return str(min(classes, key=lambda known: abs(int(known) - int(label))))
    close = difflib.get_close_matches(str(label), [str(known) for known in classes], n=1)
    return close[0] if close else None
