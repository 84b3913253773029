"""What each audience is sent, and when: beginnings of responses, events, notices, heartbeats.

For the broadcaster's thread alone.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from pushdemo.push.channel import AHEAD, Missed
from pushdemo.push.counting import Counts
from pushdemo.push.deliver.answer import Continuation
from pushdemo.push.deliver.audience import Audience, Subscriber, by_answer
from pushdemo.push.deliver.connections import BROKEN, DONE, LEFT, STOPS, TALKS, Connections
from pushdemo.push.deliver.recipients import Recipients
from pushdemo.push.encode.framing import Framing, heartbeat_of
from pushdemo.push.event import Event
from pushdemo.push.position import Position, position_of
from pushdemo.push.websocket.listener import Heard

# Bytes up to which a copy costs less than a second packet.
SMALL = 16 * 1024

# What a client that is blocked may be owed, in bytes: it has to read before it asks for more.
MOST_REPLY = 4096

# Seconds for which a client waits whose last event is still to come here. It has come to where the
# client was before, so it is on its way, or the engine between stands still.
AHEAD_PATIENCE = 15.0

ALL = slice(None)  # seats


class _Sent(NamedTuple):
    """blocked: the clients that are still to be sent some of it.
    missed: how many are not: they skip it, or are gone.
    """

    blocked: list[Subscriber]
    missed: int


class Delivery:
    """See the module.

    due: when the first of the waiting clients is to begin without an event, in seconds of the
        clock.
    """

    def __init__(
        self, connections: Connections, clock: Callable[[], float], counts: Counts
    ) -> None:
        self._counts = counts
        self._connections = connections
        self._clock = clock
        self.due = math.inf

    def welcome(self, audience: Audience, newcomers: list[Subscriber]) -> None:
        """Begin the responses of clients that came together, if there is an event for them."""
        one = newcomers[0]  # the others are as this one
        assert one.answer is not None
        if one.resume_from is not None:
            missed = audience.resume(one.resume_from)
            if missed is AHEAD:
                self._wait(audience, newcomers, AHEAD_PATIENCE)
                return
            if missed is not None:
                self._begin(audience, newcomers, missed, resumed=True)
                return
        news = [event for event in audience.state() if one.awaits(event)]
        if news:
            self._begin(audience, newcomers, news)
        else:
            self._wait(audience, newcomers, one.answer.patience)

    def _wait(self, audience: Audience, newcomers: list[Subscriber], patience: float) -> None:
        """Have clients wait for an event."""
        deadline = self._clock() + patience
        audience.waiting.update(dict.fromkeys(newcomers, deadline))
        self.due = min(self.due, deadline)

    def send_statuses(self, audience: Audience) -> None:
        """Send the notices of feeds that fail or have recovered."""
        for status in audience.new_statuses():
            if status.failing_since is not None:
                self._fail_waiting(audience)
            self._send_to_all(audience, audience.framing.encode_status(status))

    def send_events(self, audience: Audience) -> None:
        """Send the source's new events."""
        for event in audience.source.since(audience.reached):
            before, audience.reached = audience.reached, event.sequence
            audience.sent_events += 1
            head = audience.framing.reset if event.breaks else b""
            # The publisher's thread may not have encoded it yet. Those that are blocked go on with
            # the newest event, and do not need the frame of this one.
            if audience.takes and (frame := event.frame(audience.framing)):
                # Without a frame there is silence, which heartbeats are to fill.
                audience.sent = self._clock()
                asked = len(audience.ready)
                sent = self._send(audience.ready, ALL, head + frame, event.sequence, skip=before)
                delivered = asked - sent.missed
                audience.note(event, delivered, len(frame))
                latency = self._counts.feed(event.feed).latency
                latency.observe(time.monotonic() - event.made, delivered)
            for subscriber in audience.limited[ALL]:
                seat = slice(subscriber.seat, subscriber.seat + 1)
                self._deliver(audience, audience.limited, seat, event, head)
            if audience.waiting:
                waiting = [
                    one for one in audience.waiting if one.resume_from is None and one.awaits(event)
                ]
                for some in by_answer(waiting):
                    self._begin(audience, some, [event])
        if audience.waiting:
            self._begin_waiting(audience)

    def _begin_waiting(self, audience: Audience) -> None:
        """Begin the responses of clients that wait, to whom what there is now is new."""
        state = audience.state()
        missed_of: dict[Position | None, Missed] = {None: None}  # many have left off at the same
        for some in by_answer(audience.waiting):
            one = some[0]
            position = one.resume_from
            if position is not None and position not in missed_of:
                missed_of[position] = audience.resume(position)
            missed = missed_of[position]
            if missed is AHEAD:
                continue
            if missed is not None:
                self._begin(audience, some, missed, resumed=True)
            elif news := [event for event in state if one.awaits(event)]:
                self._begin(audience, some, news)

    def send_heartbeat(self, audience: Audience) -> None:
        """Send a heartbeat to all that have begun; where the format has none, the newest event
        again."""
        audience.sent = self._clock()
        if audience.takes:
            self._send_to_all(audience, heartbeat_of(audience.framing, audience.source.state()))

    def begin_late(self, audiences: Iterable[Audience], now: float) -> None:
        """Begin the responses that have waited for an event for as long as they may."""
        later = math.inf
        for audience in audiences:
            late: list[Subscriber] = []
            for subscriber, deadline in audience.waiting.items():
                if deadline <= now:
                    late.append(subscriber)
                else:
                    later = min(later, deadline)
            for some in by_answer(late):
                # What a client has seen elsewhere and has not come here, is lost.
                lost = some[0].resume_from is not None
                self._begin(audience, some, audience.state() if lost else [])
        # At most ten times a second: each of ten thousand may have a deadline of its own.
        self.due = max(now + 0.1, later)

    def hear(self, subscriber: Subscriber, heard: Heard) -> None:
        """A client of a WebSocket has said something: answer, end it, or go on from where it left
        off."""
        if self._connections.is_lingering(subscriber):
            # What was under way when we closed is not answered (RFC 6455, section 5.5.1).
            if heard.ends:
                self._connections.drop(subscriber, DONE)
            return
        audience = subscriber.audience
        begun = subscriber.answer is None or isinstance(subscriber.answer, Continuation)
        if audience is None or not begun:  # it may not speak before us
            self._connections.drop(subscriber, TALKS)
            return
        if subscriber.seat < 0:
            self._hear_blocked(subscriber, heard)
        else:
            self._hear_ready(audience, subscriber, heard)

    def _hear_blocked(self, subscriber: Subscriber, heard: Heard) -> None:
        """It is answered between two frames, and not in the middle of one."""
        subscriber.reply += heard.reply
        if heard.resume_from is not None:
            subscriber.resume_from = heard.resume_from
        if heard.ends or len(subscriber.reply) > MOST_REPLY:
            self._connections.drop(subscriber, LEFT if heard.ends else TALKS)

    def _hear_ready(self, audience: Audience, subscriber: Subscriber, heard: Heard) -> None:
        recipients = audience.recipients(subscriber)
        seat = slice(subscriber.seat, subscriber.seat + 1)
        if heard.reply:
            self._send(recipients, seat, heard.reply, audience.reached)
        if heard.ends and subscriber.seat >= 0 and not heard.closed:
            self._connections.linger(subscriber)
        elif heard.ends:
            self._connections.drop(subscriber, LEFT)
        elif heard.resume_from is not None:
            if subscriber.seat < 0:
                subscriber.resume_from = heard.resume_from
            else:
                self._go_back(audience, subscriber, heard.resume_from)

    def _go_back(self, audience: Audience, subscriber: Subscriber, position: Position) -> None:
        """Send a client what came after a position, whatever it was sent before."""
        head, missed = b"", audience.resume(position)
        if missed is AHEAD:
            audience.recipients(subscriber).remove(subscriber)
            subscriber.answer = Continuation(audience.framing)
            subscriber.resume_from, subscriber.reached = position, 0
            self._wait(audience, [subscriber], AHEAD_PATIENCE)
            return
        if missed is None:
            missed, head = audience.state(), audience.framing.reset
        self._one_by_one(audience, subscriber, missed, head)

    def _one_by_one(
        self, audience: Audience, subscriber: Subscriber, events: list[Event], head: bytes = b""
    ) -> None:
        """Send a client of an audience these events, as far as it takes them."""
        for event in events:
            if subscriber.seat < 0:
                return
            recipients = audience.recipients(subscriber)
            seat = slice(subscriber.seat, subscriber.seat + 1)
            if self._deliver(audience, recipients, seat, event, head) and not event.sequence:
                subscriber.resume_from = position_of(event.id)
            head = b""
        if head and subscriber.seat >= 0:
            seat = slice(subscriber.seat, subscriber.seat + 1)
            self._send(audience.recipients(subscriber), seat, head, audience.reached)

    def dismiss(self, subscriber: Subscriber, milliseconds: int) -> None:
        """Tell a client when to come back, and hang up. One that is blocked cannot be told."""
        audience = subscriber.audience
        if audience is not None and subscriber.answer is not None:
            said = subscriber.answer.come_back(milliseconds)
        elif subscriber.seat >= 0 and audience is not None:
            said = audience.framing.come_back(milliseconds)
        else:
            said = b""
        if said:
            with contextlib.suppress(OSError):  # it takes nothing, or is gone
                subscriber.sock.send(said)
        self._connections.drop(subscriber, STOPS)

    def resume(self, subscriber: Subscriber) -> None:
        """A blocked client's socket can be written to: send the rest of its frame, and then what
        it has missed."""
        audience = subscriber.audience
        assert audience is not None
        self._connections.unblock(subscriber)
        recipients = audience.recipients(subscriber)
        seat = slice(len(recipients), None)
        recipients.add(subscriber)
        rest, subscriber.rest = subscriber.rest, b""
        if rest:
            self._send(recipients, seat, rest, subscriber.reached)
            self._end([subscriber])
            if subscriber.seat < 0:
                return  # blocked again, or gone
        reply, subscriber.reply = subscriber.reply, b""
        if reply:
            self._send(recipients, seat, reply, subscriber.reached)
            if subscriber.seat < 0:
                return
        resume_from, subscriber.resume_from = subscriber.resume_from, None
        missed = audience.source.since(subscriber.reached)
        head = audience.framing.reset if audience.source.breaks_after(subscriber.reached) else b""
        if resume_from is not None:
            resumed = audience.resume(resume_from)
            if resumed is None or resumed is AHEAD:  # it was too slow
                missed, head = audience.source.state(), audience.framing.reset
            else:
                missed, head = resumed, b""
        events = audience.sent_of(missed)
        if resume_from is None:
            skipped = max(0, audience.reached - subscriber.reached - len(events))
            audience.clients.skipped += skipped
            if subscriber.before is not None:
                subscriber.before += skipped
        self._go_on(audience, recipients, seat, events, head)

    def _fail_waiting(self, audience: Audience) -> None:
        """The feed fails: there is no first value to wait for. A client that waits for a newer
        value than the last goes on waiting."""
        if not audience.source.state():
            for some in by_answer(audience.waiting):
                position = some[0].resume_from
                if position is None or audience.resume(position) is not AHEAD:
                    self._begin(audience, some, [], failed=True)

    def _begin(
        self,
        audience: Audience,
        subscribers: list[Subscriber],
        events: list[Event],
        *,
        resumed: bool = False,
        failed: bool = False,
    ) -> None:
        """Send clients that came together the beginning of their response, and these events."""
        try:
            self._open(audience, subscribers, events, resumed=resumed, failed=failed)
        except Exception as error:
            self._connections.fail(subscribers, error)

    def _open(
        self,
        audience: Audience,
        subscribers: list[Subscriber],
        events: list[Event],
        *,
        resumed: bool,
        failed: bool,
    ) -> None:
        one = subscribers[0]
        assert one.answer is not None
        beginning = one.answer.fail() if failed else one.answer.begin(events[0] if events else None)
        data = beginning.data
        if not beginning.goes_on:
            events = []
        elif one.resume_from is not None and not resumed:
            data += audience.framing.reset
        before = audience.sent_events - len(events)
        for subscriber in subscribers:
            subscriber.before = before
            subscriber.answer = subscriber.resume_from = None
            audience.waiting.pop(subscriber, None)
            if not beginning.goes_on:
                subscriber.limit = 0
        recipients = audience.recipients(one)
        seats = slice(len(recipients), None)
        for subscriber in subscribers:
            recipients.add(subscriber)
        if not events:
            self._send(recipients, seats, data, audience.reached)
            self._end(subscribers)
        self._go_on(audience, recipients, seats, events, data)
        for status in audience.current_failures():
            notice = audience.framing.encode_status(status)
            self._send(recipients, seats, notice, audience.reached)
        if one.reply and one.seat >= 0:  # it has spoken while its stream stood still, and is alone
            reply, one.reply = one.reply, b""
            self._send(recipients, seats, reply, audience.reached)

    def _go_on(
        self,
        audience: Audience,
        recipients: Recipients[Subscriber],
        seats: slice,
        events: list[Event],
        head: bytes = b"",
    ) -> None:
        """Send the clients in the last seats these events, as far as they take them."""
        for event in events:
            blocked = self._deliver(audience, recipients, seats, event, head)
            head = b""
            if not event.sequence:
                for subscriber in blocked:
                    # There is no number by which to find the events after this one.
                    subscriber.resume_from = position_of(event.id)

    def _deliver(
        self,
        audience: Audience,
        recipients: Recipients[Subscriber],
        seats: slice,
        event: Event,
        head: bytes = b"",
    ) -> list[Subscriber]:
        """Send clients one event, and count it: all of them have the same limit. Returns those that
        are blocked on it."""
        frame = event.frame(audience.framing)
        if recipients is audience.limited:
            clients = recipients[seats]
            if clients and frame:
                frame = self._count(clients, audience.framing, frame)
            sent = self._send(recipients, seats, head + frame, event.sequence)
            if frame:
                audience.note(event, len(clients) - sent.missed, len(frame))
            self._end(clients)
            return sent.blocked
        blocked = []
        if head and len(frame) > SMALL:
            # Not joined to the head: a client that blocks would keep a copy of the frame, and not
            # just a view of the one that all share.
            blocked = self._send(recipients, seats, head, event.sequence - 1).blocked
            head = b""
        asked = len(range(*seats.indices(len(recipients))))
        sent = self._send(recipients, seats, head + frame, event.sequence)
        if frame:
            audience.note(event, asked - sent.missed, len(frame))
        return blocked + sent.blocked

    @staticmethod
    def _count(clients: list[Subscriber], framing: Framing, frame: bytes) -> bytes:
        """Count one event for each client; returns the event's frame for them."""
        assert clients[0].limit is not None
        left = clients[0].limit - 1
        for subscriber in clients:
            subscriber.limit = left
        return frame if left else framing.last(frame)

    def _end(self, clients: list[Subscriber]) -> None:
        """End the streams of those that have all their events. A client that is blocked has not."""
        for subscriber in clients:
            if subscriber.limit == 0 and subscriber.seat >= 0:
                if subscriber.heard is None:
                    self._connections.drop(subscriber, DONE)
                else:
                    self._connections.linger(subscriber)

    def _send_to_all(self, audience: Audience, data: bytes) -> None:
        """Send what is no event, and is not counted as one."""
        if data:  # or else the format cannot express it
            for recipients in (audience.ready, audience.limited):
                self._send(recipients, ALL, data, audience.reached, skip=audience.reached)

    def _send(
        self,
        recipients: Recipients[Subscriber],
        seats: slice,
        data: bytes | memoryview,
        reached: int,
        *,
        skip: int | None = None,
    ) -> _Sent:
        """Send some clients the same bytes. What this method does is paid once; for each client
        there is a `send`, and nothing else.

        reached: the number of the last event that they have when they have this.
        skip: that of a client that cannot take any of it, and need not. Without it, a client must
            have all of it.
        """
        blocked = []
        missed = 0
        for subscriber, sent in recipients.send(data, seats):
            if sent < 0:
                missed += 1
                self._connections.drop(subscriber, BROKEN)
            elif sent == 0 and skip is not None:
                missed += 1
                self._connections.block(subscriber, b"", skip)
            else:
                self._connections.block(subscriber, memoryview(data)[sent:], reached)
                blocked.append(subscriber)
        return _Sent(blocked, missed)
