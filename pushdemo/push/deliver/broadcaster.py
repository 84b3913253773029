"""The broadcaster: one thread and one selector for all connections that servers gave away.

Rules:
- Only the broadcaster's thread touches a socket once it is attached. Other threads leave a note
  (newcomers, an audience with news) and wake it, so nothing that it owns needs a lock.
- An event costs nothing per client but a `send` of the same bytes. A client's own share of the
  memory is a socket, the rest of a frame half sent, and how far it came: never a queue.
- Clients that come with equal requests at the same time are sent the same beginning, at once.
- A client that cannot take an event now is *blocked*. It gets the rest of its frame as soon as it
  can take it, and goes on with what the channel still has then: events that it was too slow for are
  skipped.
- A client that takes nothing for `send_timeout` seconds is dropped. One that closes its connection
  is noticed at once, by its end of file. What a client sends after its request is read and thrown
  away; on a WebSocket it is answered.
- An audience to which nothing was sent for `heartbeat` seconds is sent a heartbeat, so that proxies
  keep the connections, and dead connections are found.
- A client whose response cannot begin before there is an event *waits*, for as long as its answer
  has patience.
- An error in the work for one client ends that client's stream. An error in the work for one
  audience is logged. Neither reaches the others. See loop.py for what happens to any other.

The thread's work is in delivery.py (what is sent) and connections.py (to which sockets).
"""

from __future__ import annotations

import atexit
import logging
import math
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from pushdemo.push.channel import Source
from pushdemo.push.counting import Counts
from pushdemo.push.deliver.answer import Answer
from pushdemo.push.deliver.audience import Audience, Audiences, Newcomers, Subscriber
from pushdemo.push.deliver.connections import FAILED, Connections
from pushdemo.push.deliver.continuation import Arriving, Departing, depart
from pushdemo.push.deliver.delivery import Delivery
from pushdemo.push.deliver.draining import Draining, come_back_in
from pushdemo.push.deliver.sockets import tune
from pushdemo.push.deliver.subscription import Subscription
from pushdemo.push.deliver.watched import READ, WRITE, Watched, watched
from pushdemo.push.failure import failure_of
from pushdemo.push.gate import PATIENCE, Gate, Gone, Standstill
from pushdemo.push.loop import Health, Loop

log = logging.getLogger(__name__)

WAKES = 4096  # bytes: more than there can be
OVERTIME = 1.0  # seconds for the last of those that are to go

# Gives another process a client.
Forward = Callable[[socket.socket, Answer, Subscription], None]


