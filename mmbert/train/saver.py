"""Saves that fail: training goes on without one or two, and gives up at the third in a row."""

from collections.abc import Callable

from mmbert.errors import ResourceError

LIMIT = 3


def attempt(save: Callable[[], object]) -> str | None:
    """Why the disk failed a save; None where it is done. Other errors are not the disk's, and are raised.

    Call it on the process that saves, give its answer to all processes, and on each ``FailedSaves.note`` it.
    """
    try:
        save()
    except OSError as error:
        return str(error)
    return None


class FailedSaves:
    """Counts failed saves in a row.

    >>> failed = FailedSaves(print)
    >>> failed.note("[Errno 28] No space left on device")
    the checkpoint could not be saved: [Errno 28] No space left on device. Training goes on; earlier ones are intact
    False
    >>> failed.note(None)
    True
    """

    def __init__(self, tell: Callable[[str], None]):
        self.tell = tell
        self.in_a_row = 0

    def note(self, reason: str | None) -> bool:
        """Whether the save is done: only then may its step be remembered as saved, or as the best.

        ``reason`` is what ``attempt`` gave. Raises ``ResourceError`` at the third failure in a row.
        """
        self.in_a_row = 0 if reason is None else self.in_a_row + 1
        if self.in_a_row == LIMIT:
            raise ResourceError(
                f"{LIMIT} checkpoints in a row could not be saved, the last because of: {reason}. Earlier ones are "
                "intact: make room, or make the run folder writable, and start again"
            )
        if reason is not None:
            self.tell(f"the checkpoint could not be saved: {reason}. Training goes on; earlier ones are intact")
        return reason is None
