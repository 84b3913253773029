"""The clients' connections: which are watched, which are blocked, and how they end.

For the broadcaster's thread alone.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Collection, Iterable, Sequence

from pushdemo.push.deliver.audience import Audiences, Subscriber
from pushdemo.push.deliver.lives import Lives
from pushdemo.push.deliver.roll_call import RollCall, suspect
from pushdemo.push.deliver.sockets import receive
from pushdemo.push.deliver.watched import READ, WRITE, Watched
from pushdemo.push.failure import failure_of

log = logging.getLogger(__name__)

# A client of a stream sends nothing after its request. One that sends this many bytes at a time is
# dropped.
CHATTER = 4096
# Seconds for a client of a WebSocket to close it, when we have.
LINGER = 2.0

BOTH = READ | WRITE

# Why a stream ended, for the log.
LEFT = "the client closed it"
BROKEN = "the connection broke"
SLOW = "the client took nothing"
TALKS = "the client sent what it should not"
DONE = "complete"
STOPS = "the server stops"
FAILED = "an error"


class Connections:
    """See the module.

    watched: the sockets, which stand for their Subscriber, and one that wakes the thread.
    audiences: those that a client leaves when its connection ends.
    send_timeout: seconds after which a client that takes nothing is dropped.
    clock: monotonic seconds.
    """

    def __init__(
        self,
        watched: Watched[Subscriber | None],
        audiences: Audiences,
        send_timeout: float,
        clock: Callable[[], float],
    ) -> None:
        self._watched = watched
        self._audiences = audiences
        self._send_timeout = send_timeout
        self._clock = clock
        self.lives = Lives(clock)
        self._roll_call = RollCall(self.everybody, send_timeout)
        self._blocked: dict[Subscriber, None] = {}  # in the order in which they were
        # Those that were told that their stream ends, and have not said so themselves; and when
        # each is given up, the soonest first.
        self._lingering: dict[Subscriber, float] = {}

    @property
    def due(self) -> float:
        """When `drop_late` is to be called, in seconds of the clock."""
        lingering = next(iter(self._lingering.values()), math.inf)
        return min(lingering, self._roll_call.due) if self.some else math.inf

    @property
    def blocked(self) -> Collection[Subscriber]:
        """The blocked clients."""
        return self._blocked

    @property
    def some(self) -> bool:
        """Whether there are any clients."""
        return len(self._watched) > 1  # beside what wakes the thread

    def everybody(self) -> list[Subscriber]:
        """All clients."""
        return [one for one in self._watched if one is not None]

    def is_blocked(self, subscriber: Subscriber) -> bool:
        return subscriber in self._blocked

    def is_lingering(self, subscriber: Subscriber) -> bool:
        """Whether it was told that its stream ends, and is to say so itself."""
        return subscriber in self._lingering

    def watch(self, subscriber: Subscriber) -> bool:
        """Watch a new client's socket. Returns False, and drops the client, where the system
        cannot."""
        try:
            self._watched.register(subscriber.sock, READ, subscriber)
        except (OSError, ValueError) as error:
            self.fail([subscriber], error)
            return False
        return True

    def listen(self, subscriber: Subscriber) -> bytes:
        """Read what a client sends. An end of file ends its stream, and so does too much at a time;
        nothing is returned then."""
        received = receive(subscriber.sock, CHATTER)
        if received is None:
            return b""
        if not received or len(received) == CHATTER:
            self.drop(subscriber, TALKS if received else LEFT)
            return b""
        return received

    def block(self, subscriber: Subscriber, rest: bytes | memoryview, reached: int) -> None:
        """A client took less than it was sent: it is sent nothing until its socket can be written
        to.

        rest: what is still to be sent of a frame.
        reached: the number of the last event that it has, with the rest.
        """
        assert subscriber.audience is not None
        subscriber.rest = rest
        subscriber.reached = reached
        subscriber.audience.recipients(subscriber).remove(subscriber)
        self._blocked[subscriber] = None
        subscriber.audience.clients.slow += 1
        if subscriber.owes_since is None:
            suspect(subscriber, self._clock())
        self._watched.modify(subscriber.sock, BOTH, subscriber)

    def go_on(self, blocked: Iterable[Subscriber]) -> None:
        """Clients that are watched have been blocked for a while, and go on to be."""
        for subscriber in blocked:
            if subscriber.sock.fileno() >= 0:
                self._blocked[subscriber] = None
                if subscriber.owes_since is not None:
                    suspect(subscriber, subscriber.owes_since)
                self._watched.modify(subscriber.sock, BOTH, subscriber)

    def unblock(self, subscriber: Subscriber) -> None:
        """Its socket can be written to."""
        del self._blocked[subscriber]
        subscriber.owes_since = None
        self._watched.modify(subscriber.sock, READ, subscriber)

    def linger(self, subscriber: Subscriber) -> None:
        """A client of a WebSocket was sent a close frame, and is to answer that: whoever closes the
        connection at once may take the frames before it back (RFC 6455, section 7.1.1)."""
        if subscriber.seat >= 0 and subscriber.audience is not None:
            subscriber.audience.recipients(subscriber).remove(subscriber)
        self._lingering[subscriber] = self._clock() + LINGER

    def drop_late(self, now: float) -> None:
        """Drop the clients that have taken nothing for too long, and those that do not close."""
        for subscriber, deadline in list(self._lingering.items()):
            if now < deadline:
                break
            self.drop(subscriber, DONE)
        if now >= self._roll_call.due:
            for subscriber in self._roll_call.call(now):
                if subscriber.audience is not None:
                    subscriber.audience.clients.dropped += 1
                self.drop(subscriber, f"{SLOW} for {self._send_timeout:g} s")

    def fail(self, subscribers: Sequence[Subscriber], error: Exception) -> None:
        """Drop the clients for which something went wrong."""
        log.error("clients are dropped (%d) after an error that there should not have been: %s",
                  len(subscribers), failure_of(error))  # fmt: skip
        for subscriber in subscribers:
            self.drop(subscriber, FAILED)

    def drop(self, subscriber: Subscriber, why: str) -> None:
        """Close a client's connection, whatever its state is. Raises nothing. why: for the log."""
        if subscriber.sock.fileno() < 0:
            return  # dropped before, in this same turn
        with contextlib.suppress(KeyError, ValueError, OSError):  # it was never registered
            self._watched.unregister(subscriber.sock)
        self._note_end(subscriber, why)
        subscriber.sock.close()
        self._blocked.pop(subscriber, None)
        self._lingering.pop(subscriber, None)
        self._audiences.leave(subscriber)
        try:
            subscriber.on_close()
        except Exception as error:
            log.error("the end of a client's stream: %s", failure_of(error))

    def _note_end(self, subscriber: Subscriber, why: str) -> None:
        try:
            self.lives.end(subscriber, why)
        except Exception as error:  # the log's, for one
            log.debug("the end of a stream is not in the log: %s", failure_of(error))

    def drop_all(self) -> None:
        """Drop all clients."""
        for subscriber in self.everybody():
            self.drop(subscriber, STOPS)
