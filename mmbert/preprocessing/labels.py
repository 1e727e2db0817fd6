"""Class labels: the sorted classes of the training split, and the class index of a label."""

import difflib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from mmbert.errors import DataError, SampleError

Label = str | int | bool
MAX_CLASSES_SHOWN = 20  # maximum number of classes that an error message lists


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
    """The class index of a label.

    Args:
        label: the raw label.
        classes: the sorted classes of the training split, from ``count_classes``.

    Raises:
        SampleError: if the value is not a label or not among the classes. The message names the nearest class.

    Example:
        >>> class_index("plum", ["apple", "plum"])
        1
    """
    label = to_plain_label(label)
    if label in classes:
        return classes.index(label)
    names = [str(known) for known in classes]
    close = difflib.get_close_matches(str(label), names, n=1)
    if not isinstance(label, str) and not any(isinstance(known, str) for known in classes):
        close = [str(min(classes, key=lambda known: abs(int(known) - int(label))))]
    guess = f"Did you mean '{close[0]}'? " if close else ""
    more = f" and {len(names) - MAX_CLASSES_SHOWN} more" if len(names) > MAX_CLASSES_SHOWN else ""
    known = f"Known: {', '.join(names[:MAX_CLASSES_SHOWN])}{more}"
    raise SampleError(f"expected a label of the training split, found {label!r}. {guess}{known}")
