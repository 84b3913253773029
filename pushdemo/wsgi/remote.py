"""A request that the machine's broadcaster process answers, and not this one."""

from __future__ import annotations

import contextlib
import http.client
import io
import logging
import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pushdemo.handover.client import BroadcasterAway, Handover, HandoverLost
from pushdemo.handover.messages import Request
from pushdemo.push.head import Head
from pushdemo.push.places import Places
from pushdemo.push.response import MakeHead
from pushdemo.wsgi.errors import RequestError
from pushdemo.wsgi.request import HEADERS
from pushdemo.wsgi.responder import RETRY_AFTER, WsgiResponse, error_response, whole

log = logging.getLogger(__name__)

MOST_HEAD = 256 * 1024  # bytes
CHUNK = 64 * 1024
PATIENCE = 90.0  # seconds for the head of a response: longer than any feed is waited for

_FACTS = (
    "REQUEST_METHOD",
    "QUERY_STRING",
    "SERVER_PROTOCOL",
    "CONTENT_TYPE",
    *(f"HTTP_{name.upper().replace('-', '_')}" for name in HEADERS if name != "Authorization"),
)
# Of a relayed response, what the server that relays it says itself.
_OWN = frozenset(("connection", "date"))


class Remote:
    """See the module.

    headers: those of the application's response, which the broadcaster's is to carry too.
    """

    def __init__(
        self, handover: Handover, environ: Mapping[str, Any], feeds: str | None, places: Places
    ) -> None:
        self._handover = handover
        self._facts = {name: str(environ[name]) for name in _FACTS if environ.get(name)}
        self._feeds = feeds
        self._places = places
        self.headers: Sequence[tuple[str, str]] = ()

    def hand_off(self, sock: socket.socket, head: bytes, make_head: MakeHead) -> None:  # noqa: ARG002
        """Give the client's connection away, or answer it with an error. Raises nothing."""
        with contextlib.closing(sock):
            try:
                self._handover.give(sock, Request(self._facts, self._feeds, self.headers))
            except (BroadcasterAway, ValueError) as error:  # of which Refused is one
                log.error("a stream cannot begin: %s", error)
                turn_away(sock, Head(tuple(self.headers)))
            except HandoverLost as error:
                # The other process may have it, and may have begun to send.
                log.error("a stream is given up: %s", error)
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def relay(self) -> WsgiResponse:
        """The broadcaster's response, read by this process: for a server whose connections cannot
        be taken. It holds a thread for as long as it lasts. Raises nothing."""
        if not self._places.take():
            return whole(error_response(_full()))
        ours, theirs = socket.socketpair()
        relayed = Relayed(ours, self._places)
        try:
            self.hand_off(theirs, b"", Head())
            return relayed.begin()
        except (OSError, ValueError, http.client.HTTPException) as error:
            relayed.close()
            log.error("the broadcaster's response cannot be relayed: %s", error)
            return unavailable()

    def close(self) -> None:
        """Nothing was begun."""


def _full() -> RequestError:
    return RequestError(
        503, "All threads that streams may hold are taken. Try again in a few seconds.",
        [RETRY_AFTER],
    )  # fmt: skip


def _away() -> RequestError:
    return RequestError(
        503, "No stream can begin at the moment. Try again in a few seconds.", [RETRY_AFTER]
    )


def unavailable() -> WsgiResponse:
    """503, for a server to send."""
    return whole(error_response(_away()))


def turn_away(sock: socket.socket, make_head: MakeHead) -> None:
    """Answer 503, and close."""
    response = error_response(_away())
    with contextlib.closing(sock), contextlib.suppress(OSError):
        sock.setblocking(False)
        sock.send(response.encode(make_head))


class Relayed:
    """A response that another process sends, piece by piece. It has a place, and gives it back."""

    def __init__(self, sock: socket.socket, places: Places) -> None:
        self._sock = sock
        self._places = places
        self._first = b""

    def begin(self) -> WsgiResponse:
        """Wait for the head. Raises OSError, ValueError and HTTPException."""
        self._sock.settimeout(PATIENCE)
        received = b""
        while b"\r\n\r\n" not in received:
            piece = self._sock.recv(CHUNK)
            if not piece:
                raise ValueError("it ended before its head did")
            received += piece
            if len(received) > MOST_HEAD:
                raise ValueError(f"its head is longer than {MOST_HEAD} bytes")
        self._sock.settimeout(None)
        head, _, self._first = received.partition(b"\r\n\r\n")
        first, _, lines = head.partition(b"\r\n")
        _, status = first.decode("latin-1").split(" ", 1)
        fields = http.client.parse_headers(io.BytesIO(lines + b"\r\n\r\n")).items()
        headers = [(name, value) for name, value in fields if name.lower() not in _OWN]
        return WsgiResponse(status, headers, self)

    def __iter__(self) -> Iterator[bytes]:
        if self._first:
            yield self._first
        while True:
            try:
                piece = self._sock.recv(CHUNK)
            except OSError:
                return
            if not piece:
                return
            yield piece

    def close(self) -> None:
        """More than once is no error."""
        if self._sock.fileno() >= 0:
            self._sock.close()
            self._places.leave()
