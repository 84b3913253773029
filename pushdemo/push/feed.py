"""A feed: a name, a function, how often to send its value and how long that value is good."""

from __future__ import annotations

import time
from collections.abc import Callable

from pushdemo.lib.memoize import memorize
from pushdemo.push.event import Value
from pushdemo.push.payload import payload_of

SECOND = 1_000_000_000  # nanoseconds


class Feed:
    """One feed.

    function: takes nothing, returns the value; see pushdemo.push.payload for what it may be.
    interval: seconds from one beat to the next, more than 0.
    duration: seconds for which a value is good, so that the function runs at most once in them.
    repeat: send the value on every beat, as the seed does; or else only one that has changed.
    wall: seconds since the epoch.
    """

    def __init__(
        self,
        name: str,
        function: Callable[[], object],
        *,
        interval: float,
        duration: float,
        repeat: bool = True,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self.interval = round(interval * SECOND)
        self.repeat = repeat
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
        return Value(
            payload=payload_of(self._function()),
            computed=computed,
            fresh_until=self._beat + self._duration,
        )
