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
"""

from __future__ import annotations

import atexit
import logging
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable

from pushdemo.push.channel import Channel
from pushdemo.push.event import Event
from pushdemo.push.framing import Framing

log = logging.getLogger(__name__)

# What a slow client may leave in the kernel, in bytes (Linux doubles it for its bookkeeping). Left
# alone it grows to megabytes for each, full of values that are no longer the newest.
SEND_BUFFER = 64 * 1024
# A silent peer is probed after 30 s, then every 10 s, and given up when three probes are lost.
KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
# A stream's client has nothing to say; one that says this much in one breath is not a client.
CHATTER = 4096


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

    opening: what goes before its first event: the response's head, and what its format opens with.
    rest: for a blocked client, what is still to be sent of a frame.
    reached: for a blocked client, the number of the last event of which something was sent.
    limit: how many events it is still to get, None for no end.
    """

    __slots__ = ("group", "limit", "on_close", "opening", "reached", "rest", "sock")

    group: _Group  # from its admission on

    def __init__(
        self, sock: socket.socket, opening: bytes, limit: int | None, on_close: Callable[[], None]
    ) -> None:
        self.sock = sock
        self.opening = opening
        self.rest: bytes | memoryview = b""
        self.reached = 0
        self.limit = limit
        self.on_close = on_close


class _Group:
    """The clients that get the same bytes: those of one channel in one format.

    current: the event that was last sent to all of them.
    ready: those that take whatever comes; blocked ones are not in it, and limited ones, for which
        each event is counted, are in `limited` instead. Dictionaries for their order.
    members: how many there are in all.
    """

    __slots__ = ("channel", "current", "framing", "limited", "members", "ready", "tell", "told")

    def __init__(self, channel: Channel, framing: Framing, note: Callable[[_Group], None]) -> None:
        self.channel = channel
        self.framing = framing
        self.current: Event | None = None
        self.ready: dict[_Subscriber, None] = {}
        self.limited: dict[_Subscriber, None] = {}
        self.members = 0
        self.told = False

        def tell() -> None:  # the channel's listener, in the publisher's thread
            if not self.told:
                self.told = True
                note(self)

        self.tell = tell

    def place(self, subscriber: _Subscriber) -> dict[_Subscriber, None]:
        return self.ready if subscriber.limit is None else self.limited

    def after(self, sequence: int) -> list[Event]:
        """The events after number `sequence` that have been sent to all."""
        reached = 0 if self.current is None else self.current.sequence
        return [event for event in self.channel.since(sequence) if event.sequence <= reached]

    def news(self) -> list[Event]:
        """The events that have not been sent to all."""
        self.told = False  # before the look, so that what comes during it is told of again
        return self.channel.since(0 if self.current is None else self.current.sequence)


class Broadcaster:
    """Sends each channel's events to the sockets attached to it.

    send_timeout: seconds after which a client that takes nothing is dropped, more than 0.
    clock: monotonic seconds.
    """

    def __init__(
        self, *, send_timeout: float = 30.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._send_timeout = send_timeout
        self._clock = clock
        self._groups: dict[tuple[Channel, Framing], _Group] = {}
        # Blocked clients and when each is given up, soonest first.
        self._blocked: dict[_Subscriber, float] = {}
        # Notes to the thread.
        self._newcomers: deque[tuple[_Subscriber, Channel, Framing]] = deque()
        self._news: deque[_Group] = deque()
        self._woken = False
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False

    # For any thread

    def attach(
        self,
        sock: socket.socket,
        head: bytes,
        channel: Channel,
        framing: Framing,
        *,
        limit: int | None = None,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        """Take a connected socket over: send it `head`, what opens the stream, the channel's
        newest event, in one packet if there is one, and then each that comes.

        limit: end the stream with that many events, at least 1.
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
                newcomer = _Subscriber(sock, head + framing.opening, limit, on_close)
                self._newcomers.append((newcomer, channel, framing))
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
        # Blocked clients are looked over once a second: send_timeout needs no finer grain.
        for key, mask in self._selector.select(1.0 if self._blocked else None):
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
        self._give_up()

    def _admit(self) -> None:
        # Only those that are there now: a storm of newcomers must not hold up the next event.
        for _ in range(len(self._newcomers)):
            subscriber, channel, framing = self._newcomers.popleft()
            group = self._groups.get((channel, framing))
            if group is None:
                group = self._groups[channel, framing] = _Group(channel, framing, self._note_news)
                group.current = channel.subscribe(group.tell, framing)
            group.members += 1
            subscriber.group = group
            group.place(subscriber)[subscriber] = None
            self._selector.register(subscriber.sock, selectors.EVENT_READ, subscriber)
            opening, subscriber.opening = subscriber.opening, b""
            if group.current is None:
                self._send(subscriber, opening, 0)
            else:
                self._deliver(subscriber, group.current, opening)

    def _broadcast(self) -> None:
        for _ in range(len(self._news)):
            group = self._news.popleft()
            for event in group.news():
                group.current = event
                self._send_to_ready(group, event)
                for subscriber in list(group.limited):
                    self._deliver(subscriber, event)

    def _send_to_ready(self, group: _Group, event: Event) -> None:
        """The loop that matters: what stands in it is paid for each client and event."""
        frame = event.frame(group.framing)
        size = len(frame)
        troubled = []
        for subscriber in group.ready:
            try:
                sent = subscriber.sock.send(frame)
            except BlockingIOError:
                sent = 0
            except OSError:
                sent = -1
            if sent != size:
                troubled.append((subscriber, sent))
        for subscriber, sent in troubled:
            if sent > 0:
                self._block(subscriber, memoryview(frame)[sent:], event.sequence)
            elif sent == 0:  # nothing of it has left, so it may still be skipped
                self._block(subscriber, b"", event.sequence - 1)
            else:
                self._drop(subscriber)

    def _deliver(self, subscriber: _Subscriber, event: Event, opening: bytes = b"") -> None:
        """Send one client one event, and count it."""
        frame = event.frame(subscriber.group.framing)
        if subscriber.limit is not None:
            subscriber.limit -= 1
            if subscriber.limit == 0:
                frame = subscriber.group.framing.last(frame)
        self._send(subscriber, opening + frame, event.sequence)

    def _send(self, subscriber: _Subscriber, data: bytes | memoryview, reached: int) -> None:
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
        for event in group.after(subscriber.reached):
            if subscriber not in group.place(subscriber):
                return  # blocked again, or gone
            self._deliver(subscriber, event)

    def _listen(self, subscriber: _Subscriber) -> None:
        try:
            said = subscriber.sock.recv(CHATTER)
        except BlockingIOError:
            return
        except OSError:
            said = b""
        if not said or len(said) == CHATTER:
            self._drop(subscriber)

    def _give_up(self) -> None:
        now = self._clock()
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
        self._selector.unregister(subscriber.sock)
        subscriber.sock.close()
        group.members -= 1
        if not group.members:
            group.channel.unsubscribe(group.tell)
            del self._groups[group.channel, group.framing]
        subscriber.on_close()
