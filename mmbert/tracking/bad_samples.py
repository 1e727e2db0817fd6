"""Rows that cannot be used: a bounded fraction of them may be left out."""

import json
from pathlib import Path

from accelerate.utils import gather_object

from mmbert.data.collate import describe_row
from mmbert.errors import DataError, SampleError
from mmbert.tracking.run_folder import RunFolder, read_lines
from mmbert.types import Sample

FILE = "bad_samples.jsonl"


class BadSamples:
    """Collects bad rows, each once, and raises once they are more than a fraction of all rows.

    Args:
        rows: of all splits.
        fraction: ``train.max_bad_fraction``; at 0 the first bad row is raised as it is.

    Example:
        >>> bad = BadSamples(rows=100, fraction=0.01)
        >>> bad.add(SampleError("expected a number, found 'x'").at("shop (prices.csv row 3)", "task 'price'"))
        >>> len(bad)
        1
    """

    def __init__(self, rows: int, fraction: float):
        self.rows, self.fraction = rows, fraction
        self._errors: dict[str, SampleError] = {}  # by row
        self._file: Path | None = None

    def __len__(self) -> int:
        return len(self._errors)

    def __contains__(self, sample: Sample) -> bool:
        return bool(self._errors) and describe_row(sample) in self._errors

    def add(self, error: SampleError) -> None:
        """Record a bad value; of a row, the first counts.

        Args:
            error: names the row and the field.

        Raises:
            SampleError: the error itself, where no bad row is allowed.
            DataError: where the bad rows are too many.
        """
        if not self.fraction:
            raise error
        if error.row in self._errors:
            return
        self._errors[error.row] = error
        self._write([error])
        if len(self) > self.fraction * self.rows:
            first = next(iter(self._errors.values()))
            raise DataError(
                f"{len(self)} of {self.rows} rows are bad, more than train.max_bad_fraction "
                f"({self.fraction:g}) allows, the first: {first}"
            )

    def keep_in(self, folder: RunFolder) -> None:
        """Record bad rows in ``bad_samples.jsonl`` from now on (main process only), after reading its rows.

        Args:
            folder: of the run.
        """
        if not folder.writes:
            return
        pending, self._errors = self._errors, {}
        path = folder.path / FILE
        lines = read_lines(path, {"row": str, "field": str, "reason": str})
        if lines or path.exists():
            folder.write(FILE, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
        for line in lines:
            self._errors[line["row"]] = SampleError(line["reason"], line["row"], line["field"])
        self._file = path
        new = [error for row, error in pending.items() if row not in self._errors]
        self._errors |= {error.row: error for error in new}
        self._write(new)

    def share(self) -> None:
        """Exchange the bad rows between all processes; called on all of them.

        Raises:
            DataError: where the bad rows are too many.
        """
        for error in gather_object(list(self._errors.values())):
            self.add(error)

    def _write(self, errors: list[SampleError]) -> None:
        if self._file is None or not errors:
            return
        lines = [{"row": error.row, "field": error.field, "reason": error.reason} for error in errors]
        with open(self._file, "a", encoding="utf-8") as file:
            file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
