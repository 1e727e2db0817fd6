"""Graceful shutdown on SIGTERM, SIGUSR1 and SIGINT."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Self

from mmbert.errors import Preempted

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
POLL = 1.0  # seconds between checks that the launcher is alive


class _StopRequest(BaseException):
    """Ends a wait; not an Exception, which code that reads data might take for a bad value."""


class Interruption:
    """Context in which SIGTERM, SIGUSR1 and SIGINT set ``reason`` instead of ending the process.

    A second SIGINT ends the process.

    The run checks ``reason`` where it can stop safely: between steps and between batches of an evaluation. Inside
    ``interruptible``, where nothing would be lost, the signal raises ``Preempted`` at once. A process whose launcher
    has ended sends itself SIGTERM, so that no orphan continues to train.

    Signals reach the main thread only: in another thread this does nothing.

    Args:
        launched: by a launcher, whose end is then watched.
    """

    def __init__(self, *, launched: bool = False):
        self.reason = ""  # of the request to stop; empty where there is none
        self._launched = launched
        self._interruptible = False
        self._interrupts = 0
        self._owner = os.getpid()  # data workers inherit the handlers
        self._before: dict[signal.Signals, object] = {}
        self._over = threading.Event()
        self._watcher: threading.Thread | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}
            if self._launched:
                self._watcher = threading.Thread(target=self._watch, args=(os.getppid(),), daemon=True)
                self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._watcher:
            self._watcher.join()
        for number, handler in self._before.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Context in which a request to stop raises ``Preempted`` at once, as does an earlier request."""
        self._interruptible = True
        try:
            self._stop_if_interruptible()
            yield
        except _StopRequest:
            raise Preempted(self.reason) from None
        finally:
            self._interruptible = False

    def _stop_if_interruptible(self) -> None:
        if self.reason and self._interruptible:
            self._interruptible = False  # once: the cleanup must not be interrupted again
            raise _StopRequest

    def _handle(self, number: int, _: FrameType | None) -> None:
        if os.getpid() != self._owner:
            return
        self._interrupts += number == signal.SIGINT
        if self._interrupts > 1:
            raise KeyboardInterrupt
        self.reason = self.reason or f"stopped by {signal.Signals(number).name}"
        self._stop_if_interruptible()

    def _watch(self, launcher: int) -> None:
        while not self._over.wait(POLL):
            if os.getppid() != launcher:
                os.kill(self._owner, signal.SIGTERM)
                return
