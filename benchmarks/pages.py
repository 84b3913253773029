"""A visitor who looks at ordinary pages while the streams are up, in the clients' own loop."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Callable, Sequence

from benchmarks.clients import CHUNK, Address, Loop

PACE = 0.01  # seconds from one page to the next, between beats; during one there is no pause


class Visitor:
    """Asks for `paths` in turn, one at a time, each on a connection of its own.

    busy: whether the server is delivering an event.
    times: by path and whether that was so at any time of it: the seconds that a page took, from
        its connect to the end of the answer.
    statuses: by path, the status of the last answer.
    """

    def __init__(
        self, loop: Loop, address: Address, paths: Sequence[str], busy: Callable[[], bool]
    ) -> None:
        self._loop = loop
        self._address = address
        self._paths = paths
        self._busy = busy
        self._visits = 0
        self._sock: socket.socket | None = None
        self._due = 0.0
        self.times: dict[tuple[str, bool], list[float]] = {
            (path, busy): [] for path in paths for busy in (True, False)
        }
        self.statuses: dict[str, str] = {}

    def step(self) -> None:
        """Ask for the next page, if it is time. To be called at each turn of the loop."""
        if self._sock is None and (self._busy() or time.monotonic() >= self._due):
            self._ask()

    def leave(self) -> None:
        """Give up the page that is under way."""
        if self._sock is not None:
            self._loop.close(self._sock)
            self._sock = None

    def _ask(self) -> None:
        self._path = self._paths[self._visits % len(self._paths)]
        self._visits += 1
        self._during = self._busy()
        self._answer = b""
        self._began = time.monotonic()
        self._sock = socket.socket()
        self._sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            self._sock.connect(self._address)
        self._loop.watch(self._sock, select.EPOLLOUT, self._send)

    def _send(self) -> None:
        assert self._sock is not None
        host, port = self._address
        request = f"GET {self._path} HTTP/1.0\r\nHost: {host}:{port}\r\n\r\n"
        self._sock.send(request.encode())
        self._loop.watch(self._sock, select.EPOLLIN, self._read)

    def _read(self) -> None:
        assert self._sock is not None
        try:
            data = self._sock.recv(CHUNK)
        except OSError:
            data = b""
        self._answer += data
        if data:
            return
        now = time.monotonic()
        self.times[self._path, self._during or self._busy()].append(now - self._began)
        line = self._answer.partition(b"\r\n")[0].decode("latin-1")
        self.statuses[self._path] = line.partition(" ")[2] or "no answer"
        self._due = now + PACE
        self.leave()
