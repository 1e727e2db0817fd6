"""Folders of the cache on disk that are made once, completely, by one process."""

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock


def make_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """Make a folder unless it exists; other processes wait for the one that makes it.

    The folder is filled under another name and renamed at the end, so that it is never there in part.

    Args:
        folder: the path of the folder.
        make: fills an empty folder.

    Returns:
        ``folder``.
    """
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        if not folder.is_dir():
            partial = folder.with_name(f"{folder.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)  # left by a process that was killed; the lock is ours
            partial.mkdir()
            try:
                make(partial)
                partial.rename(folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    return folder


@contextmanager
def progress(title: str) -> Iterator[Callable[[float], None]]:
    """Show progress on standard error; gives a function to call with the fraction that is done."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True)) as bar:
            task = bar.add_task(title, total=1.0)
            yield lambda fraction: bar.update(task, completed=fraction)
        return

    shown = 0

    def show(fraction: float) -> None:
        nonlocal shown
        if (tenth := int(fraction * 10 + 1e-9)) > shown:
            shown = tenth
            print(f"{title}: {10 * tenth} %", file=sys.stderr, flush=True)

    yield show
