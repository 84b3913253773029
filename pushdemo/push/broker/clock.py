"""The engine's clock, as it is known here: by an offset to this process's monotonic clock.

Nodes must agree on which beat it is. Their own clocks do not, so one is asked: that of the engine,
which answers with its time whenever it is asked for something else. While it is away, its last
known offset goes on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

# The time of an answer that took longer than the quickest, by so much, is not used: it says when
# the engine was, and not how long ago.
SLOWER = 2.0
SLACK = 5_000_000  # nanoseconds
# By what the quickest is forgotten with each answer: a network may have become slower for good.
FORGETTING = 1.1


class EngineClock:
    """See the module. Any thread.

    monotonic: nanoseconds, the clock of this process's feeds.
    """

    def __init__(self, monotonic: Callable[[], int] = time.monotonic_ns) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._quickest = 0.0
        self.offset: int | None = None

    def now(self) -> int:
        """This process's monotonic nanoseconds: the time to take before and after a question."""
        return self._monotonic()

    def note(self, engine: int, before: int, after: int) -> None:
        """The engine has said its time, in nanoseconds, to a question that was asked at `before`
        and answered at `after`."""
        took = max(1, after - before)
        with self._lock:
            if self.offset is not None and took > SLOWER * self._quickest + SLACK:
                self._quickest *= FORGETTING
                return
            if self.offset is None or took < self._quickest:
                self._quickest = took
            else:
                self._quickest = min(took, self._quickest * FORGETTING)
            self.offset = engine - (before + after) // 2

    def engine(self, monotonic: int) -> int | None:
        """The engine's time at a monotonic one; None where it was never heard of."""
        return None if self.offset is None else monotonic + self.offset

    def monotonic(self, engine: int) -> int | None:
        """The monotonic time at one of the engine's; None where it was never heard of."""
        return None if self.offset is None else engine - self.offset
