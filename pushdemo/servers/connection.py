"""A connection whose request is not complete: what it has said, and what it is told."""

from __future__ import annotations

import contextlib
import socket
import time

from pushdemo.servers.refusal import Refused
from pushdemo.servers.request import Request, RequestParser

MIN_RATE = 16 * 1024  # bytes a second, below which a body is not worth waiting for
LINGER = 1.0  # seconds for a client we refused to read why
CHUNK = 64 * 1024  # bytes read at a time

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def turn_away(sock: socket.socket, refusal: Refused) -> None:
    """Answer on a non-blocking socket that has said what it will, as far as it can be done at
    once, and close it."""
    with sock, contextlib.suppress(OSError):
        sock.send(refusal.response)
        sock.recv(CHUNK)  # what is left unread would take the answer back with a reset


class Connection:
    """sock: non-blocking.
    deadline: when it is given up, in monotonic seconds; later if there is a body to wait for.
    max_body: bytes that a body may have.

    held: bytes of memory that its request takes so far.
    refused: it has an answer; what still comes in is thrown away.
    watched: whether it is registered with the acceptor's selector.
    """

    __slots__ = (
        "_has_head",
        "_max_body",
        "_parser",
        "deadline",
        "held",
        "refused",
        "sock",
        "watched",
    )

    def __init__(self, sock: socket.socket, deadline: float, max_body: int) -> None:
        self.sock = sock
        self.deadline = deadline
        self.held = 0
        self.refused = False
        self.watched = False
        self._max_body = max_body
        self._parser: RequestParser | None = None  # not for those that never say anything
        self._has_head = False

    @property
    def is_silent(self) -> bool:
        """Whether it has said nothing that is waiting for more."""
        return self._parser is None

    def feed(self, received: bytes) -> Request | None:
        """The request, when this completes it. Raises Refused."""
        parser = self._parser
        if parser is None:
            parser = self._parser = RequestParser(self._max_body)
        request = parser.feed(received)
        if request is None:
            self.held = parser.weight
            if parser.length and not self._has_head:
                self._has_head = True
                self._wait_for_body(parser)
        return request

    def _wait_for_body(self, parser: RequestParser) -> None:
        self.deadline += parser.length / MIN_RATE
        if parser.expects_continue:
            with contextlib.suppress(OSError):  # it has left: the next read says so
                self.sock.send(_CONTINUE)

    def refuse(self, refusal: Refused) -> None:
        """Answer, and give the client a moment to read that. Raises OSError if it has left."""
        self.refused = True
        self._parser = None
        self.held = 0
        self.deadline = time.monotonic() + LINGER
        self.sock.send(refusal.response)
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(OSError):
            self.sock.close()
