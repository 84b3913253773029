"""A caller: the connection of one call, as the broadcaster sees it.

Callers are trusted with nothing: a process that may open the socket may send anything, and close it
at any time. Every descriptor that comes is kept in `Caller` from the moment it is here, so that
none is left open, whatever comes next.
"""

from __future__ import annotations

import contextlib
import os
import socket
from array import array
from collections.abc import Iterable

from pushdemo.handover import wire
from pushdemo.handover.wire import Malformed, Message

FIRST = 8 * 1024  # bytes that are read at once while the header has not come
CHUNK = 256 * 1024  # bytes that are read at once of a body
SLOWEST = 1024 * 1024  # bytes a second: a caller has so much more time as it has sent more

# Room for more descriptors than the one that may come, to tell a second one from a lack of them.
_ROOM = socket.CMSG_SPACE(4 * array("i").itemsize)
_FLAGS = getattr(socket, "MSG_CMSG_CLOEXEC", 0)  # not in macOS


class NoDescriptors(Exception):
    """A connection was sent, and the process has no descriptor left to receive it."""


class Caller:
    """Owns `sock`, which does not block.

    max_body: bytes.
    deadline: a time, by any clock in seconds. It is put off while a body comes.
    """

    def __init__(self, sock: socket.socket, max_body: int, deadline: float) -> None:
        self.deadline = deadline
        self._socket = sock
        self._parser = wire.Parser(max_body)
        self._passengers: list[int] = []

    def fileno(self) -> int:
        """For a selector."""
        return self._socket.fileno()

    @property
    def body_length(self) -> int:
        """Bytes of the body that is announced."""
        return self._parser.body_length

    def receive(self) -> Message | None:
        """Read once; the message, when all of it has come.

        Raises BlockingIOError where there is nothing, another OSError where the caller is gone,
        Malformed, and NoDescriptors.
        """
        size = min(max(FIRST, self._parser.missing), CHUNK)
        data, ancillary, flags, _ = self._socket.recvmsg(size, _ROOM, _FLAGS)
        self._passengers += _descriptors(ancillary)
        if flags & socket.MSG_CTRUNC and not self._passengers:
            raise NoDescriptors
        if len(self._passengers) > 1:
            raise Malformed("more than one descriptor")
        if not data:
            raise ConnectionResetError
        self.deadline += len(data) / SLOWEST
        self._parser.receive(data)
        return self._parser.message

    def passenger(self) -> socket.socket:
        """The connection that came with the message. It is the receiver's from now on.

        Raises Malformed where there is none, or something else came.
        """
        if not self._passengers:
            raise Malformed("no connection came with the request")
        try:
            passenger = socket.socket(fileno=self._passengers[0])
        except OSError:
            raise Malformed("what came with the request is no socket") from None
        self._passengers.clear()
        if not _is_connection(passenger):
            passenger.close()
            raise Malformed("what came with the request is no connection")
        return passenger

    def answer(self, message: bytes) -> None:
        """Send the answer. A caller that does not take it gets none."""
        with contextlib.suppress(OSError):
            # At once, or not at all: nothing was sent before, so it has room for it.
            self._socket.send(message)

    def detach(self) -> socket.socket:
        """Its connection, for a conversation of another kind. What came with the call is closed."""
        sock = socket.socket(self._socket.family, self._socket.type, fileno=self._socket.detach())
        self.close()
        return sock

    def close(self) -> None:
        """Also what came and was not taken."""
        self._socket.close()
        while self._passengers:
            os.close(self._passengers.pop())


def _descriptors(ancillary: Iterable[tuple[int, int, bytes]]) -> list[int]:
    found = array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    if not _FLAGS:
        for descriptor in found:
            os.set_inheritable(descriptor, False)
    return found.tolist()


def _is_connection(sock: socket.socket) -> bool:
    return (
        sock.family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
        and sock.type == socket.SOCK_STREAM
        and not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    )
