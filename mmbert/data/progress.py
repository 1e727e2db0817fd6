"""Telling how far a long preparation is: a bar on a terminal, a plain line at each tenth elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


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
