"""What waits for an answer, counted and weighed, so that it can be bounded."""

from __future__ import annotations

import threading


class Backlog:
    """Counts what was admitted and has not been settled. Any thread.

    most: how many there may be.
    most_bytes: what they may weigh all together.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._count = 0
        self._bytes = 0

    def __len__(self) -> int:
        return self._count

    def admit(self, weight: int) -> bool:
        """Add one, of so many bytes; False, and it is not added, if there is no place for it."""
        with self._lock:
            if self._count >= self._most or self._bytes + weight > self._most_bytes:
                return False
            self._count += 1
            self._bytes += weight
            return True

    def settle(self, weight: int) -> None:
        """Take out one that was admitted."""
        with self._lock:
            self._count -= 1
            self._bytes -= weight
