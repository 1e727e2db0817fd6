"""Exceptions for users, each with an exit code of the command line."""

import difflib
from collections.abc import Iterable

MAX_WORDS = 60  # that a message lists


class MMBertError(ValueError):
    """Base class of errors that a user can act on: what was expected, what was found, the nearest valid value.

    Subclasses set ``exit_code``, which the command line returns.
    """

    exit_code = 70


class RecipeError(MMBertError):
    """The recipe, a command-line option or the launch configuration is wrong."""

    exit_code = 2


class DataError(MMBertError):
    """A data source or data set cannot be used as a whole: a missing file, column or label."""

    exit_code = 3


class SampleError(DataError):
    """A raw value is bad. The data layer adds the row, with its source and file, and the field.

    Args:
        reason: what was expected and what was found.
        row: the row with its source and file; empty if not yet known.
        field: the field of the row that holds the value; empty if not yet known.

    >>> str(SampleError("expected a number, found 'x'").at("shop (prices.csv row 3)", "task 'price'"))
    "shop (prices.csv row 3), task 'price': expected a number, found 'x'"
    """

    def __init__(self, reason: str, row: str = "", field: str = ""):
        super().__init__(reason, row, field)  # all arguments, so that it can be pickled
        self.reason, self.row, self.field = reason, row, field

    def __str__(self) -> str:
        return f"{self.row}, {self.field}: {self.reason}" if self.row else self.reason

    def at(self, row: str, field: str) -> "SampleError":
        """The same error with row and field.

        Args:
            row: the row with its source and file.
            field: the field of the row that holds the value.
        """
        return SampleError(self.reason, row, field)


class NumericalError(MMBertError):
    """A loss or gradient is not finite."""

    exit_code = 4


class ResourceError(MMBertError):
    """Memory or disk is exhausted, or a process died."""

    exit_code = 5


class IntegrityError(MMBertError):
    """A run folder, a model folder or an archive is damaged or incompatible."""

    exit_code = 6


class Preempted(MMBertError):
    """The run was stopped by a signal; its progress is saved, unless the disk failed."""

    exit_code = 75


class OtherProcessError(MMBertError):
    """Another process of the run failed. Carries its message and exit code.

    Args:
        message: message of the error in the other process.
        exit_code: exit code of that error, and of this one.
    """

    def __init__(self, message: str, exit_code: int):
        super().__init__(message)
        self.exit_code = exit_code


RAISED_ON_ALL_PROCESSES = (OtherProcessError, NumericalError, Preempted)  # raised on every process of a run


def exit_code(error: BaseException) -> int:
    """The exit code of the command line for an error.

    Args:
        error: any exception.

    >>> exit_code(DataError("no such column")), exit_code(OSError("disk full")), exit_code(KeyError("x"))
    (3, 5, 70)
    """
    if isinstance(error, MMBertError):
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return 130
    return 5 if isinstance(error, OSError) else 70  # a full disk, a read-only folder


def nearest(word: str, valid: Iterable[str]) -> str:
    """The end of an error message about an unknown word: a guess where one is close, then the valid words.

    Args:
        word: the unknown word.
        valid: the valid words, in any order.

    >>> nearest("hiden_size", ["checkpoint", "hidden_size"])
    "Did you mean 'hidden_size'? Valid: checkpoint, hidden_size"
    """
    valid = sorted(valid)
    close = nearest_word(word, valid)
    guess = "" if close is None else f"Did you mean '{close}'? "
    more = f" and {len(valid) - MAX_WORDS} more" if len(valid) > MAX_WORDS else ""
    return f"{guess}Valid: {', '.join(valid[:MAX_WORDS]) or 'none'}{more}"


def nearest_word(word: str, valid: Iterable[str]) -> str | None:
    """The valid word that is meant, whatever its letter case and the blanks around it; None where none is close.

    Args:
        word: the unknown word.
        valid: the words that are known.

    >>> nearest_word("KIND ", ["kind", "size"])
    'kind'
    """
    valid = [*valid]
    folded = {known.strip().lower(): known for known in valid}
    if word.strip().lower() in folded:
        return folded[word.strip().lower()]
    if close := difflib.get_close_matches(word, valid, n=1):
        return close[0]
    close = difflib.get_close_matches(word.strip().lower(), folded, n=1)
    return folded[close[0]] if close else None
