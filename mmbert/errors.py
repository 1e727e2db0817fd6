"""The errors meant for people, each with the exit code of the command line that it leads to."""

import difflib
from collections.abc import Iterable


class MMBertError(ValueError):
    """An error a person can act on: what was expected, what was found, and the nearest right thing.

    Every subclass fixes ``exit_code``, which the command line returns.
    """

    exit_code = 70


class RecipeError(MMBertError):
    """The recipe, a command-line option or the way of launching is wrong."""

    exit_code = 2


class DataError(MMBertError):
    """A data source or data set cannot be used as a whole: a missing file, column or label."""

    exit_code = 3


class SampleError(DataError):
    """One raw value is bad: ``reason`` says why. The data layer adds the row, with its source and file, and the field.

    Args:
        reason: what was expected and what was found.
        row: the row with its source and file; empty while it is not known.
        field: the field of the row that holds the value; empty while it is not known.

    >>> str(SampleError("expected a number, found 'x'").at("shop (prices.csv row 3)", "task 'price'"))
    "shop (prices.csv row 3), task 'price': expected a number, found 'x'"
    """

    def __init__(self, reason: str, row: str = "", field: str = ""):
        super().__init__(reason, row, field)  # so that it can be pickled
        self.reason, self.row, self.field = reason, row, field

    def __str__(self) -> str:
        return f"{self.row}, {self.field}: {self.reason}" if self.row else self.reason

    def at(self, row: str, field: str) -> "SampleError":
        """The same error with its place.

        Args:
            row: the row with its source and file.
            field: the field of the row that holds the value.
        """
        return SampleError(self.reason, row, field)


class NumericalError(MMBertError):
    """A loss or gradient is not finite."""

    exit_code = 4


class ResourceError(MMBertError):
    """Memory, disk or a process gave out."""

    exit_code = 5


class IntegrityError(MMBertError):
    """A run folder, a model folder or an archive is not what it claims to be."""

    exit_code = 6


class Preempted(MMBertError):
    """The run was stopped by a signal; the steps that it had done are saved, unless the disk failed."""

    exit_code = 75


class OtherProcessError(MMBertError):
    """Another process of the run failed: its message, with its exit code.

    Args:
        message: the message of the other process's error.
        exit_code: that the other process's error leads to; this one's as well.
    """

    def __init__(self, message: str, exit_code: int):
        super().__init__(message)
        self.exit_code = exit_code


RAISED_ON_ALL_PROCESSES = (OtherProcessError, NumericalError, Preempted)  # raised on all processes of a run alike


def exit_code(error: BaseException) -> int:
    """The exit code of the command line that an error leads to.

    Args:
        error: any exception, of this module or not.

    >>> exit_code(DataError("no such column")), exit_code(OSError("disk full")), exit_code(KeyError("x"))
    (3, 5, 70)
    """
    if isinstance(error, MMBertError):
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return 130
    return 5 if isinstance(error, OSError) else 70  # a full disk, a folder that may not be written


def nearest(word: str, valid: Iterable[str]) -> str:
    """The end of an error message about an unknown word: a guess where one is close, then all valid words.

    Args:
        word: the unknown word.
        valid: the words that are known, in any order.

    >>> nearest("hiden_size", ["checkpoint", "hidden_size"])
    "Did you mean 'hidden_size'? Valid: checkpoint, hidden_size"
    """
    valid = sorted(valid)
    close = difflib.get_close_matches(word, valid, n=1)
    guess = f"Did you mean '{close[0]}'? " if close else ""
    return f"{guess}Valid: {', '.join(valid) or 'none'}"
