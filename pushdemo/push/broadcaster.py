"""The broadcaster: one thread, one selector, every socket that a server gave away.

Rules:
- Only the broadcaster's thread touches a socket once it is attached. Other threads leave a note (a
  newcomer, a channel with news) and wake it, so nothing that it owns needs a lock.
- An event costs nothing per client but a `send` of the same bytes. A client's own share of the
  memory is a socket, the rest of a frame half sent, and how far it came: never a queue.
- A client that cannot take an event now is *blocked*. It finishes its frame when it can, and goes
  on with what the channel still has then: what it was too slow for, it skips.
- A client that takes nothing for `send_timeout` seconds is dropped. One that hung up is noticed at
  once, by its end of file. What a client says after its request is read and thrown away.
- When nothing was sent to a group for `heartbeat` seconds, a heartbeat is, so that proxies keep the
  connection, and the dead ones are found.
- A client whose response cannot begin before there is an event *waits*, for as long as its answer
  has patience.
"""

from __future__ import annotations

import atexit
import logging
import math
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable

from pushdemo.push.answer import Answer
from pushdemo.push.channel import Source
from pushdemo.push.event import Event, Trouble
from pushdemo.push.framing import Framing, heartbeat_of

log = logging.getLogger(__name__)

# What a slow client may leave in the kernel, in bytes (Linux doubles it for its bookkeeping). Left
# alone it grows to megabytes for each, full of values that are no longer the newest.
SEND_BUFFER = 64 * 1024
# A silent peer is probed after 30 s, then every 10 s, and given up when three probes are lost.
KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
# A stream's client has nothing to say; one that says this much in one breath is not a client.
CHATTER = 4096
# Bytes up to which a copy costs less than a second packet.
SMALL = 16 * 1024


def tune(sock: socket.socket, send_timeout: float) -> None:
    """Set what a long-lived stream needs, as far as this system knows it: no delay, bounded
    buffers, keepalive, and an end to unacknowledged data after `send_timeout` seconds."""
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = {"TCP_NODELAY": 1, "TCP_USER_TIMEOUT": round(send_timeout * 1000), **KEEPALIVE}
    for name, value in options.items():
        if (option := getattr(socket, name, None)) is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


class _Subscriber:
    """One client.

    answer: how its response will begin; None once it has.
    last_id: where it left off, from its admission to its first event; and for a client that is
        blocked on an event without a number, the id of that.
    limit: how many events it is still to get, None for no end.
    rest: for a blocked client, what is still to be sent of a frame.
    reached: for a blocked client, the number of the last event of which something was sent; for a
        waiting one, of the last that it knows.
    """

    __slots__ = ("answer", "group", "last_id", "limit", "on_close", "reached", "rest", "sock")

    group: _Group  # from its admission on

    def __init__(
        self,
        sock: socket.socket,
        answer: Answer,
        *,
        limit: int | None,
        last_id: str | None,
        reached: int,
        on_close: Callable[[], None],
    ) -> None:
        self.sock = sock
        self.answer: Answer | None = answer
        self.last_id = last_id
        self.limit = limit
        self.rest: bytes | memoryview = b""
        self.reached = reached
        self.on_close = on_close


