"""The broadcaster: one thread, one selector, every socket that a server gave away.

Rules:
- Only the broadcaster's thread touches a socket once it is attached. Other threads leave a note
  (newcomers, a channel with news) and wake it, so nothing that it owns needs a lock.
- An event costs nothing per client but a `send` of the same bytes. A client's own share of the
  memory is a socket, the rest of a frame half sent, and how far it came: never a queue.
- Whoever come with equal requests at the same time are sent the same beginning, in one go, too.
- A client that cannot take an event now is *blocked*. It finishes its frame when it can, and goes
  on with what the channel still has then: what it was too slow for, it skips.
- A client that takes nothing for `send_timeout` seconds is dropped. One that hung up is noticed at
  once, by its end of file. What a client says after its request is read and thrown away.
- When nothing was sent to a group for `heartbeat` seconds, a heartbeat is, so that proxies keep the
  connection, and the dead ones are found.
- A client whose response cannot begin before there is an event *waits*, for as long as its answer
  has patience.
- An error in the work for one client ends that client, and an error in the work for one group is
  logged: neither reaches the others. See loop.py for what happens to any other.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import math
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from pushdemo.push.channel import Source
from pushdemo.push.deliver.answer import Answer
from pushdemo.push.deliver.audience import Audience, Newcomers, Subscriber, by_answer
from pushdemo.push.deliver.recipients import Recipients
from pushdemo.push.deliver.sockets import receive, tune
from pushdemo.push.encode.framing import Framing, heartbeat_of
from pushdemo.push.event import Event
from pushdemo.push.failure import failure_of
from pushdemo.push.loop import Health, Loop
from pushdemo.push.position import Position, position_of

log = logging.getLogger(__name__)

# A stream's client has nothing to say; one that says this much in one breath is not a client.
CHATTER = 4096
# Bytes up to which a copy costs less than a second packet.
SMALL = 16 * 1024

ALL = slice(None)  # seats


class Broadcaster:
    """Sends each channel's events to the sockets attached to it.

    send_timeout: seconds after which a client that takes nothing is dropped, more than 0.
    heartbeat: seconds of silence after which a heartbeat is sent, more than 0.
    clock: monotonic seconds.
    """

    def __init__(
        self,
        *,
        send_timeout: float = 30.0,
        heartbeat: float = 15.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._send_timeout = send_timeout
        self._heartbeat = heartbeat
        self._clock = clock
        self._audiences: dict[tuple[Source, Framing], Audience] = {}
        # Blocked clients and when each is given up, soonest first.
        self._blocked: dict[Subscriber, float] = {}
        self._late = math.inf  # when the first of the waiting clients loses patience
        # Notes to the thread.
        self._newcomers: deque[Newcomers] = deque()
        self._news: deque[Audience] = deque()
        self._woken = False
        self._lock = threading.Lock()
        self._loop = Loop("pushdemo-broadcaster", self._turn, farewell=self._hang_up)
        self._started = self._closed = False

    # For any thread

    @property
    def health(self) -> Health:
        """How its thread is."""
        return self._loop.health

    def attach(
        self,
        socks: Sequence[socket.socket],
        answer: Answer,
        source: Source,
        framing: Framing,
        *,
        limit: int | None = None,
        resume_from: Position | None = None,
        reached: int = 0,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        """Take connected sockets over, whose requests were equal: send each the answer's beginning
        and the source's newest event, in one packet if there is one, and then each that comes.

        limit: end each stream with that many events, at least 1.
        resume_from: begin with what came after that position, or with the framing's reset.
        reached: wait for an event with a higher number.
        on_close: called in the broadcaster's thread, once for each client, when that is gone.

        Raises OSError where the system has no descriptor or no thread for the broadcaster; the
        sockets are still the caller's then.
        """
        for sock in socks:
            try:
                tune(sock, self._send_timeout)
            except OSError:  # gone already; the first send will find out
                log.debug("a client left before its stream began")
        with self._lock:
            if not self._closed:
                self._start()
                subscribers = [
                    Subscriber(
                        sock,
                        answer,
                        limit=limit,
                        resume_from=resume_from,
                        reached=reached,
                        on_close=on_close,
                    )
                    for sock in socks
                ]
                self._newcomers.append(Newcomers(subscribers, source, framing))
                self._wake()
                return
        for sock in socks:
            sock.close()
            on_close()

    def close(self) -> None:
        """Hang up on everybody and end the thread. Returns within a second."""
        with self._lock:
            self._closed = True
            thread = self._loop.stop()
            if thread is None:
                return
            self._wake()
        atexit.unregister(self.close)
        thread.join(1)

    def abandon(self) -> None:
        """In a process that was forked from this one's: close this process's copies of all that is
        open, and nothing else. No other thread is there, and the locks may be held by none that is.
        """
        atexit.unregister(self.close)
        self._closed = True
        if not self._started:
            return
        watched = [key.data.sock for key in self._selector.get_map().values() if key.data]
        arrived = [one.sock for newcomers in self._newcomers for one in newcomers.subscribers]
        # Before the sockets: the list of what is watched is shared with the other process.
        self._selector.close()
        for sock in (self._waking, self._waker, *watched, *arrived):
            sock.close()

    def _start(self) -> None:
        """With the lock. By the first stream and not before: a server may fork between."""
        if not self._started:
            self._selector = selectors.DefaultSelector()
            self._waking, self._waker = socket.socketpair()
            self._waking.setblocking(False)
            self._waker.setblocking(False)
            self._selector.register(self._waking, selectors.EVENT_READ)
            self._started = True
            atexit.register(self.close)
        self._loop.ensure()

    def _note_news(self, group: Audience) -> None:
        self._news.append(group)
        self._wake()

    def _wake(self) -> None:
        # One byte is enough for any number of notes: while the flag is up it is on its way, or it
        # has been read and the notes will be looked for after the flag has fallen.
        if not self._woken:
            self._woken = True
            with contextlib.suppress(OSError):  # full, so it will wake; or closed, so it has ended
                self._waker.send(b"\0")

    # From here on only for the broadcaster's own thread

    def _hang_up(self) -> None:
        self._admit()
        for key in list(self._selector.get_map().values()):
            if key.data is not None:
                self._drop(key.data)
        self._selector.close()
        self._waking.close()
        self._waker.close()

    def _turn(self) -> None:
        try:
            self._take_turn()
        except BaseException:
            # It may have ended between taking a note and doing what that says.
            self._woken = False
            self._news.extend(self._audiences.values())
            raise

    def _take_turn(self) -> None:
        ready = self._selector.select(self._idle())
        # News first, before the calls that let the interpreter's lock go for one client each.
        self._broadcast()
        for key, mask in ready:
            if key.data is None:
                self._waking.recv(CHATTER)
                self._woken = False  # and then the notes are looked for once more, in _idle
            else:
                self._attend(key.data, mask)
        self._admit()
        self._broadcast()  # what has come meanwhile ends a silence
        now = self._clock()
        self._give_up(now)
        for group in list(self._audiences.values()):
            if now - group.sent >= self._heartbeat:
                self._for_audience(self._beat, group)
        if now >= self._late:
            self._answer_late(now)

    def _for_audience(self, work: Callable[[Audience], None], group: Audience) -> None:
        try:
            work(group)
        except Exception as error:
            log.error("the streams of %s go on after an error that there should not have been: %s",
                      group.source.name, failure_of(error))  # fmt: skip

    def _fail(self, subscribers: Sequence[Subscriber], error: Exception) -> None:
        """Hang up on the clients for whom something went wrong."""
        log.error("clients are dropped (%d) after an error that there should not have been: %s",
                  len(subscribers), failure_of(error))  # fmt: skip
        for subscriber in subscribers:
            self._drop(subscriber)

    def _attend(self, subscriber: Subscriber, mask: int) -> None:
        """Read and write what one client's socket is ready for."""
        try:
            if mask & selectors.EVENT_READ:
                self._listen(subscriber)
            if mask & selectors.EVENT_WRITE and subscriber in self._blocked:
                self._unblock(subscriber)
        except Exception as error:
            self._fail([subscriber], error)

    def _idle(self) -> float | None:
        """For how many seconds nothing is due, None for ever. Blocked clients are looked over once
        a second: send_timeout needs no finer grain."""
        if self._news or self._newcomers:  # who left them may have found the flag up
            return 0
        due = [group.sent + self._heartbeat for group in self._audiences.values()]
        if not due:
            return None
        idle = min(self._late, *due) - self._clock()
        return max(0.0, min(idle, 1.0) if self._blocked else idle)

    def _admit(self) -> None:
        # Only those that are there now: a storm of newcomers must not hold up the next event.
        for _ in range(len(self._newcomers)):
            newcomers = self._newcomers.popleft()
            try:
                self._take_in(newcomers)
            except Exception as error:
                self._fail(newcomers.subscribers, error)
            except BaseException:  # of another thread's making: it says nothing about them
                for subscriber in newcomers.subscribers:
                    if not self._has_place(subscriber):
                        self._drop(subscriber)
                raise

    def _take_in(self, newcomers: Newcomers) -> None:
        subscribers, source, framing = newcomers
        group = self._audience(source, framing)
        group.members += len(subscribers)
        for subscriber in subscribers:
            subscriber.group = group
        watched = [subscriber for subscriber in subscribers if self._watch(subscriber)]
        if watched:
            self._welcome(group, watched)

    def _has_place(self, subscriber: Subscriber) -> bool:
        """Whether it is a member of a group, be it sent to, waiting or blocked."""
        group = subscriber.group
        return group is not None and (
            subscriber.seat >= 0 or subscriber in group.waiting or subscriber in self._blocked
        )

    def _audience(self, source: Source, framing: Framing) -> Audience:
        group = self._audiences.get((source, framing))
        if group is None:
            group = Audience(source, framing, self._note_news, self._clock())
            self._audiences[source, framing] = group
        return group

    def _watch(self, subscriber: Subscriber) -> bool:
        """Listen to a newcomer; False, and it is dropped, if the system cannot watch one more."""
        try:
            self._selector.register(subscriber.sock, selectors.EVENT_READ, subscriber)
        except (OSError, ValueError) as error:
            self._fail([subscriber], error)
            return False
        return True

    def _leave(self, group: Audience) -> None:
        """Nobody is in it any more."""
        group.source.unsubscribe(group.tell)
        self._audiences.pop((group.source, group.framing), None)

    def _welcome(self, group: Audience, newcomers: list[Subscriber]) -> None:
        one = newcomers[0]  # the others are as this one
        if one.resume_from is not None:
            missed = group.source.resume(one.resume_from)
            if missed is not None:
                self._begin(group, newcomers, group.sent_of(missed), resumed=True)
                return
        state = group.sent_of(group.source.state())
        news = [event for event in state if event.sequence > one.reached]
        if news:
            self._begin(group, newcomers, news)
            return
        assert one.answer is not None
        deadline = self._clock() + one.answer.patience
        group.waiting.update(dict.fromkeys(newcomers, deadline))
        self._late = min(self._late, deadline)

    def _begin(
        self,
        group: Audience,
        subscribers: list[Subscriber],
        events: list[Event],
        *,
        resumed: bool = False,
        failed: bool = False,
    ) -> None:
        """Send clients who came together the beginning of their response, and these events."""
        try:
            self._open(group, subscribers, events, resumed=resumed, failed=failed)
        except Exception as error:
            self._fail(subscribers, error)

    def _open(
        self,
        group: Audience,
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
            data += group.framing.reset
        for subscriber in subscribers:
            subscriber.answer = subscriber.resume_from = None
            group.waiting.pop(subscriber, None)
            if not beginning.goes_on:
                subscriber.limit = 0
        roster = group.place(one)
        seats = slice(len(roster), None)
        for subscriber in subscribers:
            roster.add(subscriber)
        if not events:
            self._send(roster, seats, data, group.reached)
            self._end(subscribers)
        self._go_on(group, roster, seats, events, data)
        for status in group.current_failures():
            self._send(roster, seats, group.framing.encode_status(status), group.reached)

    def _go_on(
        self,
        group: Audience,
        roster: Recipients[Subscriber],
        seats: slice,
        events: list[Event],
        head: bytes = b"",
    ) -> None:
        """Send the clients in the last seats these events, as far as they take them."""
        for event in events:
            blocked = self._deliver(group, roster, seats, event, head)
            head = b""
            if not event.sequence:
                for subscriber in blocked:
                    # No number says what it is to get after this.
                    subscriber.resume_from = position_of(event.id)

    def _answer_late(self, now: float) -> None:
        """Begin without an event for those whose answers have lost patience."""
        later = math.inf
        for group in list(self._audiences.values()):
            late = []
            for subscriber, deadline in group.waiting.items():
                if deadline <= now:
                    late.append(subscriber)
                else:
                    later = min(later, deadline)
            for some in by_answer(late):
                self._begin(group, some, [])
        # At most ten times a second: each of ten thousand may have a deadline of its own.
        self._late = max(now + 0.1, later)

    def _broadcast(self) -> None:
        for _ in range(len(self._news)):
            group = self._news.popleft()
            group.told = False  # before the look, so that what comes during it is told of again
            self._for_audience(self._send_statuses, group)
            self._for_audience(self._send_events, group)

    def _send_statuses(self, group: Audience) -> None:
        for status in group.new_statuses():
            if status.failing_since is not None:
                self._fail_waiting(group)
            self._send_to_all(group, group.framing.encode_status(status))

    def _send_events(self, group: Audience) -> None:
        for event in group.source.since(group.reached):
            before, group.reached = group.reached, event.sequence
            if frame := event.frame(group.framing):
                # Or else there is silence, which heartbeats are to fill.
                group.sent = self._clock()
                self._send(group.ready, ALL, frame, event.sequence, skip=before)
            for subscriber in group.limited[ALL]:
                seat = slice(subscriber.seat, subscriber.seat + 1)
                self._deliver(group, group.limited, seat, event)
            waiting = [one for one in group.waiting if event.sequence > one.reached]
            for some in by_answer(waiting):
                self._begin(group, some, [event])

    def _fail_waiting(self, group: Audience) -> None:
        """The feed fails: there is no first value to wait for. Who waits for a newer one than the
        last goes on to do so."""
        if not group.source.state():
            for some in by_answer(group.waiting):
                self._begin(group, some, [], failed=True)

    def _beat(self, group: Audience) -> None:
        """Send a heartbeat to all who have begun; where the format has none, the newest again."""
        group.sent = self._clock()
        self._send_to_all(group, heartbeat_of(group.framing, group.source.state()))

    def _send_to_all(self, group: Audience, data: bytes) -> None:
        """Send what is no event, and is not counted as one."""
        if data:  # or else the format has no way to say it
            for roster in (group.ready, group.limited):
                self._send(roster, ALL, data, group.reached, skip=group.reached)

    def _deliver(
        self,
        group: Audience,
        roster: Recipients[Subscriber],
        seats: slice,
        event: Event,
        head: bytes = b"",
    ) -> list[Subscriber]:
        """Send clients one event, and count it: all of these are to get equally many. Returns those
        that are blocked on it."""
        frame = event.frame(group.framing)
        if roster is group.limited:
            clients = roster[seats]
            if clients and frame:
                frame = self._count(clients, group.framing, frame)
            blocked = self._send(roster, seats, head + frame, event.sequence)
            self._end(clients)
            return blocked
        blocked = []
        if head and len(frame) > SMALL:
            # Not put together with the head: a client that blocks would keep a copy of the frame,
            # and not just a view of the one that all share.
            blocked = self._send(roster, seats, head, event.sequence - 1)
            head = b""
        return blocked + self._send(roster, seats, head + frame, event.sequence)

    @staticmethod
    def _count(clients: list[Subscriber], framing: Framing, frame: bytes) -> bytes:
        """Count one event for each; returns its frame as these are to get it."""
        assert clients[0].limit is not None
        left = clients[0].limit - 1
        for subscriber in clients:
            subscriber.limit = left
        return frame if left else framing.last(frame)

    def _end(self, clients: list[Subscriber]) -> None:
        """Hang up on those that have had all they were to get; one that is blocked has not."""
        for subscriber in clients:
            if subscriber.limit == 0 and subscriber.seat >= 0:
                self._drop(subscriber)

    def _send(
        self,
        roster: Recipients[Subscriber],
        seats: slice,
        data: bytes | memoryview,
        reached: int,
        *,
        skip: int | None = None,
    ) -> list[Subscriber]:
        """Send some clients the same bytes. What stands here is paid once; for each of them there
        is a `send`, and nothing else.

        reached: how far they have come when they have this.
        skip: how far one has come that cannot take any of it, and need not. Without it, it must
            have it.

        Returns those that are blocked.
        """
        blocked = []
        for subscriber, sent in roster.send(data, seats):
            if sent < 0:
                self._drop(subscriber)
            elif sent == 0 and skip is not None:
                self._block(subscriber, b"", skip)
            else:
                self._block(subscriber, memoryview(data)[sent:], reached)
                blocked.append(subscriber)
        return blocked

    def _block(self, subscriber: Subscriber, rest: bytes | memoryview, reached: int) -> None:
        assert subscriber.group is not None
        subscriber.rest = rest
        subscriber.reached = reached
        subscriber.group.place(subscriber).remove(subscriber)
        self._blocked[subscriber] = self._clock() + self._send_timeout
        self._selector.modify(
            subscriber.sock, selectors.EVENT_READ | selectors.EVENT_WRITE, subscriber
        )

    def _unblock(self, subscriber: Subscriber) -> None:
        """A blocked client can take something: the rest of its frame, then what it missed."""
        group = subscriber.group
        assert group is not None
        del self._blocked[subscriber]  # and back to the end of it, if it is blocked again
        self._selector.modify(subscriber.sock, selectors.EVENT_READ, subscriber)
        roster = group.place(subscriber)
        seat = slice(len(roster), None)
        roster.add(subscriber)
        rest, subscriber.rest = subscriber.rest, b""
        if rest:
            self._send(roster, seat, rest, subscriber.reached)
            self._end([subscriber])
            if subscriber.seat < 0:
                return  # blocked again, or gone
        resume_from, subscriber.resume_from = subscriber.resume_from, None
        missed = group.source.since(subscriber.reached)
        head = b""
        if resume_from is not None:
            resumed = group.source.resume(resume_from)
            if resumed is None:  # it was too slow
                missed, head = group.source.state(), group.framing.reset
            else:
                missed = resumed
        self._go_on(group, roster, seat, group.sent_of(missed), head)

    def _listen(self, subscriber: Subscriber) -> None:
        said = receive(subscriber.sock, CHATTER)
        if said is not None and (not said or len(said) == CHATTER):
            self._drop(subscriber)

    def _give_up(self, now: float) -> None:
        while self._blocked:
            subscriber, deadline = next(iter(self._blocked.items()))
            if now < deadline:
                return
            log.info("a client took nothing for %g s and was dropped", self._send_timeout)
            self._drop(subscriber)

    def _drop(self, subscriber: Subscriber) -> None:
        """Hang up on a client, whatever state it is in. Raises nothing."""
        if subscriber.sock.fileno() < 0:
            return  # dropped before, in this same turn
        with contextlib.suppress(KeyError, ValueError, OSError):  # it was never registered
            self._selector.unregister(subscriber.sock)
        subscriber.sock.close()
        self._blocked.pop(subscriber, None)
        if (group := subscriber.group) is not None:
            if subscriber.seat >= 0:
                group.place(subscriber).remove(subscriber)
            group.waiting.pop(subscriber, None)
            group.members -= 1
            if not group.members:
                self._leave(group)
        try:
            subscriber.on_close()
        except Exception as error:
            log.error("the end of a client's stream: %s", failure_of(error))
