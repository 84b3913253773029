"""The acceptor: takes connections in, and waits for their requests, without a thread for any.

A worker of the pool is worth having only for a request that is all there. Until then a connection
lives here, in one selector: however many never say anything, and however slowly they say it, they
keep nobody waiting. Each has `timeout` seconds for its head, and for a body the time it takes at
MIN_RATE on top.

It also minds the descriptors. The lowest free number is the one a new connection gets, so a number
near the limit means that few are left; those few are for the files, pipes and sockets of the
application. A connection that gets such a number takes the place of the one that has kept its
request to itself for the longest, or is told to come again later.
"""

from __future__ import annotations

import contextlib
import logging
import re
import selectors
import socket
import time
from collections.abc import Callable
from typing import NamedTuple

from pushdemo.push import sockets
from pushdemo.servers import descriptors

log = logging.getLogger(__name__)

MAX_HEAD = 64 * 1024  # bytes; browsers stay under 16 KiB, cookies and all
MIN_RATE = 16 * 1024  # bytes a second, below which a body is not worth waiting for
LINGER = 1.0  # seconds for a client we refused to read why
PAUSE = 0.25  # seconds without accepting, when the system has no descriptor to give
BURST = 256  # connections accepted, and requests delivered, in one go
BURSTS = 16  # in which connections are accepted, before anything else is done
CHUNK = 64 * 1024

# What most requests are, whole in their first packet: a GET, and no header that is about a body.
_PLAIN_GET = re.compile(
    rb"GET \S+ HTTP/1\.[0-9]\r\n"
    rb"(?:(?!(?i:content-length|transfer-encoding|expect))[^\r\n]+\r\n)*\r\n"
)
_REQUEST_LINE = re.compile(rb"\S+ \S+ HTTP/1\.[0-9]\r?\n")
_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")
_LENGTHS = re.compile(rb"^content-length[ \t]*:[ \t]*(.*?)[ \t]*\r?$", re.I | re.M)
_CODED = re.compile(rb"^transfer-encoding[ \t]*:", re.I | re.M)
_EXPECTS = re.compile(rb"^expect[ \t]*:[ \t]*100-continue[ \t]*\r?$", re.I | re.M)


class Request(NamedTuple):
    """A request that is all there.

    sock: its connection, non-blocking.
    received: its head and body, and not what may follow them.
    """

    sock: socket.socket
    received: bytes


Deliver = Callable[[list[Request]], None]


class Refused(Exception):
    """A request that will not be served: the status line's end, and what to do about it."""

    def __init__(self, status: str, advice: str, *headers: str) -> None:
        super().__init__(status)
        self.status = status
        self.advice = advice
        self.headers = headers

    @property
    def response(self) -> bytes:
        body = f"{self.status}\n\n{self.advice}\n".encode()
        head = (
            f"HTTP/1.0 {self.status}",
            "Content-Type: text/plain; charset=utf-8",
            f"Content-Length: {len(body)}",
            "Connection: close",
            *self.headers,
        )
        return "\r\n".join((*head, "", "")).encode() + body


class _Connection:
    """A connection whose request is not all there yet.

    whole: the length of head and body in bytes, None until the head has ended.
    deadline: when it is given up, in monotonic seconds.
    refused: an answer went out; what still comes in is thrown away.
    """

    __slots__ = ("deadline", "received", "refused", "sock", "whole")

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self.sock = sock
        self.deadline = deadline
        self.received = bytearray()
        self.whole: int | None = None
        self.refused = False


def body_length(head: bytes) -> int:
    """The length of the body that follows a request's head (RFC 9112, section 6.3), in bytes.
    Raises Refused, also where the head begins with no HTTP/1 request line."""
    if not _REQUEST_LINE.match(head):
        raise Refused("400 Bad Request", "Send an HTTP/1.0 or HTTP/1.1 request.")
    if _CODED.search(head):
        raise Refused("411 Length Required", "Send the body whole, with a Content-Length.")
    lengths = set(_LENGTHS.findall(head))
    if not lengths:
        return 0
    length = lengths.pop()
    if lengths or not length.isdigit() or len(length) > 18:
        raise Refused("400 Bad Request", "Send one Content-Length, a whole number.")
    return int(length)


