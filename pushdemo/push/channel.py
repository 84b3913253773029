"""A channel: the newest events of a feed, and who wants to hear of the next.

Subscribers are told *that* there is something new, never handed it: they ask for `since(n)` when
they are ready. So nothing queues up behind a slow one, and what a channel holds is bounded by its
history, not by its readers.

Every event names the one before it: an event follows what a client has seen if, and only if, that
is the id of the last event that the client has. So a client that comes back with an id is given
what came after it, as far as the history goes; and otherwise it is told so.

Ids are made here, of an epoch, which is another for each run of the program, and the event's
sequence (see position.py). Or they come with the events, from a broker or from another server, and
are the same in many processes. Such an event may not follow the one before it: what is between is
lost, or was never there. All who listen are told then. And a client may come with an id that others
have seen and this process has not: it waits.

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
from enum import Enum
from typing import Final, Literal, Protocol, TypeAlias

from pushdemo.push.event import Encoder, Event, FeedStatus, Value
from pushdemo.push.position import UNSEEN, Place, Position, place_id, position_of
from pushdemo.push.snapshot.state import ChannelState, EventState

log = logging.getLogger(__name__)

Listener = Callable[[], None]

# How many ids of events that came with theirs are remembered, at least: as many as a broker's log
# may have, so that an event of it that comes again is known.
KNOWN = 256


class Ahead(Enum):
    """What is asked for is still to come, or so it seems."""

    AHEAD = "ahead"


AHEAD: Final = Ahead.AHEAD

# What a client has missed; AHEAD where it has seen what is still to come here; None where it cannot
# be told: some of it is gone, or its position is of another source or epoch.
Missed: TypeAlias = list[Event] | Literal[Ahead.AHEAD] | None


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

    def resume(self, position: Position, reached: int | None = None) -> Missed:
        """The events after that position.

        reached: how far the caller has come, by number: who has seen what comes after that, is
            ahead. By default, as far as this has.
        """

    def breaks_after(self, sequence: int) -> bool:
        """Whether, after number `sequence`, came an event which breaks the chain."""

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
    values: how many there have been in this process; one that was sent again is no other one.
    local: each process has its own events, which say what this process has. A client that comes
        from another one has missed none.

    clock: monotonic nanoseconds, the unit of `Value.fresh_until`.
    epoch: what ids begin with; by default random. Empty: each event comes with its id.
    """

    def __init__(
        self,
        name: str,
        *,
        history: int = 1,
        clock: Callable[[], int] = time.monotonic_ns,
        epoch: str | None = None,
        local: bool = False,
    ) -> None:
        self.local = local
        self.name = name
        self.history = history
        self.epoch = secrets.token_hex(4) if epoch is None else epoch
        self.reached = 0
        self.on_watched: Listener = lambda: None
        self._clock = clock
        self._lock = threading.Lock()
        self._events: deque[Event] = deque(maxlen=history)
        # Of the newest event; of none, the one before the first.
        self._newest_id = place_id(self.epoch, 0) if self.epoch else ""
        self._broke_at = 0  # the number of the last event that broke the chain
        self._known: deque[str] = deque(maxlen=max(KNOWN, history))
        self._listeners = Listeners()
        self._carried = True  # by all formats that were asked for
        self._fresh_until = 0  # when the newest value expires
        self._outdated = False  # the newest value expired while there was no subscriber
        self._shows_old = False  # see show_old
        self.values = 0
        self._last_computed = -1.0  # when the newest value was
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

    def resume(self, position: Position, reached: int | None = None) -> Missed:
        return self.follow(position[0], reached) if len(position) == 1 else None

    def follow(self, place: Place, reached: int | None = None) -> Missed:
        """As `resume`, of a place."""
        last_id = str(place)
        with self._lock:
            events = list(self._events)
            if last_id == self._newest_id:
                number, missed = self.reached, []
            else:
                index = next((n for n, one in enumerate(events) if one.after == last_id), None)
                if index is None:
                    return AHEAD if self._may_come(place) else None
                number, missed = events[index].sequence - 1, events[index:]
        return AHEAD if reached is not None and number > reached else missed

    def number_of(self, place: Place) -> int:
        """The number of the event there; 0 where that is not kept."""
        event_id = str(place)
        with self._lock:
            return next((one.sequence for one in self._events if one.id == event_id), 0)

    def has_ahead(self, position: Position) -> bool:
        """Whether that is the position after an event which is still to come here."""
        return self.resume(position) is AHEAD

    def breaks_after(self, sequence: int) -> bool:
        return self._broke_at > sequence

    @property
    def place(self) -> Place:
        """Where who has seen all events is."""
        return (position_of(self._newest_id) or (UNSEEN,))[0]

    def id_of(self, sequence: int) -> str:
        """The id of the event with that number."""
        return place_id(self.epoch, sequence)

    def publish(self, value: Value) -> Event:
        """Make `value` the newest event, with an id that is made here, and tell all subscribers."""
        with self._lock:
            event = self._append(self.id_of(self.reached + 1), self._newest_id, value)
            listeners = self._listeners
        self._tell(event, listeners)
        return event

    def take(self, event_id: str, after: str, value: Value) -> Event | None:
        """Make an event that came with its id the newest, and tell all subscribers. None for one
        that was taken before.

        after: the id of the event before it.
        """
        with self._lock:
            if event_id in self._known:
                return None
            breaks = self._newest_id not in ("", after)
            if breaks:
                self._events.clear()
                self._broke_at = self.reached + 1
            event = self._append(event_id, after, value, breaks=breaks)
            self._known.append(event_id)
            listeners = self._listeners
        if breaks:
            log.warning("feed %s: events may be missing before %s", self.name, event_id)
        self._tell(event, listeners)
        return event

    def _append(self, event_id: str, after: str, value: Value, *, breaks: bool = False) -> Event:
        """With the lock."""
        self.reached += 1
        self._fresh_until = value.fresh_until
        self._outdated = False
        event = Event(self.reached, event_id, self.name, value, after, breaks=breaks)
        self._events.append(event)
        self._newest_id = event_id
        if value.computed != self._last_computed:
            self.values += 1
            self._last_computed = value.computed
        return event

    def _may_come(self, place: Place) -> bool:
        """With the lock: whether a place that is none of the kept events' can be one to come."""
        if self.epoch or place == UNSEEN or str(place) in self._known:
            return False
        newest = position_of(self._newest_id)
        return not newest or place.may_follow(newest[0])

    def _tell(self, event: Event, listeners: Listeners) -> None:
        carried = listeners.prepare(event)
        if not carried and self._carried:  # once a streak, not once an event
            log.info("feed %s gives what some who watch it cannot be sent", self.name)
        self._carried = carried
        listeners.tell()

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

    def renew(self, fresh_until: int) -> None:
        """The newest value was computed again, and is the same: no event, but good for longer. Who
        waits for a value is told."""
        with self._lock:
            self._fresh_until = fresh_until
            shown, self._outdated = self._outdated and bool(self._events), False
            listeners = self._listeners
        if shown:
            listeners.tell()

    def show_old(self, whether: bool) -> None:
        """Whether nothing newer can be had for now: then an outdated value is shown, too."""
        with self._lock:
            self._shows_old = whether
            shown = whether and self._outdated and bool(self._events)
            listeners = self._listeners
        if shown:
            listeners.tell()

    def expire(self) -> None:
        """The newest value is not known to be good any more: whoever comes next, and finds nobody
        here, waits for a newer one."""
        with self._lock:
            self._fresh_until = 0

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
                newest_id=self._newest_id,
                broke_at=self._broke_at,
                known=tuple(self._known),
            )

    def restore(self, state: ChannelState) -> None:
        """Go on with another process's. Its subscribers are there already, as they were in that
        process: they have seen what they have seen. Where that process had its ids from elsewhere
        and this one makes them, or the other way, nobody can resume from one of that process's."""
        events = [event.event() for event in state.events]
        with self._lock:
            if bool(state.epoch) == bool(self.epoch):
                self.epoch = state.epoch
                self._newest_id = state.newest_id
                self._known.extend(state.known)
            else:
                events = [Event(one.sequence, one.id, one.feed, one.value) for one in events[-1:]]
            self.reached = state.reached
            self._broke_at = state.broke_at
            self._events.extend(events)
            self._carried = state.carried
            self._fresh_until = state.fresh_until
            self._outdated = state.outdated
            self._status = state.status
            self._retry_at = state.retry_at

    def _shows(self) -> bool:
        """Whether the newest value may be shown to a new client. With the lock."""
        if self.failing or self._shows_old:
            return True
        if self._listeners:
            return not self._outdated
        return self.is_fresh(self._clock())
