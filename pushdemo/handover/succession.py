"""How a process takes over from another: see takeover.py for what is said."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from array import array
from typing import Any, NamedTuple

from pushdemo.handover import messages, wire
from pushdemo.handover.messages import Answer, TakeOver
from pushdemo.handover.takeover import (
    CHUNK,
    GROUP,
    PATIENCE,
    READY,
    SERVING,
    VERSION,
    YOURS,
    expect,
    watched,
)
from pushdemo.push.deliver import descriptors
from pushdemo.push.failure import failure_of

log = logging.getLogger(__name__)

MOST_DESCRIPTORS = 1_000_000
MOST_STATE = 4 * 1024**3  # bytes

_CLOEXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)  # not in macOS
_ROOM = socket.CMSG_SPACE(GROUP * array("i").itemsize)


class NotGiven(Exception):
    """There is nothing to take over: nobody is there, or it died. Start without it."""


class OldGoesOn(Exception):
    """The old process keeps what it has, and this one must not serve. The message says why."""


class OtherVersion(Exception):
    """The old process speaks another version of this, and is about to leave by itself.

    drain: in how many seconds.
    """

    def __init__(self, drain: float) -> None:
        super().__init__(drain)
        self.drain = drain


class Counts(NamedTuple):
    """What comes. pid: of the old process. state: bytes."""

    pid: int
    listeners: int
    clients: int
    state: int

    @classmethod
    def read(cls, result: Any) -> Counts:
        """Raises OldGoesOn."""
        most = {"pid": 2**31, "listeners": 100, "clients": MOST_DESCRIPTORS, "state": MOST_STATE}
        values: list[int] = []
        for name in cls._fields:
            value = result.get(name) if isinstance(result, dict) else None
            if type(value) is not int or not 0 <= value <= most[name]:
                raise OldGoesOn("the old process's answer is not understood")
            values.append(value)
        return cls(*values)

    def check_limit(self) -> None:
        """Raises OldGoesOn where this process may not have so many descriptors."""
        need = self.listeners + self.clients + descriptors.RESERVE
        if descriptors.raise_limit() < need:
            raise OldGoesOn(
                f"{self.clients} streams come, and this process may have {descriptors.limit()}"
                " descriptors open: raise its limit of open files (ulimit -n)"
            )


class Inheritance:
    """What the old process has given: it serves until `take`.

    listeners: the first is the one at which it was called.
    clients: the clients' connections, non-blocking.
    """

    def __init__(self, sock: socket.socket, counts: Counts) -> None:
        self._sock = sock
        self._counts = counts
        self._fds: list[int] = []
        self.listeners: list[socket.socket] = []
        self.clients: list[socket.socket] = []
        self.state = b""

    def receive(self) -> None:
        """Raises OSError where not all of it comes; what came is closed then."""
        try:
            self._receive_descriptors()
            self._receive_state()
        except BaseException:
            self.close()
            raise

    def take(self) -> None:
        """From here on it is this process's, which is ready. Raises OldGoesOn."""
        with self._sock as sock:
            try:
                sock.sendall(READY)
                expect(sock, YOURS)
            except (OSError, ValueError) as error:
                if not is_dead(self._counts.pid):
                    raise OldGoesOn(failure_of(error).summary) from None
                log.warning("the old process died while it was taken over")
                return
            with contextlib.suppress(OSError):  # it died
                sock.sendall(SERVING)

    def close(self) -> None:
        """Give up what has come. More than once is no error."""
        for sock in (self._sock, *self.listeners, *self.clients):
            sock.close()
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()

    def _receive_descriptors(self) -> None:
        wanted = self._counts.listeners + self._counts.clients
        while len(self._fds) < wanted:
            data, ancillary, flags, _ = self._sock.recvmsg(1, _ROOM, _CLOEXEC)
            for level, kind, content in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    some = array("i")
                    some.frombytes(content[: len(content) - len(content) % some.itemsize])
                    self._fds.extend(some)
            if not data:
                raise ConnectionError("it is gone")
            if flags & socket.MSG_CTRUNC:
                raise ConnectionError("this process has no descriptors left")
        if not _CLOEXEC:
            for fd in self._fds:
                os.set_inheritable(fd, False)
        self._fds.reverse()
        for group, count in ((self.listeners, self._counts.listeners), (self.clients, wanted)):
            while len(group) < count and self._fds:
                sock = socket.socket(fileno=self._fds[-1])
                self._fds.pop()
                sock.setblocking(False)
                group.append(sock)

    def _receive_state(self) -> None:
        state = bytearray()
        while len(state) < self._counts.state:
            data = self._sock.recv(min(CHUNK, self._counts.state - len(state)))
            if not data:
                raise ConnectionError("it is gone")
            state += data
        self.state = bytes(state)


