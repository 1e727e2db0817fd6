"""Experiment trackers that mirror ``metrics.jsonl``; a tracker that fails or is slow does not affect the run."""

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate.tracking import LOGGER_TYPE_TO_CLASS
from accelerate.utils import is_tensorboard_available

WAITING = 1000  # steps or evaluations that a slow tracker may lag behind
PATIENCE = 5.0  # seconds that a run waits at its end, for all trackers together

Values = Mapping[str, float]  # "train/price/loss" -> value
Warn = Callable[[str], None]


class Mirror:
    """One tracker in its own thread; its first failure is reported once and ends it.

    Args:
        name: of the tracker.
        make: returns the tracker; called in the thread.
        settings: the resolved recipe, flat.
        warn: takes the sentence about a failure.
    """

    def __init__(self, name: str, make: Callable[[], Any], settings: Mapping[str, Any], warn: Warn):
        self.name = name
        self._make, self._settings, self._warn = make, settings, warn
        self._queue: queue.Queue[tuple[int, Values] | None] = queue.Queue(WAITING)
        self._lock = threading.Lock()
        self._has_failed = False
        self._thread = threading.Thread(target=self._run, name=f"tracker {name}", daemon=True)  # dies with the run
        self._thread.start()

    def log(self, step: int, values: Values) -> None:
        """Hand over values; a tracker that lags too far behind gets no more.

        Args:
            step: of the run.
            values: by name.
        """
        if not self._has_failed:
            self._put((step, values))

    def close(self) -> None:
        """Signal that no more values will come."""
        self._put(None)

    def wait(self, seconds: float) -> None:
        """Wait until everything is written.

        Args:
            seconds: the longest wait.
        """
        self._thread.join(seconds)
        if self._thread.is_alive():
            self._give_up("is still busy and was left behind")

    def _put(self, item: tuple[int, Values] | None) -> None:
        try:
            self._queue.put_nowait(item)
        except queue.Full:
            self._give_up(f"lags {WAITING} steps behind and gets no more")

    def _run(self) -> None:
        try:
            tracker = self._make()
            tracker.start()
            tracker.store_init_configuration(dict(self._settings))
            while (item := self._queue.get()) is not None:
                step, values = item
                tracker.log(dict(values), step=step)
            tracker.finish()
        except BaseException as error:  # libraries of trackers also end with SystemExit
            self._give_up(f"failed ({type(error).__name__}: {error})".replace("\n", " ")[:300])

    def _give_up(self, reason: str) -> None:
        with self._lock:
            first, self._has_failed = not self._has_failed, True
        if first:
            self._warn(f"warning: the tracker {self.name} {reason}; metrics.jsonl is complete")


class Trackers:
    """All trackers of a run.

    Args:
        mirrors: the trackers.

    Example:
        >>> warnings = []
        >>> trackers = Trackers([Mirror("broken", lambda: 1 / 0, {}, warnings.append)])
        >>> trackers.log(1, {"train/price/loss": 0.5})
        >>> trackers.finish()
        >>> warnings
        ['warning: the tracker broken failed (ZeroDivisionError: division by zero); metrics.jsonl is complete']
    """

    def __init__(self, mirrors: Sequence[Mirror] = ()):
        self._mirrors = list(mirrors)

    def log(self, step: int, values: Values) -> None:
        """Hand values to all trackers.

        Args:
            step: of the run.
            values: by name.
        """
        for mirror in self._mirrors:
            mirror.log(step, values)

    def finish(self) -> None:
        """Wait until all trackers are done, ``PATIENCE`` seconds at most; later values are ignored."""
        mirrors, self._mirrors = self._mirrors, []
        for mirror in mirrors:
            mirror.close()
        end = time.monotonic() + PATIENCE
        for mirror in mirrors:
            mirror.wait(max(0.0, end - time.monotonic()))


def start_trackers(
    names: Sequence[str] | None, folder: Path, study: str, settings: Mapping[str, Any], warn: Warn
) -> Trackers:
    """Start the trackers that a recipe names; for the main process alone.

    Args:
        names: of trackers; None for TensorBoard where it is installed.
        folder: the run folder. TensorBoard writes into it; other trackers use its name as the name of the run.
        study: the recipe's name, used as that of the project (wandb, trackio) or experiment (mlflow).
        settings: the resolved recipe.
        warn: called once for each tracker that fails, from the tracker's thread.
    """
    if names is None:
        names = ["tensorboard"] if is_tensorboard_available() else []
    options = {"tensorboard": {"logging_dir": folder}, "mlflow": {"run_name": folder.name}}

    def make(name: str) -> Callable[[], Any]:
        project = "tensorboard" if name == "tensorboard" else study  # the folder inside the run's
        return lambda: LOGGER_TYPE_TO_CLASS[name](project, **options.get(name, {"name": folder.name}))

    return Trackers([Mirror(name, make(name), flatten(settings), warn) for name in dict.fromkeys(names)])


def flatten(settings: Mapping[str, Any], path: str = "") -> dict[str, str | int | float | bool]:
    """A recipe as trackers accept it: dotted paths to numbers, texts and booleans; all else as text.

    Args:
        settings: nested mappings.
        path: before each key.

    Example:
        >>> flatten({"train": {"seed": 0, "steps": None}, "betas": [0.9, 0.999]})
        {'train.seed': 0, 'train.steps': 'null', 'betas': '[0.9, 0.999]'}
    """
    flat: dict[str, str | int | float | bool] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{path}{key}.")
        elif value is None:
            flat[f"{path}{key}"] = "null"
        else:
            flat[f"{path}{key}"] = value if isinstance(value, str | int | float | bool) else str(value)
    return flat
