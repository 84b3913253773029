"""The client's connection, taken off whatever WSGI server this is.

A server that knows nothing of streams must not notice that its connection is gone: it goes on to
write a response, and closes the connection. So the server keeps its descriptor, and something else
is put behind that: one end of a pair of sockets, whose other end reads nothing and has sent an end
of file. The response that the server writes goes there. Its accounting, its keep-alive and its
timeouts work as for a client that closed its connection. (`dup` and `dup2`, POSIX.)

gunicorn and werkzeug put the socket into `environ`; uWSGI has a function for its descriptor. A
connection whose TLS is the server's own cannot be given away, since its bytes are not those of the
wire; nor can HTTP/2, which has many responses on one connection.
"""

from __future__ import annotations

import importlib
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from pushdemo.push.stream import HANDS_OFF

# From servers that have the socket itself.
_SOCKETS = ("gunicorn.socket", "werkzeug.socket")
# Options of uWSGI by which what is on the wire is not the response itself: encrypted, or in frames.
# A response in uWSGI's own protocol (`socket`, `http`, and nginx's uwsgi_pass) is as in HTTP.
_UWSGI_SOCKETS = (
    *("https-socket", "suwsgi-socket", "fastcgi-socket", "fastcgi-nph-socket"),
    *("scgi-socket", "scgi-nph-socket", "http2-socket"),
)


class Connection(Protocol):
    """The client's connection."""

    def duplicate(self) -> socket.socket:
        """The same connection once more, for who takes it. Raises OSError."""

    def detach(self) -> Decoy:
        """Take it from the server, which is given a decoy. Raises OSError, and then nothing has
        happened."""


class Decoy:
    """What the server writes to in place of the client: the body of its response, which is empty.

    The far end must outlive the server's writing, which would fail otherwise; a server closes the
    body after it has written.
    """

    def __init__(self, far: socket.socket) -> None:
        self._far = far

    def __iter__(self) -> Iterator[bytes]:
        return iter(())

    def close(self) -> None:
        """More than once is no error."""
        self._far.close()


class Descriptor:
    """A connection of which a server has told the descriptor. See the module."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def duplicate(self) -> socket.socket:
        return socket.socket(fileno=os.dup(self._fd))

    def detach(self) -> Decoy:
        near, far = socket.socketpair()
        with near:
            try:
                far.shutdown(socket.SHUT_WR)
                os.dup2(near.fileno(), self._fd, inheritable=False)
            except BaseException:
                far.close()
                raise
        return Decoy(far)


class Served:
    """A connection of pushdemo's own server, which takes a stream from the response's body."""


def connection_of(environ: Mapping[str, Any]) -> Connection | Served | None:
    """The connection of a request; None if it cannot be taken off its server."""
    if HANDS_OFF in environ:
        return Served()
    if not environ.get("SERVER_PROTOCOL", "").startswith("HTTP/1."):
        return None
    for find in (_in_environ, _uwsgi):
        if (fd := find(environ)) is not None:
            return Descriptor(fd)
    return None


def _in_environ(environ: Mapping[str, Any]) -> int | None:
    for name in _SOCKETS:
        sock = environ.get(name)
        # An ssl.SSLSocket has a cipher, gevent's and eventlet's as well.
        if sock is not None and not hasattr(sock, "cipher"):
            return _open(sock.fileno)
    return None


def _uwsgi(environ: Mapping[str, Any]) -> int | None:
    if "uwsgi.version" not in environ:
        return None
    uwsgi: Any = importlib.import_module("uwsgi")  # the server's own: it is there in a worker only

    if any(name in uwsgi.opt or name.encode() in uwsgi.opt for name in _UWSGI_SOCKETS):
        return None
    return _open(uwsgi.connection_fd)


def _open(fileno: Callable[[], int]) -> int | None:
    try:
        fd = fileno()
    except (OSError, ValueError):
        return None
    return fd if fd >= 0 else None
