"""What was published with a key, so that the same, sent again, is one event.

A client that publishes and has no answer cannot know whether it was done. It sends the value again,
with the key that it has given it (the header Idempotency-Key, by HTTP).
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable

from pushdemo.push.snapshot.state import PublishedState

MEMORY = 24 * 3600.0  # seconds
MOST = 10_000  # keys: the oldest is forgotten for one more
LONGEST_KEY = 255  # characters


def check_key(key: str) -> None:
    """Raises ValueError for what cannot be a key."""
    if not (0 < len(key) <= LONGEST_KEY and key.isascii() and key.isprintable()):
        raise ValueError(f"a key has 1 to {LONGEST_KEY} printable characters of ASCII")


class Published:
    """In one process, for feeds that are published there. Any thread. clock: monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._ids: OrderedDict[tuple[str, str], tuple[float, str]] = OrderedDict()

    def once(self, feed: str, key: str | None, publish: Callable[[], str]) -> str:
        """Publish, and return the event's id; or the id of the event that was published to that
        feed with that key."""
        if key is None:
            return publish()
        with self._lock:  # also while it is published: the same may come in two threads
            now = self._clock()
            while self._ids and next(iter(self._ids.values()))[0] <= now:
                self._ids.popitem(last=False)
            known = self._ids.get((feed, key))
            if known is not None:
                return known[1]
            event_id = publish()
            self._ids[feed, key] = now + MEMORY, event_id
            if len(self._ids) > MOST:
                self._ids.popitem(last=False)
            return event_id

    def snapshot(self) -> tuple[PublishedState, ...]:
        """What another process of this machine needs to go on with it."""
        with self._lock:
            known = list(self._ids.items())
        return tuple(PublishedState(*name, until, event_id) for name, (until, event_id) in known)

    def restore(self, states: Iterable[PublishedState]) -> None:
        with self._lock:
            for feed, key, until, event_id in states:
                self._ids[feed, key] = until, event_id
