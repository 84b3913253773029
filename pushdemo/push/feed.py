"""A feed: a name, where its value comes from, how often to send it and how long it is good."""

from __future__ import annotations

import time
from collections.abc import Callable

from pushdemo.lib.memoize import memorize
from pushdemo.push.event import Value
from pushdemo.push.executor import Executor

SECOND = 1_000_000_000  # nanoseconds


class Feed:
    """One feed.

    executor: computes the value.
    interval: seconds from one beat to the next, more than 0.
    duration: seconds for which a value is good, so that it is computed at most once in them.
    repeat: send the value on every beat, as the seed does; or else only one that has changed.
    timeout: seconds after which a computation is given up, more than 0.
    wall: seconds since the epoch.
    """

    def __init__(
        self,
        name: str,
        executor: Executor,
        *,
        interval: float,
        duration: float,
        repeat: bool = True,
        timeout: float = 300.0,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self.interval = round(interval * SECOND)
        self.repeat = repeat
        self.timeout = round(timeout * SECOND)
        self._executor = executor
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
        good. One thread at a time. Raises what the executor raises."""
        self._beat = beat
        return self._memoized()

    def abandon(self) -> None:
        """A computation takes too long: whoever asks next is not to wait for it, too."""
        self._memoized.invalidate()
        self._executor.abandon()

    def close(self) -> None:
        """There will be no more values."""
        self._executor.close()

    def _compute(self) -> Value:
        computed, began = self._wall(), time.monotonic()
        due = self._beat + self._duration
        payload = self._executor.run()
        return Value(payload, computed, took=time.monotonic() - began, fresh_until=due)
