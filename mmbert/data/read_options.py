"""How a source reads its files: what its options say, and what is known of the columns beforehand."""

import codecs
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mmbert.errors import DataError, RecipeError


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How files are read; the first five are options of the source ``files``.

    Attributes:
        na_values: words that are missing values in every column.
        decimal: the decimal sign of numbers in CSV files.
        thousands: the sign between thousands; empty for none.
        encoding: of text files.
        separator: between the cells of CSV files; empty for that of the format.
        verbatim: columns that are text as it is written, digits, words for missing values and blanks included.
        exact: columns in which integers and floats that stand in one list stay apart.
        kinds: column -> its kind in training (``text``, ``integer``, ``number``, ``boolean``).
    """

    na_values: tuple[str, ...] = ()
    decimal: str = "."
    thousands: str = ""
    encoding: str = "utf-8"
    separator: str = ""
    verbatim: frozenset[str] = frozenset()
    exact: frozenset[str] = frozenset()
    kinds: Mapping[str, str] = field(default_factory=dict)

    def check(self, source: str) -> None:
        """Check that the options fit each other.

        Args:
            source: its name in the recipe, for messages.

        Raises:
            RecipeError: on an unknown encoding, a separator that is not one character, or one sign in two roles.
        """
        try:
            codecs.lookup(self.encoding)
        except LookupError:
            raise RecipeError(
                f"data.{source}.encoding: no encoding is called '{self.encoding}'. Usual: utf-8, cp1252, utf-16"
            ) from None
        if self.separator and len(self.separator) != 1:
            raise RecipeError(f"data.{source}.separator: expected one character, found {self.separator!r}")
        if self.thousands == self.decimal:
            raise RecipeError(f"data.{source}.thousands: expected another sign than 'decimal', found {self.decimal!r}")

    def check_format(self, paths: str, kind: str) -> None:
        """Check that the files can have what the options speak of.

        Args:
            paths: the files, for the message.
            kind: their format.

        Raises:
            DataError: where an option belongs to files of another format.
        """
        csv = {"decimal": self.decimal != ".", "thousands": bool(self.thousands), "separator": bool(self.separator)}
        if kind not in ("csv", "tsv"):
            for name in (name for name, given in csv.items() if given):
                raise DataError(f"{paths}: the option '{name}' belongs to CSV and TSV files: remove it")
            if kind != "jsonl" and self.encoding != "utf-8":
                raise DataError(f"{paths}: the option 'encoding' belongs to text files: remove it")

    def identity(self) -> list[Any]:
        """All that the tables depend on beside the files, as JSON."""
        signs = [self.decimal, self.thousands, self.encoding, self.separator]
        return [list(self.na_values), *signs, sorted(self.verbatim), sorted(self.exact), sorted(self.kinds.items())]
