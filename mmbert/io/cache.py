"""A folder of the cache that is made once, as a whole, by one process."""

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock


def make_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """``folder``, which ``make`` fills when it is not there; other processes wait for the one that does.

    It is filled under another name and renamed at the end, so that it is there completely or not at all.
    """
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        if not folder.is_dir():
            partial = folder.with_name(f"{folder.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed: we hold the lock
            partial.mkdir()
            try:
                make(partial)
                partial.rename(folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    return folder


@contextmanager
def progress(title: str) -> Iterator[Callable[[float], None]]:
    """A function to call with the fraction done, on standard error."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True)) as bar:
            task = bar.add_task(title, total=1.0)
            yield lambda fraction: bar.update(task, completed=fraction)
        return

    told = 0

    def tell(fraction: float) -> None:
        nonlocal told
        if (tenth := int(fraction * 10 + 1e-9)) > told:
            told = tenth
            print(f"{title}: {10 * tenth} %", file=sys.stderr, flush=True)

    yield tell
