"""The worker's side of the handover.

A call is one connection: connect, send, wait for the answer, close. No state is kept between calls,
so threads, forked processes and gevent's greenlets share a `Handover` freely. Each call ends within
`timeout` seconds.

An error says what has become of the client's connection:
- `BroadcasterAway`: it is the worker's alone. The worker answers, with 503.
- `Refused`: it is the worker's alone. The worker answers, with what was refused.
- `HandoverLost`: the broadcaster may have it, and may be writing to it. The worker shuts it down,
  which ends it for both, and the client comes again.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import time
from array import array
from typing import Any

from pushdemo.handover import messages, wire
from pushdemo.handover.address import socket_path
from pushdemo.handover.messages import (
    Adoption,
    Answer,
    Call,
    HealthQuestion,
    Publication,
    Refused,
    Request,
)

CHUNK = 16 * 1024  # bytes; an answer has some hundred
FIRST_PAUSE, LONGEST_PAUSE = 0.001, 0.05  # seconds, while the broadcaster's backlog is full


class BroadcasterAway(Exception):
    """The broadcaster has not done what was asked for, and cannot at present.

    It does not run, it has no descriptors left, or it is of another version. The message names the
    address, and says what happened and what to do.
    """


class HandoverLost(Exception):
    """The whole message was sent, and no answer came. The broadcaster may have done it, or not."""


class Handover:
    """Calls the broadcaster at `address`.

    address: `unix:/run/pushdemo.sock`, see `socket_path`.
    timeout: seconds that a call may take.

    Raises ValueError where the address is none.
    """

    def __init__(self, address: str, timeout: float = 5.0) -> None:
        self.address = address
        self._path = socket_path(address)
        self._timeout = timeout

    def give(self, sock: socket.socket, request: Request) -> None:
        """Give the broadcaster a client's connection.

        It gets a copy: `sock` stays open, and has to be closed by the caller. It must not be
        written to afterwards, whatever its mode: both copies are one connection.

        Raises BroadcasterAway, HandoverLost and Refused, see the module; ValueError where the
        request is too large or the socket is closed.
        """
        if sock.fileno() < 0:
            raise ValueError("the connection is closed already")
        self._call(request, sock)

    def publish(self, feed: str, content_type: str, body: bytes, *, key: str | None = None) -> str:
        """Send a value to the watchers of a feed; returns the event's id.

        key: see pushdemo.push.published.

        Raises BroadcasterAway, HandoverLost and Refused.
        """
        try:
            publication = Publication(feed, content_type, body, key)
        except ValueError as error:
            raise Refused(str(error)) from None
        return str(self._call(publication))

    def offer(self, state: bytes, sock: socket.socket) -> None:
        """Give it a client, by the state of its stream: see pushdemo.push.engine.Engine.leave. As
        in `give`, it gets a copy.

        Raises BroadcasterAway, HandoverLost and Refused.
        """
        self._call(Adoption(state), sock)

    def health(self) -> dict[str, Any]:
        """How the broadcaster is. Raises BroadcasterAway and HandoverLost."""
        health = self._call(HealthQuestion())
        return health if isinstance(health, dict) else {}

    def _call(self, call: Call, passenger: socket.socket | None = None) -> object:
        message, body = messages.call_message(call), messages.body_of(call)
        with contextlib.ExitStack() as stack:
            deadline = time.monotonic() + self._timeout
            try:
                conversation = stack.enter_context(_Conversation(self._path, deadline))
                conversation.send(message, body, passenger)
            except OSError as error:
                raise BroadcasterAway(f"{self.address}: {_explain(error)}") from None
            try:
                answer = conversation.answer()
            except wire.OtherVersion as error:
                raise BroadcasterAway(
                    f"{self.address}: the broadcaster speaks version {error.version} of the "
                    f"protocol, and this worker version {wire.VERSION}: restart both with the same "
                    "release of pushdemo"
                ) from None
            except (OSError, wire.Malformed) as error:
                said = str(error) or type(error).__name__
                if conversation.sent:
                    raise HandoverLost(f"{self.address}: no answer: {said}") from None
                raise BroadcasterAway(f"{self.address}: hung up: {said}") from None
        return self._result(answer)

    def _result(self, answer: Answer) -> object:
        if answer.status == "refused":
            raise Refused(answer.explanation)
        if answer.status == "unavailable":
            raise BroadcasterAway(f"{self.address}: {answer.explanation}")
        return answer.result


class _Conversation:
    """One call's connection. Everything raises OSError, TimeoutError at the deadline."""

    def __init__(self, path: str, deadline: float) -> None:
        self._deadline = deadline
        self.sent = False  # the whole message
        # Looked up now, and not when this module is imported: gevent may have replaced it since.
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._connect(path)
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> _Conversation:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, message: bytes, body: bytes, passenger: socket.socket | None) -> None:
        """Send a message. One that the broadcaster does not read to its end has been answered
        already, or never will be: that is no error here."""
        try:
            self._send(message, passenger)
            self._send(body)
        except (BrokenPipeError, ConnectionResetError):
            return
        self.sent = True

    def answer(self) -> Answer:
        """Wait for the answer. Raises Malformed too."""
        parser = wire.Parser()
        while parser.message is None:
            self._limit()
            data = self._socket.recv(CHUNK)
            if not data:
                raise ConnectionResetError("the connection was closed")
            parser.receive(data)
        return messages.read_answer(parser.message)

    def _connect(self, path: str) -> None:
        # A Unix socket connects at once, or not at all: where the backlog is full, connect raises
        # EAGAIN, and nothing tells when to try again. A socket with a timeout does the same.
        self._socket.setblocking(False)
        pause = FIRST_PAUSE
        while True:
            try:
                return self._socket.connect(path)
            except BlockingIOError:
                if time.monotonic() + pause > self._deadline:
                    raise TimeoutError("its backlog is full") from None
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _send(self, data: bytes, passenger: socket.socket | None = None) -> None:
        rest = memoryview(data)
        while rest:
            self._limit()
            if passenger is None:
                sent = self._socket.send(rest)
            else:
                rights = array("i", [passenger.fileno()])
                ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]
                sent = self._socket.sendmsg([rest], ancillary)
                passenger = None  # it goes with the first byte
            rest = rest[sent:]

    def _limit(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._socket.settimeout(left)


def _explain(error: OSError) -> str:
    """What happened, and what to do."""
    match error.errno:
        case errno.ENOENT | errno.ECONNREFUSED | errno.ENOTDIR:
            return "no broadcaster runs there: start `pushdemo broadcaster`"
        case errno.EACCES | errno.EPERM:
            return (
                f"user {os.geteuid()} may not use this socket: see the permissions of it and of "
                "its directories, and `pushdemo broadcaster --mode`"
            )
        case errno.EMFILE | errno.ENFILE | errno.ETOOMANYREFS:
            return f"the worker has no descriptor left: {error.strerror}"
        case _:
            return f"{error}: is the broadcaster busy or stopped?"
