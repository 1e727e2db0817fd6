"""Labels as numbers: the sorted classes of the training split, and the index of one label among them."""

import difflib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from mmbert.errors import DataError, SampleError

Label = str | int | bool
MAX_CLASSES_SHOWN = 20  # classes that an error message lists at most


def to_plain_label(label: Any) -> Label:
    """A label as a value of JSON: a string, an integer or a truth value; whole floats count as integers.

    Args:
        label: as the source gives it, a NumPy scalar included.

    Raises:
        SampleError: on anything else.
    """
    label = label.item() if isinstance(label, np.generic) else label
    if isinstance(label, float) and label.is_integer():  # what a column of integers with gaps becomes
        return int(label)
    if not isinstance(label, Label):
        raise SampleError(f"expected a label (a string, an integer or a truth value), found {label!r}")
    return label


def count_classes(labels: Iterable[Any]) -> tuple[list[Label], list[int]]:
    """The sorted classes among ``labels`` and how often each occurs.

    Args:
        labels: those of the training split, one a row.

    Raises:
        DataError: where there are fewer than two classes: nothing can be learned then.
        SampleError: on what is no label.

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
    """The index of a label among the sorted classes.

    Args:
        label: as the source gives it.
        classes: those of the training split, sorted, as ``count_classes`` gives them.

    Raises:
        SampleError: where the label is not among the classes, naming the nearest one, or is no label.

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