class Acceptor:
    """Accepts on `listener` and hands the requests that are all there to `deliver`, as many at a
    time as have come.

    timeout: seconds for a request's head to come.
    max_body: bytes of a request's body; they are kept in memory.
    """

    def __init__(
        self, listener: socket.socket, deliver: Deliver, *, timeout: float, max_body: int
    ) -> None:
        self._listener = listener
        self._deliver = deliver
        self._timeout = timeout
        self._max_body = max_body
        self._connections: dict[_Connection, None] = {}  # oldest first
        self._requests: list[Request] = []  # that are all there
        self._selector = selectors.DefaultSelector()
        self._waking, self._waker = socket.socketpair()
        self._waking.setblocking(False)
        self._waker.setblocking(False)
        self._paused_until: float | None = None
        self._exhausted = False
        self._running = True

    def run(self) -> None:
        """Accept until `stop`."""
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._waking, selectors.EVENT_READ)
        look = time.monotonic()
        while self._running:
            for key, _ in self._selector.select(self._idle()):
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fileobj is self._waking:
                    self._waking.recv(CHUNK)
                elif key.data in self._connections:  # and did not just have to make room
                    self._read(key.data)
            # Not all at once: others come meanwhile.
            if some := self._requests[:BURST]:
                del self._requests[:BURST]
                self._hand_over(some)
            if (now := time.monotonic()) >= look:
                look = now + min(1.0, self._timeout / 4)
                self._give_up(now)
                if self._paused_until is not None and now >= self._paused_until:
                    self._paused_until = None
                    self._selector.register(self._listener, selectors.EVENT_READ)
        self._hand_over(self._requests)
        for connection in list(self._connections):
            self._close(connection)
        self._selector.close()
        self._waking.close()
        self._waker.close()

    def stop(self) -> None:
        """End `run`. Any thread, and signal handlers."""
        self._running = False
        with contextlib.suppress(OSError):  # closed: it has ended; or full: it will wake up
            self._waker.send(b"\0")

    def wakeup_fd(self) -> int:
        """For signal.set_wakeup_fd: a signal that comes just before the selector begins to wait
        has its handler run only after that."""
        return self._waker.fileno()

    def _idle(self) -> float | None:
        if self._requests:
            return 0
        if self._paused_until is not None:
            return PAUSE
        return min(1.0, self._timeout / 4) if self._connections else None

    def _accept(self) -> None:
        # All that wait, before any of them is served: what overflows the listener's queue comes
        # again only after a second or more.
        for _ in range(BURSTS):
            if self._accept_some() < BURST:
                return

    def _accept_some(self) -> int:
        """Accept a burst, if so many wait; returns how many it were."""
        reserve = descriptors.limit() - descriptors.RESERVE
        try:
            arrivals = sockets.accept(self._listener, most=BURST, size=CHUNK, highest=reserve)
        except OSError:  # no descriptor to give
            if not self._make_room():
                self._report_exhaustion()
                self._pause()
            return 0
        deadline = time.monotonic() + self._timeout
        for sock, received in arrivals:
            if sock.fileno() < reserve:
                self._exhausted = False
            elif self._make_room():
                # To the number that has become free, or those of the reserve would go one by one.
                high, sock = sock, sock.dup()
                high.close()
            else:
                self._report_exhaustion()
                self._turn_away(sock)
                continue
            if received and _PLAIN_GET.fullmatch(received):
                self._requests.append(Request(sock, received))
            else:
                connection = _Connection(sock, deadline)
                self._connections[connection] = None
                self._selector.register(sock, selectors.EVENT_READ, connection)
                self._take(connection, received)
        return len(arrivals)

    def _hand_over(self, requests: list[Request]) -> None:
        try:
            self._deliver(requests)
        except Exception:  # some bad requests must not end the server
            log.exception("requests were lost by an error that there should not have been")

    def _make_room(self) -> bool:
        """Close the connection that has been without a request the longest, if there is one."""
        for connection in self._connections:
            self._close(connection)
            return True
        return False

    def _report_exhaustion(self) -> None:
        if not self._exhausted:  # once, not once a connection
            self._exhausted = True
            log.error(
                "out of descriptors (the limit is %d): new connections are turned away until some"
                " are free; raise the limit with ulimit -n, or lower push.max_streams",
                descriptors.limit(),
            )

    def _pause(self) -> None:
        # The listener stays readable while connections wait there: to ask again at once is to spin.
        self._selector.unregister(self._listener)
        self._paused_until = time.monotonic() + PAUSE

    @staticmethod
    def _turn_away(sock: socket.socket) -> None:
        full = Refused("503 Service Unavailable", "Try again in a few seconds.", "Retry-After: 5")
        with sock, contextlib.suppress(OSError):
            sock.send(full.response)
            sock.recv(CHUNK)  # what is left unread would take the answer back with a reset

    def _read(self, connection: _Connection) -> None:
        self._take(connection, sockets.receive(connection.sock, CHUNK))

    def _take(self, connection: _Connection, received: bytes | None) -> None:
        """What has come on a connection, as `sockets.receive` says it."""
        if received is None:
            return
        if not received:
            self._close(connection)
        elif not connection.refused:
            connection.received += received
            try:
                self._advance(connection)
            except Refused as refusal:
                self._refuse(connection, refusal)

    def _advance(self, connection: _Connection) -> None:
        if connection.whole is None:
            self._begin(connection)
        if connection.whole is not None and len(connection.received) >= connection.whole:
            self._forget(connection)
            # The request alone: what follows it would be a second one on a connection that is
            # going to be closed.
            whole = bytes(memoryview(connection.received)[: connection.whole])
            self._requests.append(Request(connection.sock, whole))

    def _begin(self, connection: _Connection) -> None:
        """Look for the end of the head, and see what body is to come."""
        received = connection.received
        # RFC 9112, section 2.2: empty lines may come before a request.
        while received.startswith((b"\r", b"\n")):
            del received[:1]
        end = _END_OF_HEAD.search(received)
        if (len(received) if end is None else end.end()) > MAX_HEAD:
            raise Refused(
                "431 Request Header Fields Too Large", f"Send at most {MAX_HEAD} bytes of headers."
            )
        if end is None:
            return
        head = bytes(received[: end.end()])
        length = body_length(head)
        if length > self._max_body:
            raise Refused("413 Content Too Large", f"Send at most {self._max_body} bytes.")
        connection.whole = end.end() + length
        if length:
            connection.deadline += length / MIN_RATE
            if len(received) < connection.whole and _EXPECTS.search(head):
                connection.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _refuse(self, connection: _Connection, refusal: Refused) -> None:
        connection.refused = True
        connection.deadline = time.monotonic() + LINGER
        try:
            connection.sock.send(refusal.response)
            connection.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._close(connection)

    def _give_up(self, now: float) -> None:
        late = [connection for connection in self._connections if connection.deadline <= now]
        for connection in late:
            if connection.received and not connection.refused:
                self._refuse(
                    connection, Refused("408 Request Timeout", "Send the request in one go.")
                )
            else:
                self._close(connection)

    def _close(self, connection: _Connection) -> None:
        self._forget(connection)
        connection.sock.close()

    def _forget(self, connection: _Connection) -> None:
        self._connections.pop(connection, None)
        self._selector.unregister(connection.sock)
