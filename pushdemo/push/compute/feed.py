"""A feed: a name, where its value comes from, how often to send it and how long it is good.

Its times are whole nanoseconds of the beat's own time, and not of the moment at which a thread came
round to it: a value good for three beats is good for exactly three, however late each of them runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from pushdemo.push.compute.executor import Executor
from pushdemo.push.compute.template import Template
from pushdemo.push.event import Value

SECOND = 1_000_000_000  # nanoseconds


class Feed:
    """One feed.

    executor: computes the value.
    interval: seconds from one beat to the next, more than 0.
    duration: seconds for which a value is good, so that it is computed at most once in them.
    repeat: send the value on every beat, as the seed does; or else only one that has changed.
    timeout: seconds after which a computation is given up, more than 0.
    template: makes HTML of each value.
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
        template: Template | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self.interval = round(interval * SECOND)
        self.repeat = repeat
        self.timeout = round(timeout * SECOND)
        self._executor = executor
        self._duration = round(duration * SECOND)
        self._template = template
        self._wall = wall

    def compute(self, beat: int) -> Value:
        """A new value, for the beat at `beat` nanoseconds. Raises what the executor and the
        template raise."""
        computed, began = self._wall(), time.monotonic()
        payload = self._executor.run()
        html = None
        if self._template is not None:
            html = self._template.html(payload, self.name, computed)
        took = time.monotonic() - began
        return Value(payload, computed, took=took, fresh_until=beat + self._duration, html=html)

    def abandon(self) -> None:
        """Nobody waits for the computation under way any more. Any thread."""
        self._executor.abandon()

    def close(self) -> None:
        """There will be no more values."""
        self._executor.close()