class Broadcaster:
    """Sends each source's events to the sockets that are attached to it.

    send_timeout: seconds after which a client that takes nothing is dropped, more than 0.
    heartbeat: seconds of silence after which a heartbeat is sent, more than 0.
    senders: how many threads share an event to many clients, its own among them.
    drain: seconds over which the streams are ended when it is stopped; 0 for all at once.
    retry: seconds after which clients should come back then, each a little earlier or later.
    clock: monotonic seconds.
    gate: new clients come through it.
    counts: what is counted.
    """

    def __init__(
        self,
        *,
        send_timeout: float = 30.0,
        heartbeat: float = 15.0,
        senders: int = 1,
        drain: float = 0.0,
        retry: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
        gate: Gate | None = None,
        counts: Counts | None = None,
    ) -> None:
        self._counts = counts or Counts()
        self._gate = gate or Gate()
        self._forward: Forward | None = None
        self._standstill = Standstill()
        self._drain = drain
        self._retry = retry
        self._draining: Draining[Subscriber] | None = None
        self._drained = threading.Event()
        self._asked_to_drain = False
        self._send_timeout = send_timeout
        self._heartbeat = heartbeat
        self._clock = clock
        self._audiences = Audiences(self._note_news, clock, senders, self._counts)
        # When an audience may have been silent for too long, at the earliest: an event to it does
        # not change this, or each event would have to look at all audiences.
        self._silence = math.inf
        # Notes to the thread.
        self._newcomers: deque[Newcomers] = deque()
        self._news: deque[Audience] = deque()
        self._woken = False
        self._lock = threading.Lock()
        self._loop = Loop("pushdemo-broadcaster", self._turn, farewell=self._end)
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
        subscription: Subscription,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        """Take connected sockets over, whose requests were equal. Each is sent the answer's
        beginning and the first event, in one packet if there is an event, and then what follows.

        on_close: called in the broadcaster's thread, once for each client, when its stream has
            ended.

        Raises OSError where the system has no descriptor or no thread for the broadcaster; the
        sockets are still the caller's then.
        """
        try:
            with self._gate:
                self._attach(socks, answer, subscription, on_close)
        except Gone:
            for sock in socks:
                if self._forward is not None:
                    self._forward(sock, answer, subscription)
                sock.close()
                on_close()

    def _attach(
        self,
        socks: Sequence[socket.socket],
        answer: Answer,
        subscription: Subscription,
        on_close: Callable[[], None],
    ) -> None:
        for sock in socks:
            try:
                tune(sock)
            except OSError:  # gone already; the first send will find out
                log.debug("a client left before its stream began")
        with self._lock:
            if not self._closed:
                self._start()
                subscribers = [Subscriber(sock, answer, subscription, on_close) for sock in socks]
                self._newcomers.append(Newcomers(subscribers, subscription))
                self._wake()
                return
        for sock in socks:
            sock.close()
            on_close()

    def stop(self) -> None:
        """End all streams, one by one over `drain` seconds, and the thread. Clients are told when
        to come back; those that come meanwhile are told so at once."""
        if self._drain and self._started and not self._closed:
            self._asked_to_drain = True
            self._wake()
            self._drained.wait(self._drain + OVERTIME)
        self.close()

    def close(self) -> None:
        """End all streams at once, and the thread. Returns within a second."""
        with self._lock:
            self._closed = True
            thread = self._loop.stop()
            if thread is None:
                return
            self._wake()
        atexit.unregister(self.stop)
        thread.join(1)

    # To another process, with the gate shut

    def hold(self) -> None:
        """Have its thread stand still between two turns, until `go_on`. Raises TimeoutError where
        it does not."""
        if self._asked_to_drain:
            raise RuntimeError("it is being stopped")
        if self._started and not self._closed:
            self._standstill.ask()
            self._wake()
            self._standstill.wait(PATIENCE)

    def go_on(self) -> None:
        """The end of `hold`, or of `restore`."""
        self._standstill.end()
        if self._started and not self._closed:
            self._news.extend(self._audiences)  # what there was to tell them may be another's now
            self._loop.ensure()
            self._wake()

    def snapshot(self) -> Departing:
        """While it is held: the streams there are."""
        if not self._started:
            return Departing((), [])
        return depart(self._audiences, self._connections.blocked)

    def restore(
        self,
        departing: Departing,
        source_of: Callable[[tuple[str, ...]], Source | None],
        on_close: Callable[[], None],
    ) -> int:
        """Before its first client: go on with another one's streams, from `go_on` on. Returns how
        many there are.

        source_of: the source that is made of these feeds; None where one is not there any more.
            The streams of that end.

        Raises ValueError where there are not as many sockets as there are streams.
        """
        if sum(state.members for state in departing.audiences) != len(departing.socks):
            raise ValueError("there are not as many sockets as streams")
        self._prepare()
        arriving = Arriving(self._audiences, on_close)
        coming = iter(departing.socks)
        for state in departing.audiences:
            socks = list(islice(coming, state.members))
            source = source_of(state.feeds)
            if source is None:
                log.warning("%d streams end: there is no feed %s any more",
                            len(socks), "+".join(state.feeds))  # fmt: skip
                for sock in socks:
                    sock.close()
            else:
                arriving.arrive(state, source, socks)
        for subscriber in arriving.members:
            self._connections.watch(subscriber)
        self._connections.go_on(arriving.blocked)
        self._delivery.due = self._silence = 0.0  # they find out themselves when the first is
        return len(arriving.members)

    def leave(self, forward: Forward) -> None:
        """While it is held, and the gate is closed for good: another process has the streams.

        forward: gives that process a client which comes now. Raises nothing.
        """
        self._forward = forward
        if self._started:
            self._connections.lives.go_on_elsewhere()
        self._standstill.end()
        self.close()  # of copies: the connections stay open

    def abandon(self) -> None:
        """In a process that was forked from this one's: close this process's copies of all that is
        open, and nothing else. No other thread is there, and the locks may be held by none that is.
        """
        atexit.unregister(self.stop)
        self._closed = True
        if not self._started:
            return
        served = [one.sock for one in self._watched if one is not None]
        arrived = [one.sock for newcomers in self._newcomers for one in newcomers.subscribers]
        # Before the sockets: the list of what is watched is shared with the other process.
        self._watched.close()
        for sock in (self._waking, self._waker, *served, *arrived):
            sock.close()

    def _start(self) -> None:
        """With the lock. By the first stream and not before it: a server may fork between."""
        self._prepare()
        self._loop.ensure()

    def _prepare(self) -> None:
        if not self._started:
            self._watched: Watched[Subscriber | None] = watched()
            self._waking, self._waker = socket.socketpair()
            self._waking.setblocking(False)
            self._waker.setblocking(False)
            self._watched.register(self._waking, READ, None)
            self._connections = Connections(
                self._watched, self._audiences, self._send_timeout, self._clock
            )
            self._delivery = Delivery(self._connections, self._clock, self._counts)
            self._started = True
            atexit.register(self.stop)

    def _note_news(self, audience: Audience) -> None:
        self._news.append(audience)
        self._wake()

    def _wake(self) -> None:
        # One byte is enough for any number of notes: while the flag is up it is on its way, or it
        # has been read and the notes will be looked for after the flag has fallen.
        if not self._woken:
            self._woken = True
            try:  # noqa: SIM105 - it takes a third of the time
                self._waker.send(b"\0")
            except OSError:
                pass  # full, so it will wake; or closed, so it has ended

    # From here on only for the broadcaster's own thread

    def _end(self) -> None:
        self._admit()
        self._connections.drop_all()
        self._watched.close()
        self._waking.close()
        self._waker.close()

    def _turn(self) -> None:
        try:
            self._take_turn()
        except BaseException:
            # It may have ended between taking a note and doing what that says.
            self._woken = False
            self._silence = 0.0
            self._news.extend(self._audiences)
            raise

    def _take_turn(self) -> None:
        ready = self._watched.select(self._idle())
        # News first, before the calls that let the interpreter's lock go for one client each.
        self._broadcast()
        for subscriber, mask in ready:
            if subscriber is None:
                self._waking.recv(WAKES)
                self._woken = False  # and then the notes are looked for once more, in _idle
            else:
                self._attend(subscriber, mask)
        if self._newcomers:
            self._admit()
        if self._news:  # they end a silence
            self._broadcast()
        now = self._clock()
        if now >= self._connections.due:
            self._connections.drop_late(now)
        if now >= self._silence:
            self._end_silence(now)
        if now >= self._delivery.due:
            self._delivery.begin_late(self._audiences, now)
        if self._asked_to_drain:
            self._dismiss_some(now)
        if not (self._news or self._newcomers):  # nothing is to be left undone
            self._standstill.stand()

    def _end_silence(self, now: float) -> None:
        """Send the heartbeats that are due, and find out when the next may be."""
        self._silence = math.inf
        for audience in self._audiences:
            if now - audience.sent >= self._heartbeat:
                self._for_audience(self._delivery.send_heartbeat, audience)
            self._silence = min(self._silence, audience.sent + self._heartbeat)

    def _dismiss_some(self, now: float) -> None:
        """Hang up on those whose time has come."""
        if self._draining is None:
            self._draining = Draining(self._connections.everybody(), now, self._drain)
        self._dismiss(self._draining.take(now))
        if self._draining.next is None or not self._connections.some:
            self._drained.set()

    def _dismiss(self, subscribers: Iterable[Subscriber]) -> None:
        for subscriber in subscribers:
            if subscriber.sock.fileno() < 0:
                continue  # it has gone by itself
            try:
                self._delivery.dismiss(subscriber, come_back_in(self._retry))
            except Exception as error:
                self._connections.fail([subscriber], error)

    def _idle(self) -> float | None:
        """For how many seconds nothing is due, None for ever."""
        if self._news or self._newcomers:  # who left them may have found the flag up
            return 0
        due = min(self._delivery.due, self._silence, self._connections.due)
        now = self._clock()
        if self._asked_to_drain:
            drain = self._draining.next if self._draining is not None else now
            due = due if drain is None else min(due, drain)
        return None if due == math.inf else max(0.0, due - now)

    def _broadcast(self) -> None:
        for _ in range(len(self._news)):
            audience = self._news.popleft()
            audience.look()
            self._for_audience(self._delivery.send_statuses, audience)
            self._for_audience(self._delivery.send_events, audience)

    def _attend(self, subscriber: Subscriber, mask: int) -> None:
        """Read and write what one client's socket is ready for."""
        try:
            if mask & READ:
                said = self._connections.listen(subscriber)
                if said and subscriber.heard is not None:
                    self._delivery.hear(subscriber, subscriber.heard.receive(said))
            if mask & WRITE and self._connections.is_blocked(subscriber):
                self._delivery.resume(subscriber)
        except Exception as error:
            self._connections.fail([subscriber], error)

    def _admit(self) -> None:
        # Only those that are there now: a storm of newcomers must not hold up the next event.
        for _ in range(len(self._newcomers)):
            newcomers = self._newcomers.popleft()
            try:
                audience = self._audiences.admit(newcomers)
                self._silence = min(self._silence, audience.sent + self._heartbeat)
                watched = [one for one in newcomers.subscribers if self._connections.watch(one)]
                if self._asked_to_drain:
                    self._dismiss(watched)
                elif watched:
                    self._delivery.welcome(audience, watched)
            except Exception as error:
                self._connections.fail(newcomers.subscribers, error)
            except BaseException:  # of another thread's making: it says nothing about them
                for subscriber in newcomers.subscribers:
                    if not self._is_served(subscriber):
                        self._connections.drop(subscriber, FAILED)
                raise

    def _is_served(self, subscriber: Subscriber) -> bool:
        """Whether it is a member of an audience: it is sent to, waits or is blocked."""
        audience = subscriber.audience
        return audience is not None and (
            subscriber.seat >= 0
            or subscriber in audience.waiting
            or self._connections.is_blocked(subscriber)
        )

    def _for_audience(self, work: Callable[[Audience], None], audience: Audience) -> None:
        try:
            work(audience)
        except Exception as error:
            log.error("the streams of %s go on after an error that there should not have been: %s",
                      audience.source.name, failure_of(error))  # fmt: skip
