"""How the clients' streams leave one process, and go on in another.

What a client has been sent, to the byte, is in its state and in the state of its audience; its
connection is a descriptor, which both processes have for a while. While that is so, neither touches
a connection.
"""

from __future__ import annotations

import socket
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

from pushdemo.push.channel import Source
from pushdemo.push.deliver.answer import Answer
from pushdemo.push.deliver.audience import Audience, Audiences, Newcomers, Subscriber, by_answer
from pushdemo.push.deliver.subscription import Subscription
from pushdemo.push.snapshot.state import AudienceState, BlockedState, WaitingState

ALL = slice(None)


class Departing(NamedTuple):
    """The streams of a process, for another.

    socks: in the order of the audiences, and of AudienceState within each.
    """

    audiences: tuple[AudienceState, ...]
    socks: list[socket.socket]


def depart(audiences: Iterable[Audience], blocked: Iterable[Subscriber]) -> Departing:
    """The streams there are. blocked: the blocked clients."""
    blocked_of: dict[Audience | None, list[Subscriber]] = defaultdict(list)
    for subscriber in blocked:
        blocked_of[subscriber.audience].append(subscriber)
    states: list[AudienceState] = []
    socks: list[socket.socket] = []
    for audience in audiences:
        ready, limited = audience.ready[ALL], audience.limited[ALL]
        waiting = list(by_answer(audience.waiting))
        members = [*ready, *limited, *(one for some in waiting for one in some)]
        members += blocked_of[audience]
        states.append(
            AudienceState(
                feeds=tuple(audience.source.name.split("+")),
                framing=audience.framing,
                reached=audience.reached,
                sent=audience.sent,
                told=dict(audience.told),
                ready=len(ready),
                limited=tuple(subscriber.limit or 0 for subscriber in limited),
                waiting=tuple(_waiting(audience, some) for some in waiting),
                blocked=tuple(_blocked(one) for one in blocked_of[audience]),
                heard=tuple(
                    (number, one.heard.unfinished)
                    for number, one in enumerate(members)
                    if one.heard is not None and one.heard.unfinished
                ),
            )
        )
        socks += [subscriber.sock for subscriber in members]
    return Departing(tuple(states), socks)


def _waiting(audience: Audience, some: list[Subscriber]) -> WaitingState:
    one = some[0]  # the others are as this one
    assert one.answer is not None
    deadlines = tuple(audience.waiting[subscriber] for subscriber in some)
    return WaitingState(one.answer, one.limit, one.resume_from, one.reached,
                        one.known, deadlines)  # fmt: skip


def _blocked(one: Subscriber) -> BlockedState:
    frame, start = one.rest, 0
    if isinstance(frame, memoryview):
        # The frame as a whole, because other clients are blocked on the same.
        whole = frame.obj
        assert isinstance(whole, bytes)
        start = len(whole) - len(frame)
        frame = whole
    return BlockedState(frame, start, one.reached, one.limit, one.resume_from,
                        one.owes_since, one.reply)  # fmt: skip


class Arriving:
    """Streams that come from another process.

    audiences: those that they become.
    on_close: called once for each client, when its stream has ended.

    members: their clients.
    blocked: those that are blocked.
    """

    def __init__(self, audiences: Audiences, on_close: Callable[[], None]) -> None:
        self._audiences = audiences
        self._on_close = on_close
        self.members: list[Subscriber] = []
        self.blocked: list[Subscriber] = []

    def arrive(self, state: AudienceState, source: Source, socks: list[socket.socket]) -> Audience:
        """The clients of one audience."""
        coming = iter(socks)
        before = len(self.members)
        plain = Subscription(source, state.framing)
        ready = self._admit(islice(coming, state.ready), plain)
        audience = self._audiences.admit(Newcomers([], plain))
        for subscriber in ready:
            audience.ready.add(subscriber)
        for limit in state.limited:
            for subscriber in self._admit(islice(coming, 1), replace(plain, limit=limit)):
                audience.limited.add(subscriber)
        for some in state.waiting:
            subscription = Subscription(
                source,
                state.framing,
                some.limit,
                some.resume_from,
                some.reached,
                some.known,
            )
            together = self._admit(islice(coming, len(some.deadlines)), subscription, some.answer)
            audience.waiting.update(zip(together, some.deadlines, strict=True))
        for one in state.blocked:
            for subscriber in self._admit(islice(coming, 1), replace(plain, limit=one.limit)):
                subscriber.rest = memoryview(one.frame)[one.start :]
                subscriber.reached = one.reached
                subscriber.resume_from = one.resume_from
                subscriber.reply = one.reply
                subscriber.owes_since = one.owes_since
                self.blocked.append(subscriber)
        for number, unfinished in state.heard:
            listener = self.members[before + number].heard
            if listener is not None:
                listener.go_on(unfinished)
        audience.sent = state.sent
        audience.reached = state.reached
        audience.told.update(state.told)
        return audience

    def _admit(
        self,
        socks: Iterable[socket.socket],
        subscription: Subscription,
        answer: Answer | None = None,
    ) -> list[Subscriber]:
        some = [Subscriber(sock, answer, subscription, self._on_close) for sock in socks]
        audience = self._audiences.admit(Newcomers(some, subscription))
        if answer is None:
            for subscriber in some:
                subscriber.before = audience.sent_events
        self.members += some
        return some
