"""How one process gives another its listeners, its feeds and its streams. For the other's side, see
succession.py.

The new process (the successor) calls at the Unix socket at which the old one listens. Then, on that
connection:

    successor   the call, with the version of this protocol
    old         an answer: how many descriptors come, and how long the state is; and its process id
    old         the descriptors, some at a time, and the state
    successor   READY: it could go on with all of it
    old         YOURS: it does nothing with it any more
    successor   SERVING: it goes on now

While that lasts the old process is held: no client's connection is touched. Up to SERVING each can
die or hang without harm. A successor that is gone before has changed nothing, and one that is too
late is killed before the old process goes on, so that never two of them serve. When the old process
is gone, a successor that has all of it goes on.

Only a process of the same user, or root's, is given anything: with the streams come the clients'
connections.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import struct
import sys
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from pushdemo.handover import messages
from pushdemo.handover.messages import Answer
from pushdemo.push.failure import failure_of

log = logging.getLogger(__name__)

VERSION = 2
GROUP = 200  # descriptors in a message; Linux allows 253
CHUNK = 1024 * 1024  # bytes
PATIENCE = 10.0  # seconds for each step of the other one

READY, YOURS, SERVING = b"R", b"Y", b"S"

_CREDENTIALS = struct.Struct("3i")


class Estate(Protocol):
    """What a process has to give. All methods are called in one thread."""

    @property
    def listeners(self) -> Sequence[socket.socket]:
        """Those beside the one at which the successor has called."""

    def hold(self) -> None:
        """Leave everything as it is, until `go_on` or `leave`. Raises where that cannot be."""

    def snapshot(self) -> tuple[bytes, list[socket.socket]]:
        """The state, and the clients' connections."""

    def go_on(self) -> None:
        """Nobody has taken it."""

    def leave(self) -> None:
        """It is the successor's now."""

    def end(self) -> float:
        """Stop as by SIGTERM, because the successor is of another release; returns in how many
        seconds this process will have left."""


def refusal(peer: socket.socket) -> str | None:
    """Why this peer is given nothing; None if it is given all."""
    pid, user = peer_of(peer)
    if user not in (0, os.geteuid()):
        return f"process {pid} is user {user}'s, and this one is user {os.geteuid()}'s"
    if pid == os.getpid():
        return "a process cannot take over from itself"
    return None


def peer_of(sock: socket.socket) -> tuple[int, int]:
    """The process and the user at the other end of a Unix socket; (0, -1) where the system does
    not tell."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return 0, -1
    pid, user, _ = _CREDENTIALS.unpack(
        sock.getsockopt(socket.SOL_SOCKET, option, _CREDENTIALS.size)
    )
    return pid, user


def give(sock: socket.socket, listener: socket.socket, estate: Estate) -> int | None:
    """Give the estate to the successor at the other end of `sock`, and close that. Returns the
    successor's process id, or None where it has not taken it, and this process goes on.

    listener: the one at which it has called.
    """
    successor, _ = peer_of(sock)
    began = time.monotonic()
    with sock:
        try:
            estate.hold()
        except Exception as error:
            _say(sock, Answer("unavailable", failure_of(error).summary))
            log.error("process %d cannot take over: %s", successor, failure_of(error))
            return None
        try:
            _give_held(sock, listener, estate)
        except Exception as error:
            estate.go_on()
            log.error("process %d has not taken over: %s", successor, failure_of(error).summary)
            return None
        except BaseException:
            estate.go_on()
            raise
        estate.leave()
    log.info("process %d has taken over, in %.2f s", successor, time.monotonic() - began)
    return successor


def _give_held(sock: socket.socket, listener: socket.socket, estate: Estate) -> None:
    """Raises what it may, where the successor has not taken it, and never will."""
    state, clients = estate.snapshot()
    listeners = [listener, *estate.listeners]
    fds = [one.fileno() for one in (*listeners, *clients)]
    counts = {"listeners": len(listeners), "clients": len(clients), "state": len(state)}
    sock.settimeout(PATIENCE)
    sock.sendall(
        messages.answer_message(
            Answer("done", result={"version": VERSION, "pid": os.getpid(), **counts})
        )
    )
    for start in range(0, len(fds), GROUP):
        rights = array("i", fds[start : start + GROUP])
        if sock.sendmsg([b"D"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]) != 1:
            raise ConnectionError("descriptors were not sent")  # a byte is sent, or nothing
    view = memoryview(state)
    for start in range(0, len(view), CHUNK):
        sock.sendall(view[start : start + CHUNK])
    expect(sock, READY)
    sock.sendall(YOURS)
    try:
        expect(sock, SERVING)
    except Exception as error:
        # It may go on with them in the next moment, unless it is dead.
        _kill(peer_of(sock)[0])
        if not _has_said(sock, SERVING):
            raise ConnectionError(f"{failure_of(error).summary}; it was ended") from None


def _has_said(sock: socket.socket, word: bytes) -> bool:
    """Whether a process that is dead still said that. Its words come before its end of file."""
    sock.settimeout(PATIENCE)
    try:
        return sock.recv(1) == word
    except OSError:
        return False


def _kill(pid: int) -> None:
    """Kill a process, and wait until it is dead. pid: 0 where the system does not tell it."""
    if pid <= 0:  # to kill(2), these are groups of processes
        return
    try:
        with watched(pid) as has_ended:
            os.kill(pid, signal.SIGKILL)
            has_ended(PATIENCE)
    except ProcessLookupError:
        pass
    except OSError:  # such as no descriptor left to watch it by
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def watched(pid: int) -> Iterator[Callable[[float], bool]]:
    """A function that waits for a process's end, at most so many seconds, and says whether it has
    ended; False also where the system does not tell. Raises ProcessLookupError where there is no
    such process, and OSError where it cannot be watched."""
    if sys.platform != "linux":
        os.kill(pid, 0)
        yield lambda _: False
        return
    descriptor = os.pidfd_open(pid)
    try:
        poll = select.poll()  # select() takes no descriptor beyond the 1,024th
        poll.register(descriptor, select.POLLIN)
        yield lambda seconds: bool(poll.poll(seconds * 1000))
    finally:
        os.close(descriptor)


def _say(sock: socket.socket, answer: Answer) -> None:
    with contextlib.suppress(OSError):
        sock.settimeout(PATIENCE)
        sock.sendall(messages.answer_message(answer))


def expect(sock: socket.socket, word: bytes) -> None:
    """Raises OSError where it does not come, ValueError where something else does."""
    said = sock.recv(1)
    if not said:
        raise ConnectionError("it is gone")
    if said != word:
        raise ValueError(f"it said {said!r} instead of {word!r}")


def refuse(sock: socket.socket, why: str) -> None:
    """Say why nothing is given, and close."""
    with sock:
        _say(sock, Answer("refused", why))


def say_leaving(sock: socket.socket, seconds: float) -> None:
    """Say that this process speaks another version, and leaves by itself; and close."""
    with sock:
        _say(sock, Answer("done", result={"leaves_in": seconds}))
