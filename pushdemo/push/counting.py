"""What a process has computed, sent and dropped: numbers for pages, status and metrics.

Counting costs nothing per client: an event that goes to ten thousand clients is counted once, with
their number. Counters only grow, from the start of the process on. Any thread may read them.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Any

# Seconds: from what a few clients take to what `send_timeout` bounds, four for each power of ten.
BOUNDS = tuple(
    round(step * 10.0**power, 7) for power in range(-5, 2) for step in (1.0, 1.8, 3.2, 5.6)
)


class Histogram:
    """How often seconds were up to each of `bounds`; `counts` has one more, for what is above."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...] = BOUNDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0  # seconds, of all

    def observe(self, seconds: float, times: int = 1) -> None:
        self.counts[bisect_left(self.bounds, seconds)] += times
        self.total += seconds * times


def quantile(bounds: Iterable[float], counts: Iterable[int], share: float) -> float | None:
    """Of a histogram, the bound that this share of all is not above, from 0 to 1; None where there
    is none. It is above the true value by four fifths at most. What is above all bounds is
    infinite."""
    counts = list(counts)
    wanted = share * sum(counts)
    if not wanted:
        return None
    reached = 0
    for bound, count in zip((*bounds, float("inf")), counts, strict=True):
        reached += count
        if reached >= wanted:
            return bound
    return float("inf")


class StreamCounts:
    """The streams of one feed in one format. A stream of several feeds counts for each.

    opened, closed: streams, polls among them.
    deliveries: events that clients were sent, once for each client; also one of which a client has
        taken the beginning and is still to take the rest.
    bytes: of these, as the wire has them.

    Any thread may count.
    """

    NAMES = ("opened", "closed", "deliveries", "bytes")
    __slots__ = (*NAMES, "_lock")

    def __init__(self) -> None:
        self.opened = self.closed = self.deliveries = self.bytes = 0
        self._lock = threading.Lock()

    def open(self, streams: int = 1) -> None:
        with self._lock:
            self.opened += streams

    def close(self) -> None:
        """One of them."""
        with self._lock:
            self.closed += 1

    def deliver(self, size: int, clients: int = 1) -> None:
        """An event of so many bytes went to so many clients."""
        with self._lock:
            self.deliveries += clients
            self.bytes += clients * size


class ClientCounts:
    """The clients of one format.

    slow: how often one could not take what it was sent.
    skipped: events that slow clients were not sent, because there were newer ones.
    dropped: clients that took nothing for too long.
    """

    NAMES = ("slow", "skipped", "dropped")
    __slots__ = NAMES

    def __init__(self) -> None:
        self.slow = self.skipped = self.dropped = 0


class FeedCounts:
    """One feed in this process.

    computations: those that have ended, well or not.
    failures: those that failed, timeouts among them.
    seconds: that they took, all together.
    latency: from an event's making until the last of its clients was sent it, counted for each of
        them; of those that were not slow.
    streams: by the name of the format.
    """

    __slots__ = ("computations", "failures", "latency", "seconds", "streams")

    def __init__(self) -> None:
        self.computations = self.failures = 0
        self.seconds = 0.0
        self.latency = Histogram()
        self.streams: dict[str, StreamCounts] = {}

    @property
    def watchers(self) -> int:
        """The open streams."""
        return sum(one.opened - one.closed for one in list(self.streams.values()))

    @property
    def deliveries(self) -> int:
        return sum(one.deliveries for one in list(self.streams.values()))


class Counts:
    """All of one process."""

    def __init__(self) -> None:
        self.since = time.time()
        self._lock = threading.Lock()
        self.feeds: dict[str, FeedCounts] = {}
        self.clients: dict[str, ClientCounts] = {}

    def feed(self, name: str) -> FeedCounts:
        """Those of a feed; made by the first call."""
        found = self.feeds.get(name)
        if found is None:
            with self._lock:
                found = self.feeds.setdefault(name, FeedCounts())
        return found

    def of_format(self, name: str) -> ClientCounts:
        """Those of a format's clients; made by the first call."""
        found = self.clients.get(name)
        if found is None:
            with self._lock:
                found = self.clients.setdefault(name, ClientCounts())
        return found

    def streams(self, feeds: str, form: str) -> Mapping[str, StreamCounts]:
        """Those of the streams of some feeds (`a+b`) in a format, by the feed's name."""
        found = {}
        for name in feeds.split("+"):
            feed = self.feed(name)
            with self._lock:
                found[name] = feed.streams.setdefault(form, StreamCounts())
        return found

    def snapshot(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "since": self.since,
            "bounds": list(BOUNDS),
            "feeds": {name: _feed(counts) for name, counts in list(self.feeds.items())},
            "clients": {name: _members(counts) for name, counts in list(self.clients.items())},
        }


def _feed(counts: FeedCounts) -> dict[str, Any]:
    return {
        "computations": counts.computations,
        "failures": counts.failures,
        "seconds": counts.seconds,
        "latency": {"counts": list(counts.latency.counts), "total": counts.latency.total},
        "streams": {form: _members(one) for form, one in list(counts.streams.items())},
    }


def _members(counts: StreamCounts | ClientCounts) -> dict[str, int]:
    return {name: getattr(counts, name) for name in counts.NAMES}
