"""The clients that get the same bytes: those of one source in one format.

All of this is the broadcaster's, and for its thread alone.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import NamedTuple

from pushdemo.push.channel import Source
from pushdemo.push.deliver.answer import Answer
from pushdemo.push.deliver.recipients import Recipients
from pushdemo.push.encode.framing import Framing
from pushdemo.push.event import Event, FeedStatus
from pushdemo.push.position import Position


class Subscriber:
    """One client.

    answer: how its response will begin; None once it has.
    resume_from: where it left off, from its admission to its first event; and for a client that is
        blocked on an event without a number, the position of that.
    limit: how many events it is still to get, None for no end.
    rest: for a blocked client, what is still to be sent of a frame.
    reached: for a blocked client, the number of the last event of which something was sent; for a
        waiting one, of the last that it knows.
    group: the one it is in; None before its admission.
    seat: its place in a roster of its group, -1 while it is waiting or blocked.
    """

    __slots__ = ("answer", "group", "limit", "on_close", "reached", "rest", "resume_from", "seat",
                 "sock")  # fmt: skip

    def __init__(
        self,
        sock: socket.socket,
        answer: Answer,
        *,
        limit: int | None,
        resume_from: Position | None,
        reached: int,
        on_close: Callable[[], None],
    ) -> None:
        self.sock = sock
        self.group: Audience | None = None
        self.answer: Answer | None = answer
        self.resume_from = resume_from
        self.limit = limit
        self.rest: bytes | memoryview = b""
        self.reached = reached
        self.seat = -1
        self.on_close = on_close


class Newcomers(NamedTuple):
    """Clients who came at the same time, with equal requests: but for their sockets they are the
    same."""

    subscribers: list[Subscriber]
    source: Source
    framing: Framing


class Audience:
    """See the module.

    reached: the number of the event that was last sent to all of them.
    ready: those that take whatever comes.
    limited: those that would, but each event is counted for them.
    waiting: those whose response has not begun, and when their answer loses patience. Blocked
        clients are in none of these.
    members: how many there are in all.
    statuses: the number of each feed's last trouble that they were told of.
    told: that there are news, and it has not been looked since.
    sent: when something was last sent to all, in the clock's seconds.
    """

    __slots__ = (
        "framing",
        "limited",
        "members",
        "reached",
        "ready",
        "sent",
        "source",
        "statuses",
        "tell",
        "told",
        "waiting",
    )  # fmt: skip

    def __init__(
        self, source: Source, framing: Framing, note: Callable[[Audience], None], now: float
    ) -> None:
        self.source = source
        self.framing = framing
        self.ready: Recipients[Subscriber] = Recipients()
        self.limited: Recipients[Subscriber] = Recipients()
        self.waiting: dict[Subscriber, float] = {}
        self.members = 0
        self.sent = now
        self.told = False

        def tell() -> None:  # the source's listener, in the publisher's thread
            if not self.told:
                self.told = True
                note(self)

        self.tell = tell
        # Before it listens: only a trouble that comes now is about those who come now.
        self.statuses = {status.feed: status.number for status in source.statuses()}
        source.subscribe(tell, framing)
        self.reached = source.reached

    def place(self, subscriber: Subscriber) -> Recipients[Subscriber]:
        return self.ready if subscriber.limit is None else self.limited

    def sent_of(self, events: list[Event]) -> list[Event]:
        """Those of the events that have been sent to all: the others still will be."""
        return [event for event in events if event.sequence <= self.reached]

    def current_failures(self) -> list[FeedStatus]:
        """Those that go on and that all have been told of: the others still will be."""
        return [
            status
            for status in self.source.statuses()
            if status.failing_since is not None
            and status.number <= self.statuses.get(status.feed, 0)
        ]

    def new_statuses(self) -> list[FeedStatus]:
        """Those that have not been told of."""
        new = [t for t in self.source.statuses() if t.number > self.statuses.get(t.feed, 0)]
        self.statuses.update((status.feed, status.number) for status in new)
        return new


def by_answer(subscribers: Iterable[Subscriber]) -> Iterator[list[Subscriber]]:
    """Those who came together, as a list each: they have one answer."""
    for _, some in groupby(list(subscribers), key=lambda subscriber: id(subscriber.answer)):
        yield list(some)