def ask(path: str) -> Inheritance:
    """Ask the process that listens at a Unix socket's path for all it has.

    Raises NotGiven, OldGoesOn and OtherVersion.
    """
    sock = _connect(path)
    try:
        counts = Counts.read(_call(sock))
        counts.check_limit()
        inheritance = Inheritance(sock, counts)
        try:
            inheritance.receive()
        except (OSError, ValueError) as error:
            if is_dead(counts.pid):
                raise NotGiven("the old process died before it had given all it has") from None
            raise OldGoesOn(failure_of(error).summary) from None
        return inheritance
    except BaseException:
        sock.close()
        raise


def _connect(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(PATIENCE)
    try:
        sock.connect(path)
    except BaseException as error:
        sock.close()
        if isinstance(error, FileNotFoundError | ConnectionRefusedError):
            raise NotGiven("nobody is there") from None
        if isinstance(error, OSError):
            raise OldGoesOn(f"{path}: {error}") from None
        raise
    return sock


def _call(sock: socket.socket) -> object:
    """What the old process says that it gives."""
    try:
        sock.sendall(messages.call_message(TakeOver(VERSION)))
        answer = _answer(sock)
    except wire.OtherVersion as error:
        raise OldGoesOn(
            f"it speaks version {error.version} of the protocol, and this process {wire.VERSION}:"
            " stop it, and start this one without --take-over"
        ) from None
    except (OSError, ValueError) as error:
        raise OldGoesOn(f"it does not answer: {failure_of(error).summary}") from None
    if answer.status != "done":
        raise OldGoesOn(answer.explanation)
    if isinstance(answer.result, dict) and "leaves_in" in answer.result:
        raise OtherVersion(float(answer.result["leaves_in"]))
    return answer.result


def _answer(sock: socket.socket) -> Answer:
    """The first message, and not a byte more: descriptors come with the next. Raises OSError and
    Malformed."""
    parser = wire.Parser()
    while parser.message is None:
        data = sock.recv(parser.missing)
        if not data:
            raise ConnectionResetError("the connection was closed")
        parser.receive(data)
    return messages.read_answer(parser.message)


def is_dead(pid: int) -> bool:
    """Whether that process has ended, or ends in this moment."""
    try:
        with watched(pid) as has_ended:
            return has_ended(1.0)
    except ProcessLookupError:
        return True
    except OSError:
        return False


def wait_for_leaving(path: str, seconds: float) -> None:
    """Until nobody listens at a Unix socket's path. Raises OldGoesOn if somebody still does."""
    deadline = time.monotonic() + seconds
    while True:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(PATIENCE)
            try:
                probe.connect(path)
            except (FileNotFoundError, ConnectionRefusedError):
                return
            except OSError:
                pass
        if time.monotonic() >= deadline:
            raise OldGoesOn("it was to leave, and has not")
        time.sleep(0.05)


def succeed(path: str) -> Inheritance | None:
    """What the process at a Unix socket's path has; None where there is none, or no more, so that
    this process starts as any other. Raises OldGoesOn."""
    try:
        return ask(path)
    except NotGiven as error:
        log.info("nothing is taken over: %s", error)
        return None
    except OtherVersion as error:
        log.warning("the old process is of another release: its clients are told to come back")
        wait_for_leaving(path, error.drain + PATIENCE)
        return None
