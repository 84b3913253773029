"""One request, answered: calls the application and sends its response (PEP 3333).

A response ends with its connection: `HTTP/1.0`, `Connection: close`.

A worker sends what the client takes at once. A client that is slow, or an endless body, goes on in
a thread of its own, so that ten of them do not hold ten workers.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from pushdemo.push.deliver.sockets import receive
from pushdemo.push.response import Headers, MakeHead
from pushdemo.push.stream import HANDS_OFF, HandsOff, Stream
from pushdemo.servers.collapsing import Precedent
from pushdemo.servers.connection import CHUNK
from pushdemo.servers.environ import make_environ
from pushdemo.servers.refusal import Busy
from pushdemo.servers.request import Exchange

log = logging.getLogger(__name__)

WRITE_TIMEOUT = 60.0  # seconds that a piece of a body has to be taken in


class ClientLeft(Exception):
    """Nobody is there to take the response, or takes it in time."""


class Host(Protocol):
    """What a handler needs of its server."""

    application: Any
    address: tuple[str, int]

    @property
    def make_head(self) -> MakeHead:
        """Makes the head of a response that ends with its connection."""

    def in_a_thread(self, task: Callable[[], None]) -> bool:
        """Run `task` in a thread of its own; False if there can be none."""


class Handler:
    """Serves one exchange, in a worker."""

    def __init__(self, exchange: Exchange, host: Host) -> None:
        self._sock, self._request = exchange
        self._host = host
        self._status: str | None = None
        self._headers: Headers = []
        self._has_begun = False  # the head was sent, or a part of it
        self._unsent = b""
        self._given_away = False  # the connection is closed by its new owner

    def handle(self) -> Precedent | None:
        """Answer, and close the connection or give it away. Nothing that the application does
        makes it raise. Returns what equal requests may have, too."""
        try:
            return self._handle()
        except ClientLeft:
            log.debug("the client left before its response was sent")
        except BaseException:  # SystemExit as well: it is the application's, and not this thread's
            self._fail()
        finally:
            if not self._given_away:
                self._close()
        return None

    def _handle(self) -> Precedent | None:
        environ = make_environ(self._request, self._host.address, self._client())
        environ[HANDS_OFF] = True
        body = self._host.application(environ, self._start_response)
        if isinstance(body, HandsOff) and self._status is not None and not self._has_begun:
            return self._hand_off(self._status, body)
        self._send(body)
        return None

    def _client(self) -> str:
        try:
            peer = self._sock.getpeername()
        except OSError:
            raise ClientLeft from None
        return str(peer[0]) if peer else ""  # a Unix socket's has no name

    def _hand_off(self, status: str, body: HandsOff) -> Precedent | None:
        head = self._host.make_head(status, self._headers)
        body.hand_off(self._sock, head, self._host.make_head)
        self._given_away = True
        return Precedent(body, status, self._headers) if isinstance(body, Stream) else None

    def _is_endless(self, body: Iterable[bytes]) -> bool:
        return (
            self._status is not None
            and self._request.method != "HEAD"
            and not isinstance(body, (list, tuple))
            and not any(name.lower() == "content-length" for name, _ in self._headers)
        )

    def _start_response(self, status: str, headers: Headers, exc_info: Any = None) -> Any:
        """PEP 3333's start_response."""
        if exc_info is not None:
            try:
                if self._has_begun:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # it holds this frame
        elif self._status is not None:
            raise RuntimeError("start_response was called twice, and without exc_info")
        _check_head(status, headers)
        self._status = status
        self._headers = [(name, value) for name, value in headers if name.lower() != "connection"]
        return self._write

    # The body, in a worker

    def _send(self, body: Iterable[bytes]) -> None:
        try:
            pieces = self._pieces(body)
            if self._is_endless(body) or not self._send_at_once(pieces):
                self._send_in_a_thread(body, pieces)
        finally:
            if not self._given_away:
                _close_body(body)

    def _pieces(self, body: Iterable[bytes]) -> Iterator[bytes]:
        """Those that are to be sent. For HEAD none are; but the application may call start_response
        as late as for the first."""
        for piece in body:
            if self._request.method == "HEAD":
                return
            if piece:
                yield piece

    def _send_at_once(self, pieces: Iterator[bytes]) -> bool:
        """False if the client takes no more for now."""
        for piece in pieces:
            if not self._offer(self._with_head(piece)):
                return False
        return self._has_begun or self._offer(self._with_head(b""))

    def _with_head(self, piece: bytes) -> bytes:
        """A piece of the body, in one packet with the head if that was not sent."""
        if self._has_begun:
            return piece
        if self._status is None:
            raise RuntimeError("the application sends a body without start_response")
        data = self._host.make_head(self._status, self._headers) + piece
        self._has_begun = True
        return data

    def _offer(self, data: bytes) -> bool:
        """Send what the client takes at once; the rest is kept. False if there is some."""
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            raise ClientLeft from None
        self._unsent = data[sent:]
        return not self._unsent

    # The body, with patience

    def _send_in_a_thread(self, body: Iterable[bytes], pieces: Iterator[bytes]) -> None:
        """Have connection and body be a thread's, if there is one."""

        def send() -> None:
            try:
                self._send_rest(pieces)
            finally:
                _close_body(body)

        self._given_away = self._host.in_a_thread(lambda: self._guarded(send))
        if not self._given_away and not self._has_begun:
            self._offer(Busy().response)

    def _guarded(self, send: Callable[[], None]) -> None:
        try:
            send()
        except ClientLeft:
            log.debug("the client left before its response was sent")
        except BaseException:
            self._fail()
        finally:
            self._close()

    def _send_rest(self, pieces: Iterator[bytes]) -> None:
        self._sock.settimeout(WRITE_TIMEOUT)
        unsent, self._unsent = self._unsent, b""
        if unsent:
            self._send_all(unsent)
        for piece in pieces:
            self._send_all(self._with_head(piece))
        if not self._has_begun:
            self._send_all(self._with_head(b""))

    def _write(self, data: bytes) -> None:
        """What start_response returns, for applications that push: it waits for the client."""
        if self._request.method != "HEAD":
            self._sock.settimeout(WRITE_TIMEOUT)
            self._send_all(self._with_head(data))
            self._sock.setblocking(False)

    def _send_all(self, data: bytes) -> None:
        try:
            self._sock.sendall(data)
        except OSError:
            raise ClientLeft from None

    # The end

    def _fail(self) -> None:
        log.exception("error in the application, serving %r", self._request)
        if not self._has_begun:
            text = b"500 Internal Server Error\n\nThe server's log says what went wrong.\n"
            headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))]
            head = self._host.make_head("500 Internal Server Error", headers)
            with contextlib.suppress(OSError):
                self._sock.send(head + text)

    def _close(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.setblocking(False)
        # What is left unread would take the response back with a reset.
        receive(self._sock, CHUNK)
        with contextlib.suppress(OSError):
            self._sock.close()


def _check_head(status: str, headers: Headers) -> None:
    """Raises ValueError for what would end a line of the head before its end, or cannot be sent."""
    for text in (status, *(text for header in headers for text in header)):
        if any(character in text for character in "\r\n\0"):
            raise ValueError(f"no header can have a line's end or NUL in it: {text!r}")
        text.encode("latin-1")


def _close_body(body: Any) -> None:
    if hasattr(body, "close"):
        try:
            body.close()
        except BaseException:
            log.exception("error in the application, closing a response's body")
