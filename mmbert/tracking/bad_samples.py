"""The rows that cannot be used, of which a bounded fraction may be left out."""

import json
from pathlib import Path

from accelerate.utils import gather_object

from mmbert.data.collate import describe_row
from mmbert.errors import DataError, SampleError
from mmbert.tracking.run_folder import RunFolder
from mmbert.types import Sample

FILE = "bad_samples.jsonl"


class BadSamples:
    """Collects bad rows, each once, and raises once they are more than a fraction of all rows.

    Args:
        rows: of all splits.
        fraction: ``train.max_bad_fraction``; at 0 the first bad row is raised as it is.

    >>> bad = BadSamples(rows=100, fraction=0.01)
    >>> bad.add(SampleError("expected a number, found 'x'").at("shop (prices.csv row 3)", "task 'price'"))
    >>> len(bad)
    1
    """

    def __init__(self, rows: int, fraction: float):
        self.rows, self.fraction = rows, fraction
        self._found: dict[str, SampleError] = {}  # by row
        self._file: Path | None = None

    def __len__(self) -> int:
        return len(self._found)

    def __contains__(self, sample: Sample) -> bool:
        return bool(self._found) and describe_row(sample) in self._found

    def add(self, error: SampleError) -> None:
        """One more bad value. Raises it, or ``DataError`` where the bad rows are too many."""
        if not self.fraction:
            raise error
        if error.row in self._found:
            return
        self._found[error.row] = error
        self._write([error])
        if len(self) > self.fraction * self.rows:
            first = next(iter(self._found.values()))
            raise DataError(f"{len(self)} of {self.rows} rows are bad, more than train.max_bad_fraction "
                            f"({self.fraction:g}) allows, the first: {first}")  # fmt: skip

    def keep_in(self, folder: RunFolder) -> None:
        """From now on the main process writes bad rows into ``bad_samples.jsonl``, after those that are there."""
        if not folder.writes:
            return
        known, self._found = self._found, {}
        path = folder.path / FILE
        if path.exists():
            text = path.read_text(encoding="utf-8")
            whole = text[: text.rfind("\n") + 1]  # a killed job may have left half a line
            folder.write(FILE, whole)
            for one in map(json.loads, whole.splitlines()):
                self._found[one["row"]] = SampleError(one["reason"], one["row"], one["field"])
        self._file = path
        new = [error for row, error in known.items() if row not in self._found]
        self._found |= {error.row: error for error in new}
        self._write(new)

    def share(self) -> None:
        """Let every process know the bad rows of all; called on all of them. Raises ``DataError`` as ``add`` does."""
        for error in gather_object(list(self._found.values())):
            self.add(error)

    def _write(self, errors: list[SampleError]) -> None:
        if self._file is None or not errors:
            return
        lines = [{"row": error.row, "field": error.field, "reason": error.reason} for error in errors]
        with open(self._file, "a", encoding="utf-8") as file:
            file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
