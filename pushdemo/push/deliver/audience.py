"""Audiences: the clients that get the same bytes, which are those of one source in one format.

All of this is for the broadcaster's thread alone, but for `Subscriber` and `Newcomers`, which other
threads make.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import NamedTuple

from pushdemo.push.channel import Missed, Source
from pushdemo.push.counting import Counts
from pushdemo.push.deliver.answer import Answer
from pushdemo.push.deliver.recipients import Recipients
from pushdemo.push.deliver.subscription import Subscription
from pushdemo.push.encode.framing import Framing
from pushdemo.push.encode.variants import name_of
from pushdemo.push.encode.websocket import WebSocket
from pushdemo.push.event import Event, FeedStatus
from pushdemo.push.position import Position
from pushdemo.push.websocket.listener import Listener


class Subscriber:
    """One client.

    answer: how its response will begin; None once it has begun.
    audience: the one that it is a member of; None before its admission.
    limit: how many events it is still to get; None for no end.
    reached: for a blocked client, the number of the last event of which something was sent; for a
        waiting one, of the last that it knows.
    rest: for a blocked client, what is still to be sent of a frame.
    known: for a waiting one, the ids of events that it has seen, too.
    heard: listens to what it says, on a WebSocket; None on other streams, where it says nothing.
    reply: for a blocked client, what it is owed after the rest of its frame.
    resume_from: where it left off, from its admission to its first event; and for a client that is
        blocked on an event without a number, the position of that event.
    seat: its index among the recipients of its audience; -1 while it is waiting or blocked.
    owes_since: when it was first seen to owe an acknowledgement and to have come no further, in
        seconds of the clock; None while it owes none.
    taken: the bytes that it had acknowledged then, or when it was blocked.
    since: when it came, in seconds of the clock.
    before: how many events all others of its audience had been sent when its stream began, less
        those that it was sent then; and those that it has skipped.
    """

    __slots__ = ("answer", "audience", "before", "heard", "known", "limit", "on_close",
                 "owes_since", "reached", "reply", "rest", "resume_from", "seat", "since", "sock",
                 "taken")  # fmt: skip

    def __init__(
        self,
        sock: socket.socket,
        answer: Answer | None,
        subscription: Subscription,
        on_close: Callable[[], None],
    ) -> None:
        self.sock = sock
        self.answer = answer
        self.audience: Audience | None = None
        self.limit = subscription.limit
        self.on_close = on_close
        self.reached = subscription.reached
        self.known = subscription.known
        self.resume_from: Position | None = subscription.resume_from
        self.rest: bytes | memoryview = b""
        self.reply = b""
        framing = subscription.framing
        self.heard = Listener(framing.deflate) if isinstance(framing, WebSocket) else None
        self.seat = -1
        self.owes_since: float | None = None
        self.taken = 0
        self.since = 0.0
        self.before: int | None = None  # until its stream begins

    @property
    def events(self) -> int:
        """How many it was sent."""
        if self.audience is None or self.before is None:
            return 0
        behind = self.audience.reached - self.reached if self.seat < 0 else 0
        return max(0, self.audience.sent_events - self.before - behind)

    def awaits(self, event: Event) -> bool:
        """Whether it waits for an event such as this one: for one that is new to it."""
        return event.sequence > self.reached and event.id not in self.known


class Newcomers(NamedTuple):
    """Clients that came at the same time with equal requests. Only their sockets differ."""

    subscribers: list[Subscriber]
    subscription: Subscription


class Audience:
    """See the module. A client that is blocked is in none of `ready`, `limited` and `waiting`.

    reached: the number of the event that was last sent to all of them.
    ready: the clients that are sent each event.
    limited: the clients that are sent each event, and whose events are counted.
    waiting: the clients whose response has not begun, and when each is to begin without an event.
    members: how many clients there are in all.
    sent: when something was last sent to all, in seconds of the clock.
    sent_events: how many events there were.
    told: the number of the last status of each feed that all were told of.
    counts: what is counted of its streams, by the name of the feed; and
    clients: of its clients.
    """

    __slots__ = (
        "_news",
        "clients",
        "counts",
        "framing",
        "limited",
        "members",
        "reached",
        "ready",
        "sent",
        "sent_events",
        "source",
        "tell",
        "told",
        "waiting",
    )  # fmt: skip

    def __init__(
        self,
        source: Source,
        framing: Framing,
        note: Callable[[Audience], None],
        now: float,
        senders: int,
        counts: Counts,
    ) -> None:
        self.source = source
        self.framing = framing
        form = name_of(framing)
        self.counts = counts.streams(source.name, form)
        self.clients = counts.of_format(form)
        self.ready: Recipients[Subscriber] = Recipients(senders)
        self.limited: Recipients[Subscriber] = Recipients()
        self.waiting: dict[Subscriber, float] = {}
        self.members = 0
        self.sent = now
        self.sent_events = 0
        self._news = False  # the source has told of some, which have not been looked at

        def tell() -> None:  # the source's listener, in the publisher's thread
            if not self._news:
                self._news = True
                note(self)

        self.tell = tell
        # Before it listens: only a status that comes now is news to the clients that come now.
        self.told = {status.feed: status.number for status in source.statuses()}
        source.subscribe(tell, framing)
        self.reached = source.reached

    def look(self) -> None:
        """The news are looked at from now on: the source tells again of any that come."""
        self._news = False

    def note(self, event: Event, clients: int, size: int) -> None:
        """So many clients were sent an event, of so many bytes."""
        self.counts[event.feed].deliver(size, clients)

    def leave(self, subscriber: Subscriber) -> None:
        """A member that is not blocked, or was, goes."""
        if subscriber.seat >= 0:
            self.recipients(subscriber).remove(subscriber)
        self.waiting.pop(subscriber, None)
        self.members -= 1
        for counts in self.counts.values():
            counts.close()

    def recipients(self, subscriber: Subscriber) -> Recipients[Subscriber]:
        """Those that a member is among, or will be."""
        return self.ready if subscriber.limit is None else self.limited

    @property
    def takes(self) -> bool:
        """Whether there are clients that can be sent something now. To encode a large value takes
        long: it is not done for nobody."""
        return len(self.ready) > 0 or len(self.limited) > 0

    def sent_of(self, events: list[Event]) -> list[Event]:
        """The events that have been sent to all members. The others still will be."""
        return [event for event in events if event.sequence <= self.reached]

    def state(self) -> list[Event]:
        """What a newcomer is to see, as far as all members were sent it."""
        return self.sent_of(self.source.state())

    def resume(self, position: Position) -> Missed:
        """What a client is to see that has left off there, as far as all members were sent it. Who
        has seen more is ahead of them: it would be sent that with the others, once more."""
        missed = self.source.resume(position, self.reached)
        return self.sent_of(missed) if isinstance(missed, list) else missed

    def current_failures(self) -> list[FeedStatus]:
        """The failures that go on and that all members were told of. They still will be told of
        the others."""
        return [
            status
            for status in self.source.statuses()
            if status.failing_since is not None and not self._is_new(status)
        ]

    def new_statuses(self) -> list[FeedStatus]:
        """The statuses that the members were not told of. Each is returned once."""
        new = [status for status in self.source.statuses() if self._is_new(status)]
        for status in new:
            self.told[status.feed] = status.number
        return new

    def _is_new(self, status: FeedStatus) -> bool:
        return status.number > self.told.get(status.feed, 0)


class Audiences:
    """All audiences: one for each source and format that has subscribers.

    note: called with an audience when its source has news, in the publisher's thread.
    clock: monotonic seconds.
    senders: how many threads send to the clients of one.
    counts: what is counted.
    """

    def __init__(
        self,
        note: Callable[[Audience], None],
        clock: Callable[[], float],
        senders: int,
        counts: Counts,
    ) -> None:
        self._counts = counts
        self._senders = senders
        self._note = note
        self._clock = clock
        self._audiences: dict[tuple[Source, Framing], Audience] = {}

    def __iter__(self) -> Iterator[Audience]:
        return iter(list(self._audiences.values()))

    def admit(self, newcomers: Newcomers) -> Audience:
        """Make them members of their audience."""
        source, framing = newcomers.subscription.source, newcomers.subscription.framing
        audience = self._audiences.get((source, framing))
        if audience is None:
            audience = Audience(
                source, framing, self._note, self._clock(), self._senders, self._counts
            )
            self._audiences[source, framing] = audience
        audience.members += len(newcomers.subscribers)
        for counts in audience.counts.values():
            counts.open(len(newcomers.subscribers))
        now = self._clock()  # once: all of them have the same
        for subscriber in newcomers.subscribers:
            subscriber.audience = audience
            subscriber.since = now
        return audience

    def leave(self, subscriber: Subscriber) -> None:
        """A member goes. An audience without members is given up."""
        audience = subscriber.audience
        if audience is None:
            return
        audience.leave(subscriber)
        if not audience.members:
            audience.source.unsubscribe(audience.tell)
            self._audiences.pop((audience.source, audience.framing), None)


def by_answer(subscribers: Iterable[Subscriber]) -> Iterator[list[Subscriber]]:
    """Those that came together, as a list each. They have the same answer."""
    for _, some in groupby(list(subscribers), key=lambda subscriber: id(subscriber.answer)):
        yield list(some)
