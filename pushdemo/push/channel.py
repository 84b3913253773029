"""A channel: the newest events of a feed, and who wants to hear of the next.

Subscribers are told *that* there is something new, never handed it: they ask for `since(n)` when
they are ready. So nothing queues up behind a slow one, and what a channel holds is bounded by its
history, not by its readers.

An event's id is made of an epoch, which is another for each run of the program, and the event's
sequence (see position.py). A client that comes back with an id is given what came after it, as far
as the history goes; if it does not go that far, or the id is of another epoch, it is told so.

A value that expired while there was no subscriber is *outdated*. It is kept, but a new client is
not shown it: the feed is run at once, and the client waits for that value. If the feed then fails,
the outdated value is the last good one: the publisher publishes it again, and tells of the failure.

Every method may be called from any thread. A listener is called in the thread that published, with
no lock held; it must return at once.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Protocol

from pushdemo.push.event import Encoder, Event, FeedStatus, Value
from pushdemo.push.position import Position, place_id
from pushdemo.push.snapshot.state import ChannelState, EventState

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

    def resume(self, position: Position) -> list[Event] | None:
        """The events after that position; None if some of them are gone, or it is of another
        source or epoch."""

    def statuses(self) -> list[FeedStatus]:
        """The last status of each feed that has failed."""


class Listeners:
    """Some listeners, and the format in which each needs the event. They do not change: who adds
    one has others then, and who tells them needs no lock."""

    def __init__(self, encoder_of: Mapping[Listener, Encoder | None] | None = None) -> None:
        self._encoder_of = dict(encoder_of or {})
        self._encoders = {one for one in self._encoder_of.values() if one is not None}

    def __len__(self) -> int:
        return len(self._encoder_of)

    def __contains__(self, listener: Listener) -> bool:
        return listener in self._encoder_of

    def with_(self, listener: Listener, encoder: Encoder | None) -> Listeners:
        """These and that one."""
        return Listeners({**self._encoder_of, listener: encoder})

    def without(self, listener: Listener) -> Listeners:
        """These, and not that one if it is among them."""
        return Listeners({one: of for one, of in self._encoder_of.items() if one != listener})

    def prepare(self, event: Event) -> bool:
        """Encode it for all of them, in the publisher's thread and off the delivery path. False if
        there is a format that cannot carry it."""
        frames = [event.frame(encoder) for encoder in self._encoders]
        return all(frames)

    def tell(self) -> None:
        for listener in self._encoder_of:
            try:
                listener()
            except Exception:  # one of them must not keep the others from hearing
                log.exception("a listener failed")


class Channel:
    """The newest `history` events of the feed called `name`.

    on_watched: called when the first subscriber comes; set by who runs the feed.

    clock: monotonic nanoseconds, the unit of `Value.fresh_until`.
    epoch: what ids begin with; by default random.
    """

    def __init__(
        self,
        name: str,
        *,
        history: int = 1,
        clock: Callable[[], int] = time.monotonic_ns,
        epoch: str | None = None,
    ) -> None:
        self.name = name
        self.history = history
        self.epoch = epoch or secrets.token_hex(4)
        self.reached = 0
        self.on_watched: Listener = lambda: None
        self._clock = clock
        self._lock = threading.Lock()
        self._events: deque[Event] = deque(maxlen=history)
        self._listeners = Listeners()
        self._carried = True  # by all formats that were asked for
        self._fresh_until = 0  # when the newest value expires
        self._outdated = False  # the newest value expired while there was no subscriber
        self._status: FeedStatus | None = None
        self._retry_at = 0  # when a feed that fails is tried again

    @property
    def watched(self) -> bool:
        """Whether anybody subscribes."""
        return bool(self._listeners)

    @property
    def newest(self) -> Event | None:
        """The newest event; None where there is none, or an outdated one of a feed that works."""
        with self._lock:
            return self._events[-1] if self._events and self._shows() else None

    @property
    def last(self) -> Event | None:
        """The newest event, whether it is outdated or not."""
        with self._lock:
            return self._events[-1] if self._events else None

    @property
    def outdated(self) -> bool:
        """Whether no subscriber of now has seen the newest value."""
        return self._outdated

    @property
    def failing(self) -> bool:
        """Whether the feed's last computation failed."""
        return self._status is not None and self._status.failing_since is not None

    @property
    def retry_in(self) -> float | None:
        """Where there is no value because the feed fails: the seconds until it is tried again, 0 if
        that is due. None where a value can be shown, or will be there without such a failure."""
        with self._lock:
            if self._events or not self.failing:
                return None
            return max(0, self._retry_at - self._clock()) / 1_000_000_000

    def is_fresh(self, time: int) -> bool:
        """Whether the newest value is still good at that time, in the clock's nanoseconds."""
        return time < self._fresh_until

    def state(self) -> list[Event]:
        newest = self.newest
        return [] if newest is None else [newest]

    def since(self, sequence: int) -> list[Event]:
        with self._lock:
            return [event for event in self._events if event.sequence > sequence]

    def resume(self, position: Position) -> list[Event] | None:
        if len(position) != 1 or position[0].epoch != self.epoch:
            return None
        return self.follow(position[0].sequence)

    def follow(self, sequence: int) -> list[Event] | None:
        """All events after number `sequence`; None if some of them are gone, or it is to come."""
        with self._lock:
            events = [event for event in self._events if event.sequence > sequence]
            return events if len(events) == self.reached - sequence else None

    def id_of(self, sequence: int) -> str:
        """The id of the event with that number."""
        return place_id(self.epoch, sequence)

    def publish(self, value: Value) -> Event:
        """Make `value` the newest event and tell all subscribers."""
        with self._lock:
            self.reached += 1
            self._fresh_until = value.fresh_until
            self._outdated = False
            event = Event(self.reached, self.id_of(self.reached), self.name, value)
            self._events.append(event)
            listeners = self._listeners
        carried = listeners.prepare(event)
        if not carried and self._carried:  # once a streak, not once an event
            log.info("feed %s gives what some who watch it cannot be sent", self.name)
        self._carried = carried
        listeners.tell()
        return event

    def statuses(self) -> list[FeedStatus]:
        return [] if self._status is None else [self._status]

    def fail(self, failing_since: float, retry_at: int) -> None:
        """The feed fails; tell all subscribers. Repeated, it is told again only to those that wait
        for a first value.

        failing_since: when it failed first, in seconds since the epoch.
        retry_at: when it is tried again, in the clock's nanoseconds.
        """
        with self._lock:
            self._retry_at = retry_at
            if self.failing and self._events:
                return
            listeners = self._set_status(failing_since)
        listeners.tell()

    def recover(self) -> None:
        """The feed works again; tell all subscribers."""
        with self._lock:
            listeners = self._set_status(None)
        listeners.tell()

    def _set_status(self, failing_since: float | None) -> Listeners:
        """With the lock."""
        number = 1 if self._status is None else self._status.number + 1
        self._status = FeedStatus(number, self.name, failing_since)
        return self._listeners

    def renew(self, value: Value) -> None:
        """The newest value was computed again, and is the same: no event, but good for longer."""
        with self._lock:
            self._fresh_until = value.fresh_until

    def subscribe(self, listener: Listener, encoder: Encoder | None = None) -> None:
        with self._lock:
            first = not self._listeners
            if first:
                self._outdated = not self.is_fresh(self._clock())
            self._listeners = self._listeners.with_(listener, encoder)
        if first:
            self.on_watched()

    def unsubscribe(self, listener: Listener) -> None:
        with self._lock:
            self._listeners = self._listeners.without(listener)

    def snapshot(self) -> ChannelState:
        """What another process needs to go on with it."""
        with self._lock:
            return ChannelState(
                name=self.name,
                epoch=self.epoch,
                reached=self.reached,
                events=tuple(EventState.of(event) for event in self._events),
                carried=self._carried,
                fresh_until=self._fresh_until,
                outdated=self._outdated,
                status=self._status,
                retry_at=self._retry_at,
            )

    def restore(self, state: ChannelState) -> None:
        """Go on with another process's. Its subscribers are there already, as they were in that
        process: they have seen what they have seen."""
        with self._lock:
            self.epoch = state.epoch
            self.reached = state.reached
            self._events.extend(event.event() for event in state.events)
            self._carried = state.carried
            self._fresh_until = state.fresh_until
            self._outdated = state.outdated
            self._status = state.status
            self._retry_at = state.retry_at

    def _shows(self) -> bool:
        """Whether the newest value may be shown to a new client. With the lock."""
        if self.failing:
            return True
        if self._listeners:
            return not self._outdated
        return self.is_fresh(self._clock())
