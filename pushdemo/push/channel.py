"""A channel: the newest events of a feed, and who wants to hear of the next.

Subscribers are told *that* there is something new, never handed it: they ask for `since(n)` when
they are ready. So nothing queues up behind a slow one, and what a channel holds is bounded by its
history, not by its readers.

An event's id is made of an epoch, which is another for each run of the program, and the event's
sequence. A client that comes back with an id is given what came after it, as far as the history
goes; if it does not go that far, or the id is of another epoch, it is told so.

Every method may be called from any thread. A listener is called in the thread that published, with
no lock held; it must return at once.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from pushdemo.push.event import Encoder, Event, Trouble, Value

log = logging.getLogger(__name__)

Listener = Callable[[], None]


class Source(Protocol):
    """What a stream is a stream of."""

    @property
    def name(self) -> str: ...

    @property
    def reached(self) -> int:
        """The sequence of the newest event there has been."""

    def subscribe(self, listener: Listener, encoder: Encoder | None = None) -> None:
        """Call `listener` after each event from now on, when `encoder` has encoded it. Who
        subscribes first and asks for events second misses none."""

    def unsubscribe(self, listener: Listener) -> None:
        """Take a listener back; one that is not there is no error."""

    def state(self) -> list[Event]:
        """What a newcomer is to see: each feed's newest event, if it has one."""

    def since(self, sequence: int) -> list[Event]:
        """The events after number `sequence`, oldest first, as far back as the history goes."""

    def resume(self, last_id: str) -> list[Event] | None:
        """The events after the one with that id; None if some of them are gone."""

    def troubles(self) -> list[Trouble]:
        """Each feed's last trouble, or the end of it."""


class Listeners(dict[Listener, "Encoder | None"]):
    """Who is to be told, and in which format each will want the event."""

    def prepare(self, event: Event) -> bool:
        """Encode it for all of them, in the publisher's thread and off the delivery path. False if
        there is a format that cannot carry it."""
        frames = [event.frame(encoder) for encoder in set(self.values()) if encoder is not None]
        return all(frames)

    def tell(self) -> None:
        for listener in self:
            listener()


class Channel:
    """The newest `history` events of the feed called `name`.

    on_watched: called when the first subscriber comes, so that the feed is run.
    clock: monotonic nanoseconds, the unit of `Value.fresh_until`.
    epoch: what ids begin with; by default random.
    """

    def __init__(
        self,
        name: str,
        *,
        history: int = 1,
        on_watched: Listener = lambda: None,
        clock: Callable[[], int] = time.monotonic_ns,
        epoch: str | None = None,
    ) -> None:
        self.name = name
        self.history = history
        self.epoch = epoch or secrets.token_hex(4)
        self.reached = 0
        self._on_watched = on_watched
        self._clock = clock
        self._lock = threading.Lock()
        self._events: deque[Event] = deque(maxlen=history)
        self._listeners = Listeners()
        self._carried = True  # by all formats that were asked for
        self._fresh_until = 0  # until when the newest value may be shown to who comes
        self._trouble: Trouble | None = None

    @property
    def watched(self) -> bool:
        """Whether anybody subscribes."""
        return bool(self._listeners)

    @property
    def newest(self) -> Event | None:
        """The newest event; None where there is none, or none that may still be shown: nobody
        watches, so nobody keeps the feed running, and its value is past its time."""
        with self._lock:
            if not self._events:
                return None
            if not self._listeners and self._fresh_until <= self._clock():
                return None
            return self._events[-1]

    def state(self) -> list[Event]:
        newest = self.newest
        return [] if newest is None else [newest]

    def since(self, sequence: int) -> list[Event]:
        with self._lock:
            return [event for event in self._events if event.sequence > sequence]

    def resume(self, last_id: str) -> list[Event] | None:
        epoch, _, number = last_id.rpartition("-")
        if epoch != self.epoch or not (number.isascii() and number.isdigit()):
            return None
        return self.follow(int(number))

    def follow(self, sequence: int) -> list[Event] | None:
        """All events after number `sequence`; None if some of them are gone, or it is to come."""
        with self._lock:
            events = [event for event in self._events if event.sequence > sequence]
            return events if len(events) == self.reached - sequence else None

    def id_of(self, sequence: int) -> str:
        """The id of the event with that number."""
        return f"{self.epoch}-{sequence}"

    def publish(self, value: Value) -> Event:
        """Make `value` the newest event and tell all subscribers."""
        with self._lock:
            self.reached += 1
            self._fresh_until = value.fresh_until
            event = Event(self.reached, self.id_of(self.reached), self.name, value)
            self._events.append(event)
            listeners = Listeners(self._listeners)
        carried = listeners.prepare(event)
        if not carried and self._carried:  # once a streak, not once an event
            log.info("feed %s gives what some who watch it cannot be sent", self.name)
        self._carried = carried
        listeners.tell()
        return event

    def troubles(self) -> list[Trouble]:
        return [] if self._trouble is None else [self._trouble]

    def report(self, since: float | None) -> None:
        """The feed fails, since that time, or works again; tell all subscribers."""
        with self._lock:
            number = 1 if self._trouble is None else self._trouble.number + 1
            self._trouble = Trouble(number, self.name, since)
            listeners = Listeners(self._listeners)
        listeners.tell()

    def renew(self, value: Value) -> None:
        """The newest value was computed again, and is the same: no event, but good for longer."""
        with self._lock:
            self._fresh_until = value.fresh_until

    def subscribe(self, listener: Listener, encoder: Encoder | None = None) -> None:
        with self._lock:
            first = not self._listeners
            if first and self._fresh_until <= self._clock():
                # Once it is watched again, this would pass for the state of things. What it was
                # stays known by its number: a client that resumes from there is told of the gap
                # as soon as there is another.
                self._events.clear()
            self._listeners[listener] = encoder
        if first:
            self._on_watched()

    def unsubscribe(self, listener: Listener) -> None:
        with self._lock:
            self._listeners.pop(listener, None)
