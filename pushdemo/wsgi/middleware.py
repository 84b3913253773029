"""The outermost WSGI middleware: takes streams off the server.

The application's response names a ticket (see door.py) where it is a stream. The middleware then
takes the connection from the server (see connections.py), and gives it to the stream. All other
responses pass through unchanged.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pushdemo.push.head import Head
from pushdemo.push.stream import HandsOff
from pushdemo.servers.collapsing import collapses
from pushdemo.wsgi.connections import Connection, Decoy, Served, connection_of
from pushdemo.wsgi.door import DOOR, HEADER, Door, Headers, Left, without_body
from pushdemo.wsgi.remote import Remote, turn_away, unavailable

log = logging.getLogger(__name__)


class Middleware:
    """See the module. Around an application that has one already, it does nothing."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if DOOR in environ:
            return self._app(environ, start_response)  # type: ignore[no-any-return]
        door = environ[DOOR] = Door(connection_of(environ))
        exchange = _Exchange(start_response, door)
        try:
            body = self._app(environ, exchange.start_response)
            if not exchange.started:
                body = _begun(body)
            return exchange.answer(body)
        finally:
            exchange.close()

    def pushdemo_collapses(self) -> Sequence[str] | None:
        """By which headers the application's streams are made: see pushdemo.servers.collapsing. The
        middleware itself looks at none."""
        return collapses(self._app)


class _Exchange:
    """One request, and what the application answers."""

    def __init__(self, start_response: Any, door: Door) -> None:
        self._start_response = start_response
        self._door = door
        self._left: Left | None = None  # the stream that the response names
        self._headers: Headers = ()
        self.started = False

    def start_response(self, status: str, headers: Headers, exc_info: Any = None) -> Any:
        """PEP 3333's."""
        self.started = True
        self._drop()
        ticket = next((value for name, value in headers if name.lower() == HEADER.lower()), None)
        arguments = () if exc_info is None else (exc_info,)
        if ticket is None:
            return self._start_response(status, headers, *arguments)
        left = self._door.collect(ticket)
        if left is None:
            raise ValueError(
                f"the response has a {HEADER} for no stream of its request: it was sent before, or"
                " comes from somewhere else"
            )
        if not status.startswith("200"):  # an error page or a redirection that kept the header
            left.body.close()
            headers = [header for header in headers if header[0].lower() != HEADER.lower()]
            return self._start_response(status, headers, *arguments)
        self._left, self._headers = left, without_body(headers)
        return _discard

    def answer(self, body: Any) -> Iterable[bytes]:
        """What to return to the server."""
        if self._left is None:
            return body  # type: ignore[no-any-return]
        # The application is done with this request: its database connections are free again.
        _close(body)
        left, self._left = self._left, None
        stream, connection = left.body, self._door.connection
        if isinstance(stream, Remote):
            stream.headers = tuple(self._headers)
        if connection is not None and not isinstance(connection, Served):
            return self._hand_off(stream, left, connection)
        if isinstance(stream, Remote) and connection is None:
            status, headers, relayed = stream.relay()
            self._start_response(status, headers)
            return relayed
        self._start_response(left.status, [*self._headers, *left.own_headers()])
        return stream  # type: ignore[return-value]  # the server hands it off, or iterates it

    def close(self) -> None:
        """Close what was opened for a response that the application did not send after all."""
        self._drop()
        self._door.close()

    def _hand_off(self, stream: HandsOff, left: Left, connection: Connection) -> Iterable[bytes]:
        make_head = Head(tuple(self._headers))
        try:
            head = make_head(left.status, left.own_headers())
            sock, decoy = _take(connection)
        except OSError as error:
            log.error("a stream cannot be taken off the server: %s", error)
            stream.close()
            status, headers, body = unavailable()
            self._start_response(status, [*self._headers, *headers])
            return body
        except BaseException:
            stream.close()
            raise
        # From here on the connection is ours, errors included.
        self._start_response("200 OK", [("Content-Length", "0")])
        try:
            stream.hand_off(sock, head, make_head)
        except OSError as error:
            log.error("a stream cannot begin: %s", error)
            turn_away(sock, make_head)
        return decoy

    def _drop(self) -> None:
        left, self._left = self._left, None
        if left is not None:
            left.body.close()


def _take(connection: Connection) -> tuple[socket.socket, Decoy]:
    """The connection, and what the server has in its place. Raises OSError."""
    sock = connection.duplicate()
    try:
        return sock, connection.detach()
    except BaseException:
        sock.close()
        raise


def _discard(data: bytes) -> None:
    """What start_response returns where the body does not count."""


def _begun(body: Any) -> Iterable[bytes]:
    """A body whose application calls start_response as late as for the first piece (PEP 3333)."""
    pieces = iter(body)
    first = next(pieces, b"")
    return _Begun(first, pieces, body)


class _Begun:
    def __init__(self, first: bytes, pieces: Iterator[bytes], body: Any) -> None:
        self._first = first
        self._pieces = pieces
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        yield self._first
        yield from self._pieces

    def close(self) -> None:
        if hasattr(self._body, "close"):
            self._body.close()


def _close(body: Any) -> None:
    if hasattr(body, "close"):
        try:
            body.close()
        except Exception:
            log.exception("error in the application, closing the response that a stream replaces")
