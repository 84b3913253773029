"""A wakeup: what a thread sleeps by, and others wake it with. A binary semaphore.

As threading.Event, for one sleeper and in two calls: an Event's `wait` and `clear` are some twenty
in Python, and the publisher's thread sleeps twice for each event.
"""

from __future__ import annotations

import threading


class Wakeup:
    """See the module."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()  # it is not set

    def set(self) -> None:
        """Let the wait under way end, or else the next. Any thread."""
        try:  # noqa: SIM105 - it takes a third of the time
            self._lock.release()
        except RuntimeError:
            pass  # it is set already

    def wait(self, seconds: float | None) -> None:
        """Sleep until it is set, or for so many seconds; None: without end. It is not set any more
        then."""
        self._lock.acquire(timeout=-1 if seconds is None else min(seconds, threading.TIMEOUT_MAX))
