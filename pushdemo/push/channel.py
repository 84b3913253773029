"""A channel: the newest events of one feed, and who wants to hear of the next.

Subscribers are told *that* there is something new, never handed it: they ask for `since(n)` when
they are ready. So nothing queues up behind a slow one, and what a channel holds is bounded by its
history, not by its readers.

Every method may be called from any thread. A listener is called in the thread that published, with
no lock held; it must return at once.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from pushdemo.push.event import Encoder, Event, Value

Listener = Callable[[], None]


class Channel:
    """The newest `history` events of the feed called `name`.

    on_watched: called when the first subscriber comes, so that the feed is run.
    clock: monotonic nanoseconds, the unit of `Value.fresh_until`.
    """

    def __init__(
        self,
        name: str,
        *,
        history: int = 1,
        on_watched: Listener = lambda: None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.name = name
        self._on_watched = on_watched
        self._clock = clock
        self._lock = threading.Lock()
        self._events: deque[Event] = deque(maxlen=history)
        self._sequence = 0
        self._listeners: dict[Listener, Encoder] = {}

    @property
    def watched(self) -> bool:
        """Whether anybody subscribes."""
        return bool(self._listeners)

    @property
    def newest(self) -> Event | None:
        """The newest event, or None where there is none that may still be shown."""
        try:
            return self._events[-1]
        except IndexError:
            return None

    def since(self, sequence: int) -> list[Event]:
        """The events after number `sequence`, oldest first, as far back as the history goes."""
        with self._lock:
            return [event for event in self._events if event.sequence > sequence]

    def publish(self, value: Value) -> Event:
        """Make `value` the newest event and tell all subscribers."""
        with self._lock:
            self._sequence += 1
            event = Event(self._sequence, value)
            self._events.append(event)
            listeners = list(self._listeners.items())
        # Encoded here, in the publisher's thread, so that delivery finds the bytes ready.
        for encoder in {encoder for _, encoder in listeners}:
            event.frame(encoder)
        for listener, _ in listeners:
            listener()
        return event

    def subscribe(self, listener: Listener, encoder: Encoder) -> Event | None:
        """Call `listener` after each event from now on; returns the newest event there is.

        Registered first and read second, under one lock: no event falls between. Whoever comes
        first after a time without subscribers, when nobody kept the feed running, gets nothing
        that is past its time.
        """
        with self._lock:
            first = not self._listeners
            if first and self._events and self._events[-1].value.fresh_until <= self._clock():
                self._events.clear()
            self._listeners[listener] = encoder
            newest = self.newest
        if first:
            self._on_watched()
        return newest

    def unsubscribe(self, listener: Listener) -> None:
        """Take a listener back; one that is not there is no error."""
        with self._lock:
            self._listeners.pop(listener, None)
