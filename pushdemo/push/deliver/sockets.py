"""What is done to sockets. Two calls are made for many at a time: accept, and send the same to all.

Where a compiler was there when pushdemo was installed, they are in C (_sockets.c), which lets the
interpreter's lock go once for all sockets, and beside a thread that computes waits for it once.
Otherwise they are the loops below, which do the same, and let it go for each socket. The variable
PUSHDEMO_PURE_PYTHON chooses those, too: to see whether a trouble comes from the others.

Any thread may call these.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from array import array
from collections.abc import Sequence
from struct import Struct
from typing import NamedTuple

_CHOSEN = bool(os.environ.get("PUSHDEMO_PURE_PYTHON"))
_import_error: ImportError | None = None
try:
    import pushdemo.push.deliver._sockets as _sockets  # its error is clearer than that of from
except ImportError as error:  # not compiled, or not for this system
    _import_error = error
IN_C = _import_error is None and not _CHOSEN

# What a slow client may leave in the kernel, in bytes (Linux doubles it for its bookkeeping). Left
# alone it grows to megabytes for each, full of values that are no longer the newest.
SEND_BUFFER = 64 * 1024
# A silent peer is probed after 30 s, then every 10 s, and given up when three probes are lost.
KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
_TCP_OPTIONS = [
    (getattr(socket, name), value)
    for name, value in {"TCP_NODELAY": 1, **KEEPALIVE}.items()
    if hasattr(socket, name)
]
# Linux's struct tcp_info (tcp(7), linux/tcp.h): tcpi_unacked, tcpi_bytes_acked, tcpi_notsent_bytes.
_TCP_INFO: int | None = getattr(socket, "TCP_INFO", None) if sys.platform == "linux" else None
_INFO = Struct("24x I 92x Q 16x I")

# A connection, and what came on it: nothing, if it has ended; None, if nothing has come yet.
Arrival = tuple[socket.socket, bytes | None]

# What accept fails with when it is not the connection's fault: there are no descriptors or no
# memory, or the listener has been closed or was none.
EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
BROKEN = {errno.EBADF, errno.EINVAL, errno.ENOTSOCK}
# What is tried again when the socket is ready. A client is not given up for want of memory here.
_TEMPORARY = {errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS, errno.ENOMEM}
# Python ignores SIGPIPE, and a program that embeds it may not.
_NO_SIGNAL: int = getattr(socket, "MSG_NOSIGNAL", 0)


def missing_in_c() -> str | None:
    """One line for who runs this: the calls are in Python, what that costs, and what helps. None
    where they are in C, or in Python by choice."""
    if _import_error is None or _CHOSEN:
        return None
    return (
        f"the part in C is missing ({_import_error}): beside a feed that computes, sending to"
        " thousands of clients takes seconds; install a C compiler and Python's headers (on Debian:"
        " apt install gcc libc6-dev python3-dev), and pushdemo again. PUSHDEMO_PURE_PYTHON=1"
        " chooses to do without it"
    )


def accept(
    listener: socket.socket, *, most: int, size: int, highest: int = sys.maxsize
) -> list[Arrival]:
    """The connections that wait to be accepted, each non-blocking, and what has come on it.

    most: how many, at most.
    size: bytes that are read of each, at most.
    highest: the last is one whose descriptor is at least that.

    Raises OSError where the first cannot be had for want of descriptors or memory (EXHAUSTED), or
    because the listener does not listen (BROKEN); ValueError where `most` or `size` is less than 1.
    """
    if most < 1 or size < 1:
        raise ValueError("most and size must be at least 1")
    if not IN_C:
        return _accept_each(listener, most, size, highest)
    # Python knows it for non-blocking by this bit, and need not make it so.
    kind = listener.type | getattr(socket, "SOCK_NONBLOCK", 0)
    arrivals = []
    for fd, data in _sockets.accept(listener.fileno(), most, size, min(highest, 2**31 - 1)):
        sock = socket.socket(listener.family, kind, listener.proto, fileno=fd)
        arrivals.append((sock, data))
    return arrivals


def _accept_each(listener: socket.socket, most: int, size: int, highest: int) -> list[Arrival]:
    arrivals: list[Arrival] = []
    for _ in range(most):
        try:
            sock, _address = listener.accept()
        except BlockingIOError:
            break
        except OSError as error:
            if error.errno not in EXHAUSTED | BROKEN:
                continue  # that client has left already
            if arrivals:
                break
            raise
        sock.setblocking(False)
        arrivals.append((sock, receive(sock, size)))
        if sock.fileno() >= highest:
            break
    return arrivals


def receive(sock: socket.socket, size: int) -> bytes | None:
    """What has come on a non-blocking socket, at most `size` bytes of it: nothing if it has ended,
    by an error too, None if nothing has come yet. Raises ValueError where `size` is less than 1:
    the kernel would answer that as it answers an end."""
    if size < 1:
        raise ValueError("size must be at least 1")
    try:
        return sock.recv(size)
    except OSError as error:
        return None if error.errno in _TEMPORARY else b""


def send_to_all(
    socks: Sequence[socket.socket],
    fds: array[int],
    start: int,
    stop: int,
    data: bytes | memoryview,
    *,
    backwards: bool = False,
    senders: int = 1,
) -> list[tuple[int, int]]:
    """Send the same bytes to each of the non-blocking `socks[start:stop]`.

    fds: their descriptors.
    backwards: begin with the last.
    senders: how many threads share the work, at most; in Python there is one.

    Returns the index of each that did not take all of it, and how many bytes it took: -1 if it is
    gone. One that could not take any for want of memory in the kernel is not gone.

    Raises IndexError where there are not that many sockets, before anything is sent.
    """
    if IN_C:
        return _sockets.send_to_all(fds, start, stop, data, backwards, senders)
    if not 0 <= start <= stop <= len(fds):
        raise IndexError("there are not that many sockets")
    short = []
    size = memoryview(data).nbytes
    order = range(start, stop)
    for index in reversed(order) if backwards else order:
        try:
            sent = socks[index].send(data, _NO_SIGNAL)
        except OSError as error:
            sent = 0 if error.errno in _TEMPORARY else -1
        if sent != size:
            short.append((index, sent))
    return short


class Progress(NamedTuple):
    """How far a peer has come. taken: the bytes that it has acknowledged. owes: whether there are
    some that it has not."""

    taken: int
    owes: bool


def progress(sock: socket.socket) -> Progress | None:
    """How far the peer of a connection of TCP has come. None where that cannot be known: on another
    system than Linux, and of other sockets.

    An end to this is not left to TCP_USER_TIMEOUT. Linux counts all the time in which a window is
    smaller than what waits for it, and so ends connections whose peer reads steadily, but slowly.
    """
    if _TCP_INFO is None:
        return None
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _INFO.size)
    except OSError:
        return None
    if len(info) < _INFO.size:  # an old kernel
        return None
    unacked, taken, unsent = _INFO.unpack(info)
    return Progress(taken, unacked > 0 or unsent > 0)


def tune(sock: socket.socket) -> None:
    """Set what a long-lived stream needs, as far as this system knows it: no delay, bounded
    buffers, and keepalive."""
    if sock.gettimeout() != 0:
        sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _TCP_OPTIONS:
        sock.setsockopt(socket.IPPROTO_TCP, option, value)