class _Group:
    """The clients that get the same bytes: those of one source in one format.

    reached: the number of the event that was last sent to all of them.
    ready: those that take whatever comes. Dictionaries, for their order.
    limited: those that would, but each event is counted for them.
    waiting: those whose response has not begun, and when their answer loses patience. Blocked
        clients are in none of these.
    members: how many there are in all.
    troubles: the number of each feed's last trouble that they were told of.
    sent: when something was last sent to all, in the clock's seconds.
    """

    __slots__ = ("framing", "limited", "members", "reached", "ready", "sent", "source", "tell",
                 "told", "troubles", "waiting")  # fmt: skip

    def __init__(
        self, source: Source, framing: Framing, note: Callable[[_Group], None], now: float
    ) -> None:
        self.source = source
        self.framing = framing
        self.ready: dict[_Subscriber, None] = {}
        self.limited: dict[_Subscriber, None] = {}
        self.waiting: dict[_Subscriber, float] = {}
        self.members = 0
        self.sent = now
        self.told = False

        def tell() -> None:  # the source's listener, in the publisher's thread
            if not self.told:
                self.told = True
                note(self)

        self.tell = tell
        # Before it listens: only a trouble that comes now is about those who come now.
        self.troubles = {trouble.feed: trouble.number for trouble in source.troubles()}
        source.subscribe(tell, framing)
        self.reached = source.reached

    def place(self, subscriber: _Subscriber) -> dict[_Subscriber, None]:
        return self.ready if subscriber.limit is None else self.limited

    def sent_of(self, events: list[Event]) -> list[Event]:
        """Those of the events that have been sent to all: the others still will be."""
        return [event for event in events if event.sequence <= self.reached]

    def old_troubles(self) -> list[Trouble]:
        """Those that go on and that all have been told of: the others still will be."""
        return [
            trouble
            for trouble in self.source.troubles()
            if trouble.since is not None and trouble.number <= self.troubles.get(trouble.feed, 0)
        ]

    def new_troubles(self) -> list[Trouble]:
        """Those that have not been told of."""
        new = [t for t in self.source.troubles() if t.number > self.troubles.get(t.feed, 0)]
        self.troubles.update((trouble.feed, trouble.number) for trouble in new)
        return new

    def news(self) -> list[Event]:
        """The events that have not been sent to all."""
        self.told = False  # before the look, so that what comes during it is told of again
        return self.source.since(self.reached)


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
        self._groups: dict[tuple[Source, Framing], _Group] = {}
        # Blocked clients and when each is given up, soonest first.
        self._blocked: dict[_Subscriber, float] = {}
        self._late = math.inf  # when the first of the waiting clients loses patience
        # Notes to the thread.
        self._newcomers: deque[tuple[_Subscriber, Source, Framing]] = deque()
        self._news: deque[_Group] = deque()
        self._woken = False
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False

    # For any thread

    def attach(
        self,
        sock: socket.socket,
        answer: Answer,
        source: Source,
        framing: Framing,
        *,
        limit: int | None = None,
        last_id: str | None = None,
        reached: int = 0,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        """Take a connected socket over: send it the answer's beginning and the source's newest
        event, in one packet if there is one, and then each that comes.

        limit: end the stream with that many events, at least 1.
        last_id: begin with what came after the event with that id, or with the framing's reset.
        reached: wait for an event with a higher number.
        on_close: called once in the broadcaster's thread, when the client is gone.
        """
        try:
            tune(sock, self._send_timeout)
        except OSError:  # gone already; the first send will find out
            log.debug("a client left before its stream began")
        with self._lock:
            if not self._closed:
                if self._thread is None:
                    self._start()
                newcomer = _Subscriber(
                    sock, answer, limit=limit, last_id=last_id, reached=reached, on_close=on_close
                )
                self._newcomers.append((newcomer, source, framing))
                self._wake()
                return
        sock.close()
        on_close()

    def close(self) -> None:
        """Hang up on everybody and end the thread. Returns within a second."""
        with self._lock:
            if self._closed or self._thread is None:
                self._closed = True
                return
            self._closed = True
            self._wake()
        atexit.unregister(self.close)
        self._thread.join(1)

    def _start(self) -> None:
        # By the first stream and not before: a server may fork between.
        self._selector = selectors.DefaultSelector()
        self._waking, self._waker = socket.socketpair()
        self._waking.setblocking(False)
        self._selector.register(self._waking, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="pushdemo-broadcaster", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def _note_news(self, group: _Group) -> None:
        self._news.append(group)
        self._wake()

    def _wake(self) -> None:
        # One byte is enough for any number of notes; the flag falls before the notes are read.
        if not self._woken:
            self._woken = True
            self._waker.send(b"\0")

    # From here on only for the broadcaster's own thread

    def _run(self) -> None:
        while not self._closed:
            try:
                self._turn()
            except Exception:  # one bad turn must not end ten thousand streams
                log.exception("the broadcaster goes on after an error it should not have had")
                time.sleep(0.1)  # nor fill the log
        self._admit()
        for key in list(self._selector.get_map().values()):
            if key.data is not None:
                self._drop(key.data)
        self._selector.close()
        self._waking.close()
        self._waker.close()

    def _turn(self) -> None:
        for key, mask in self._selector.select(self._idle()):
            subscriber = key.data
            if subscriber is None:
                self._waking.recv(CHATTER)
                self._woken = False
                continue
            if mask & selectors.EVENT_READ:
                self._listen(subscriber)
            if mask & selectors.EVENT_WRITE and subscriber in self._blocked:
                self._unblock(subscriber)
        self._admit()
        self._broadcast()
        now = self._clock()
        self._give_up(now)
        for group in list(self._groups.values()):
            if now - group.sent >= self._heartbeat:
                self._beat(group)
        if now >= self._late:
            self._answer_late(now)

    def _idle(self) -> float | None:
        """For how many seconds nothing is due, None for ever. Blocked clients are looked over once
        a second: send_timeout needs no finer grain."""
        due = [group.sent + self._heartbeat for group in self._groups.values()]
        if not due:
            return None
        idle = min(self._late, *due) - self._clock()
        return max(0.0, min(idle, 1.0) if self._blocked else idle)

    def _admit(self) -> None:
        # Only those that are there now: a storm of newcomers must not hold up the next event.
        for _ in range(len(self._newcomers)):
            subscriber, source, framing = self._newcomers.popleft()
            group = self._groups.get((source, framing))
            if group is None:
                group = _Group(source, framing, self._note_news, self._clock())
                self._groups[source, framing] = group
            group.members += 1
            subscriber.group = group
            self._selector.register(subscriber.sock, selectors.EVENT_READ, subscriber)
            self._welcome(subscriber)

    def _welcome(self, subscriber: _Subscriber) -> None:
        group = subscriber.group
        if subscriber.last_id is not None:
            missed = group.source.resume(subscriber.last_id)
            if missed is not None:
                subscriber.last_id = None
                self._begin(subscriber, group.sent_of(missed))
                return
        state = group.sent_of(group.source.state())
        news = [event for event in state if event.sequence > subscriber.reached]
        if news:
            self._begin(subscriber, news)
        else:
            assert subscriber.answer is not None
            deadline = self._clock() + subscriber.answer.patience
            group.waiting[subscriber] = deadline
            self._late = min(self._late, deadline)

    def _begin(self, subscriber: _Subscriber, events: list[Event], *, failed: bool = False) -> None:
        """Send one client the beginning of its response, and these events."""
        group = subscriber.group
        answer, subscriber.answer = subscriber.answer, None
        assert answer is not None
        beginning = answer.fail() if failed else answer.begin(events[0] if events else None)
        group.waiting.pop(subscriber, None)
        data = beginning.data
        if not beginning.goes_on:
            subscriber.limit = 0
            events = []
        elif subscriber.last_id is not None:
            subscriber.last_id = None
            data += group.framing.reset
        group.place(subscriber)[subscriber] = None
        if not events:
            self._send(subscriber, data, group.reached)
        self._go_on(subscriber, events, data)
        for trouble in group.old_troubles():
            if subscriber in group.place(subscriber):
                self._send(subscriber, group.framing.trouble(trouble), group.reached)

    def _go_on(self, subscriber: _Subscriber, events: list[Event], head: bytes = b"") -> None:
        """Send one client these events, as far as it takes them."""
        for event in events:
            if subscriber not in subscriber.group.place(subscriber):
                return  # blocked, or gone
            self._deliver(subscriber, event, head)
            head = b""
            if not event.sequence and subscriber in self._blocked:
                subscriber.last_id = event.id  # no number says what it is to get after this

    def _answer_late(self, now: float) -> None:
        """Begin without an event for those whose answers have lost patience."""
        waiting = [item for group in self._groups.values() for item in group.waiting.items()]
        for subscriber, deadline in waiting:
            if deadline <= now:
                self._begin(subscriber, [])
        # At most ten times a second: each of ten thousand may have a deadline of its own.
        later = (deadline for _, deadline in waiting if deadline > now)
        self._late = max(now + 0.1, min(later, default=math.inf))

    def _broadcast(self) -> None:
        for _ in range(len(self._news)):
            group = self._news.popleft()
            news = group.news()
            for trouble in group.new_troubles():
                self._send_to_all(group, group.framing.trouble(trouble))
                if trouble.since is not None and not news:
                    for subscriber in list(group.waiting):
                        self._begin(subscriber, [], failed=True)
            for event in news:
                before, group.reached = group.reached, event.sequence
                if frame := event.frame(group.framing):
                    # Or else there is silence, which heartbeats are to fill.
                    group.sent = self._clock()
                    self._send_to_ready(group, frame, before)
                for subscriber in list(group.limited):
                    self._deliver(subscriber, event)
                for subscriber in list(group.waiting):
                    if event.sequence > subscriber.reached:
                        self._begin(subscriber, [event])

    def _beat(self, group: _Group) -> None:
        """Send a heartbeat to all who have begun; where the format has none, the newest again."""
        group.sent = self._clock()
        self._send_to_all(group, heartbeat_of(group.framing, group.source.state()))

    def _send_to_all(self, group: _Group, data: bytes) -> None:
        """Send what is no event, and is not counted as one."""
        if not data:
            return  # the format has no way to say it
        self._send_to_ready(group, data, group.reached)
        for subscriber in list(group.limited):
            self._send(subscriber, data, group.reached)

    def _send_to_ready(self, group: _Group, data: bytes, before: int) -> None:
        """The loop that matters: what stands in it is paid for each client and event.

        before: how far a client has come to whom nothing of the data could be sent.
        """
        size = len(data)
        troubled = []
        for subscriber in group.ready:
            try:
                sent = subscriber.sock.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                sent = -1
            if sent != size:
                troubled.append((subscriber, sent))
        for subscriber, sent in troubled:
            if sent > 0:
                self._block(subscriber, memoryview(data)[sent:], group.reached)
            elif sent == 0:
                self._block(subscriber, b"", before)
            else:
                self._drop(subscriber)

    def _deliver(self, subscriber: _Subscriber, event: Event, head: bytes = b"") -> None:
        """Send one client one event, and count it."""
        frame = event.frame(subscriber.group.framing)
        if subscriber.limit is not None and frame:
            subscriber.limit -= 1
            if subscriber.limit == 0:
                frame = subscriber.group.framing.last(frame)
        if subscriber.limit is not None or len(frame) <= SMALL:
            self._send(subscriber, head + frame, event.sequence)
            return
        # Not put together with the head: a client that blocks would keep a copy of the frame, and
        # not just a view of the one that all share.
        if head:
            self._send(subscriber, head, event.sequence - 1)
        if subscriber in subscriber.group.ready:
            self._send(subscriber, frame, event.sequence)

    def _send(self, subscriber: _Subscriber, data: bytes | memoryview, reached: int) -> None:
        """Send one client what is its own.

        reached: how far it has come when it has this.
        """
        try:
            sent = subscriber.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._drop(subscriber)
            return
        if sent < len(data):
            self._block(subscriber, memoryview(data)[sent:], reached)
        elif subscriber.limit == 0:
            self._drop(subscriber)

    def _block(self, subscriber: _Subscriber, rest: bytes | memoryview, reached: int) -> None:
        subscriber.rest = rest
        subscriber.reached = reached
        subscriber.group.place(subscriber).pop(subscriber, None)
        self._blocked[subscriber] = self._clock() + self._send_timeout
        self._selector.modify(
            subscriber.sock, selectors.EVENT_READ | selectors.EVENT_WRITE, subscriber
        )

    def _unblock(self, subscriber: _Subscriber) -> None:
        """A blocked client can take something: the rest of its frame, then what it missed."""
        group = subscriber.group
        del self._blocked[subscriber]  # and back to the end of it, if it is blocked again
        self._selector.modify(subscriber.sock, selectors.EVENT_READ, subscriber)
        group.place(subscriber)[subscriber] = None
        rest, subscriber.rest = subscriber.rest, b""
        if rest:
            self._send(subscriber, rest, subscriber.reached)
            if subscriber not in group.place(subscriber):
                return  # blocked again, or gone
        last_id, subscriber.last_id = subscriber.last_id, None
        missed = group.source.since(subscriber.reached)
        head = b""
        if last_id is not None:
            resumed = group.source.resume(last_id)
            if resumed is None:  # it was too slow
                missed, head = group.source.state(), group.framing.reset
            else:
                missed = resumed
        self._go_on(subscriber, group.sent_of(missed), head)

    def _listen(self, subscriber: _Subscriber) -> None:
        try:
            said = subscriber.sock.recv(CHATTER)
        except BlockingIOError:
            return
        except OSError:
            said = b""
        if not said or len(said) == CHATTER:
            self._drop(subscriber)

    def _give_up(self, now: float) -> None:
        while self._blocked:
            subscriber, deadline = next(iter(self._blocked.items()))
            if now < deadline:
                return
            log.info("a client took nothing for %g s and was dropped", self._send_timeout)
            self._drop(subscriber)

    def _drop(self, subscriber: _Subscriber) -> None:
        if subscriber.sock.fileno() < 0:
            return  # dropped before, in this same turn
        group = subscriber.group
        self._blocked.pop(subscriber, None)
        group.place(subscriber).pop(subscriber, None)
        group.waiting.pop(subscriber, None)
        self._selector.unregister(subscriber.sock)
        subscriber.sock.close()
        group.members -= 1
        if not group.members:
            group.source.unsubscribe(group.tell)
            del self._groups[group.source, group.framing]
        subscriber.on_close()
