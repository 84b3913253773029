"""Places: how many of something there may be at a time."""

from __future__ import annotations

import threading


class Places:
    """At most `maximum` are taken at a time. Any thread.

    within: other places, of which each of these takes one, too.
    """

    def __init__(self, maximum: int, within: Places | None = None) -> None:
        self.maximum = maximum
        self._within = within
        self._lock = threading.Lock()
        self.taken = 0

    def take(self, wanted: int = 1) -> int:
        """Take so many, or as many as there are; returns how many."""
        with self._lock:
            taken = max(0, min(wanted, self.maximum - self.taken))
            if self._within is not None:
                taken = self._within.take(taken)
            self.taken += taken
            return taken

    def occupy(self, taken: int) -> None:
        """So many are taken already, by streams of another process that go on in this one; also
        where that is more than there may be."""
        with self._lock:
            self.taken += taken

    def leave(self) -> None:
        """Give one back."""
        with self._lock:
            self.taken -= 1
        if self._within is not None:
            self._within.leave()
