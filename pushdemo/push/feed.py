"""A feed: a name, a function, how often to send its value and how long that value is good."""

from __future__ import annotations

import time
from collections.abc import Callable

from pushdemo.lib.memoize import memorize
from pushdemo.push.event import Value

SECOND = 1_000_000_000  # nanoseconds


class Feed:
    """One feed.

    function: takes nothing, returns the value; anything that is not text is sent as `str` has it.
    interval: seconds from one beat to the next, more than 0.
    duration: seconds for which a value is good, so that the function runs at most once in them.
    wall: seconds since the epoch.
    """

    def __init__(
        self,
        name: str,
        function: Callable[[], object],
        *,
        interval: float,
        duration: float,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self.interval = round(interval * SECOND)
        self._function = function
        self._duration = round(duration * SECOND)
        self._wall = wall
        # The memo's clock is the beat's own time, in whole nanoseconds, and not the moment at
        # which a thread came round to it: a value good for three beats is good for exactly three,
        # however early or late each of them ran.
        self._beat = 0
        self._memoized = memorize(self._duration, clock=lambda: self._beat, maxsize=1)(
            self._compute
        )

    def value(self, beat: int) -> Value:
        """The value for the beat at `beat` nanoseconds: computed now, or the one that is still
        good. One thread at a time. Raises what the function raises."""
        self._beat = beat
        return self._memoized()

    def _compute(self) -> Value:
        computed = self._wall()
        result = self._function()
        return Value(
            text=result if isinstance(result, str) else str(result),
            computed=computed,
            fresh_until=self._beat + self._duration,
        )
