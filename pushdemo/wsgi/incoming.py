"""The broadcaster process's side of a handover: what workers send, and what becomes of it."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pushdemo.handover.messages import Refused, Request
from pushdemo.push.engine import UnknownFeed
from pushdemo.push.head import Head
from pushdemo.push.places import Places
from pushdemo.push.stream import HandsOff, TooManyStreams
from pushdemo.wsgi.errors import RequestError
from pushdemo.wsgi.responder import error_response, whole

if TYPE_CHECKING:
    from pushdemo.library import Push

log = logging.getLogger(__name__)

WRITE_TIMEOUT = 60.0  # seconds that a client has to take a response that is no stream
# Clients that take one slowly, with a thread each; one more is dropped.
MOST_SLOW = 100
CHATTER = 64 * 1024


class Incoming:
    """Answers the requests that workers hand over. See pushdemo.handover.server.Handler."""

    def __init__(self, push: Push) -> None:
        self._push = push
        self._slow = Places(MOST_SLOW)

    def take(self, sock: socket.socket, request: Request) -> None:
        """Answer a request on its connection."""
        make_head = Head(tuple(request.headers))
        try:
            status, headers, body = self._push.answer_here(request.environ, request.feeds)
        except RequestError as error:
            status, headers, body = whole(error_response(error))
        head = make_head(status, headers)
        if isinstance(body, HandsOff):
            body.hand_off(sock, head, make_head)
            return
        content = b"" if request.environ.get("REQUEST_METHOD") == "HEAD" else b"".join(body)
        self._send(sock, head + content)

    def adopt(self, sock: socket.socket, state: bytes) -> None:
        """Go on with a client of the process before this one. Raises Refused where its feed or its
        place is not there."""
        try:
            self._push.engine.adopt(state, sock)
        except (UnknownFeed, TooManyStreams, ValueError) as error:
            raise Refused(str(error) or "all streams are taken") from None

    def publish(self, feed: str, content_type: str, body: bytes, key: str | None) -> str:
        """Publish a value. Raises Refused where there is no such feed, or it is no value."""
        try:
            return self._push.publish_body(feed, content_type, body, key=key)
        except (UnknownFeed, ValueError) as error:
            raise Refused(str(error)) from None

    def health(self) -> Mapping[str, Any]:
        """See Push.health and Push.types."""
        threads = {name: one._asdict() for name, one in self._push.health().items()}
        return {"threads": threads, "types": self._push.types()}

    def _send(self, sock: socket.socket, data: bytes) -> None:
        """Send a whole response and close, without waiting for a client that takes it slowly."""
        sock.setblocking(False)
        try:
            sent = sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            sent = len(data)  # the client has left
        rest = memoryview(data)[sent:]
        if not rest or not self._slow.take():
            _close(sock)
            return

        def send_rest() -> None:
            try:
                sock.settimeout(WRITE_TIMEOUT)
                with contextlib.suppress(OSError):
                    sock.sendall(rest)
            finally:
                _close(sock)
                self._slow.leave()

        threading.Thread(target=send_rest, name="pushdemo-response", daemon=True).start()


def _close(sock: socket.socket) -> None:
    with contextlib.closing(sock), contextlib.suppress(OSError):
        # What is left unread would take the response back with a reset.
        sock.setblocking(False)
        sock.recv(CHATTER)
