"""One line in the log for each stream's life: who, which feed, in which format, how many seconds,
events and bytes, and why it ended.

While many end at a time there are fewer lines, and one says how many were left out: to write a line
takes longer than to close a connection. The bytes are those that the client has acknowledged, where
the system says how many.

For the broadcaster's thread alone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from pushdemo.push.deliver.audience import Subscriber
from pushdemo.push.deliver.sockets import progress
from pushdemo.push.encode.variants import name_of

log = logging.getLogger("pushdemo.streams")

BURST = 100  # lines
RATE = 10.0  # lines a second, for as long as it takes


class Lives:
    """See the module. clock: monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lines = float(BURST)  # that may be written now
        self._seen = clock()
        self._left_out = 0
        self._elsewhere = False

    def go_on_elsewhere(self) -> None:
        """Another process has the streams: what is closed here does not end."""
        self._elsewhere = True

    def end(self, one: Subscriber, why: str) -> None:
        """A stream ends, whose socket is still open."""
        if self._elsewhere or not log.isEnabledFor(logging.INFO):
            return
        now = self._clock()
        self._lines = min(BURST, self._lines + (now - self._seen) * RATE)
        self._seen = now
        if self._lines < 1:
            self._left_out += 1
            return
        self._lines -= 1
        if self._left_out:
            log.info("%d more streams ended", self._left_out)
            self._left_out = 0
        log.info("%s", _life(one, now, why))


def _life(one: Subscriber, now: float, why: str) -> str:
    audience = one.audience
    if audience is None:
        return f"{_who(one)} left before its stream began"
    found = progress(one.sock)
    size = "" if found is None else f", {found.taken} bytes"
    return (
        f"{_who(one)} watched {audience.source.name} as {name_of(audience.framing)} for"
        f" {max(0.0, now - one.since):.1f} s, {one.events} events{size}: {why}"
    )


def _who(one: Subscriber) -> str:
    """The other end's address; a proxy's, where there is one in front."""
    try:
        peer = one.sock.getpeername()
    except OSError:  # it has broken the connection off
        return "a client"
    return str(peer[0]) if isinstance(peer, tuple) else "a client of a Unix socket"
