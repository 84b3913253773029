"""How a stream gets past a framework: it is left at the door under a ticket.

A view cannot return a stream through a framework: the framework wraps, iterates or replaces a
response's body. Every framework and every middleware keeps a response's headers, however. So the
view returns an empty response with a header that names a ticket, the stream waits in `environ`
under that ticket, and the outermost middleware puts it in the place of the empty body. (The headers
X-Accel-Redirect and Grip-Channel do the same between two servers.)

A ticket is good for one request and for one use. The header never reaches a client.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pushdemo.push.stream import HandsOff
from pushdemo.wsgi.connections import Connection, Served

DOOR = "pushdemo.door"  # the key in environ
HEADER = "X-Pushdemo-Ticket"

# What the headers of an empty body say is not true of the stream (RFC 9110, section 8).
_OF_THE_BODY = frozenset(
    ("accept-ranges", "content-digest", "content-encoding", "content-length", "content-md5",
     "content-range", "content-type", "digest", "etag", "last-modified", "repr-digest",
     "sec-websocket-accept", "sec-websocket-extensions", "transfer-encoding", "upgrade",
     "x-accel-buffering")
)  # fmt: skip
_OF_THE_CONNECTION = frozenset(("connection", "keep-alive", HEADER.lower()))

Headers = Sequence[tuple[str, str]]


class Left(NamedTuple):
    """A response that waits for its connection.

    headers: its own, which began the framework's.
    """

    body: HandsOff
    headers: Headers
    status: str = "200 OK"

    def own_headers(self) -> list[tuple[str, str]]:
        """Those that describe its body."""
        return [header for header in self.headers if header[0].lower() in _OF_THE_BODY]


def without_body(headers: Headers) -> list[tuple[str, str]]:
    """The headers of a framework's empty response that are true of any response in its place."""
    return [
        (name, value)
        for name, value in headers
        if name.lower() not in _OF_THE_BODY and name.lower() not in _OF_THE_CONNECTION
    ]


class Door:
    """One request's. For one thread at a time.

    connection: the client's, if it can be taken off the server.
    """

    def __init__(self, connection: Connection | Served | None) -> None:
        self.connection = connection
        self._left: dict[str, Left] = {}

    def leave(self, left: Left) -> tuple[str, str]:
        """Leave a response; returns the header by which it is found."""
        ticket = secrets.token_hex(16)
        self._left[ticket] = left
        return HEADER, ticket

    def collect(self, ticket: str) -> Left | None:
        """What was left under a ticket; None for one that is not this request's, or was used."""
        return self._left.pop(ticket, None)

    def close(self) -> None:
        """Close all that were not collected."""
        while self._left:
            _, left = self._left.popitem()
            left.body.close()


def door_of(environ: Mapping[str, Any]) -> Door | None:
    """The door that a middleware has put there, if there is one."""
    return environ.get(DOOR)
