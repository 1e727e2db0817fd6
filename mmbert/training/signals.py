"""Being told to stop: by a signal, or by the end of the launcher."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Self

from mmbert.errors import Preempted

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
POLL = 1.0  # seconds between looks at whether the launcher is still there


class _Asked(BaseException):
    """Ends a wait; not an Exception, which whatever reads data might take for a bad value."""


class Interruption:
    """Within it, SIGTERM, SIGUSR1 and SIGINT set ``asked`` instead of ending the process; a second SIGINT ends it.

    The run looks at ``asked`` where it can stop well: between steps and between batches of an evaluation. Where nothing
    would be lost, inside ``breakable``, the signal raises ``Preempted`` at once. A process whose launcher has gone
    asks itself to stop, so that no orphan trains on.

    Signals reach the main thread alone: in another one this does nothing.
    """

    def __init__(self, *, launched: bool = False):
        self.asked = ""  # the reason
        self._launched = launched
        self._breakable = False
        self._interrupts = 0
        self._owner = os.getpid()  # data workers inherit the handlers
        self._before: dict[signal.Signals, object] = {}
        self._over = threading.Event()
        self._watcher: threading.Thread | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {one: signal.signal(one, self._handle) for one in SIGNALS}
            if self._launched:
                self._watcher = threading.Thread(target=self._watch, args=(os.getppid(),), daemon=True)
                self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._watcher:
            self._watcher.join()
        for one, handler in self._before.items():
            signal.signal(one, handler)  # pyright: ignore[reportArgumentType]

    @contextmanager
    def breakable(self) -> Iterator[None]:
        """Within, being asked to stop raises ``Preempted``, also where it was asked before."""
        self._breakable = True
        try:
            self._break()
            yield
        except _Asked:
            raise Preempted(self.asked) from None
        finally:
            self._breakable = False

    def _break(self) -> None:
        if self.asked and self._breakable:
            self._breakable = False  # once: what cleans up must not be broken again
            raise _Asked

    def _handle(self, number: int, _: FrameType | None) -> None:
        if os.getpid() != self._owner:
            return
        self._interrupts += number == signal.SIGINT
        if self._interrupts > 1:
            raise KeyboardInterrupt
        self.asked = self.asked or f"told to stop by {signal.Signals(number).name}"
        self._break()

    def _watch(self, launcher: int) -> None:
        while not self._over.wait(POLL):
            if os.getppid() != launcher:
                os.kill(self._owner, signal.SIGTERM)
                return
