"""Clients by the thousand, in one thread: each asks for a stream, and notes when an event is whole.

The arrivals are only as good as this loop is idle: a client that is always busy reports its own
lateness as the server's. So it does as little as it can for each event. All clients are sent the
same bytes, and bytes that were just seen are not looked through again; an arrival is one number in
a list. How busy it was while values were delivered is a line of every result (see
streams.py): as long as that is clearly under one core, the server is what was waited for.

Nothing here knows what is served or how: a stream is a request, and a pattern that finds its
events. Linux only.
"""

from __future__ import annotations

import contextlib
import resource
import select
import socket
import time
from collections.abc import Callable

from benchmarks.wires import Wire, plain

Address = tuple[str, int]

CHUNK = 64 * 1024
BATCH = 64  # sockets looked after between two such looks
# Streams from one source address. Linux gives one address 28,232 ports, and finding the last of
# them takes long.
PORTS = 20_000
_IP_BIND_ADDRESS_NO_PORT = 24  # <linux/in.h>; not in Python's socket before 3.12


def raise_descriptor_limit() -> int:
    """Raise the number of descriptors as far as this user may, and return it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


class Loop:
    """Calls whoever watches a socket when it is ready."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._ready: dict[int, Callable[[], None]] = {}

    def watch(self, sock: socket.socket, mask: int, ready: Callable[[], None]) -> None:
        """Call `ready` from now on when `sock` is; errors and hang-ups are always told."""
        known = sock.fileno() in self._ready
        (self._epoll.modify if known else self._epoll.register)(sock, mask)
        self._ready[sock.fileno()] = ready

    def close(self, sock: socket.socket) -> None:
        """Close a socket; the kernel takes it out of the epoll."""
        self._ready.pop(sock.fileno(), None)
        sock.close()

    def turn(self, timeout: float = 0) -> None:
        """Look after those that are ready, or become so within `timeout` seconds."""
        for descriptor, _ in self._epoll.poll(timeout, BATCH):
            self._ready[descriptor]()

    def run(self, until: Callable[[], bool], timeout: float, tick: float = 0.1) -> bool:
        """Turn until `until()`, which is asked after each turn, or after `tick` seconds in which
        nothing happened; False if that took more than `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while not until():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self.turn(min(tick, left))
        return True


class Audience:
    """The clients of one stream.

    wire: what each of them asks for, and how events are found in what comes.

    What has been seen, all times in nanoseconds of the monotonic clock:

    computed: by an event's number, when it was computed.
    arrivals: by an event's number, when it was whole at each client, earliest first.
    waits: how long each client waited for its first event, from its connect on.
    lost, repeated: events that a client did not get, or got again, between its first and last.
    gone: clients whose stream ended.
    received: bytes that have come, in all.
    """

    def __init__(self, loop: Loop, address: Address, wire: Wire) -> None:
        self.loop = loop
        self.address = address
        self.wire = wire
        self.computed: dict[int, int] = {}
        self.arrivals: dict[int, list[int]] = {}
        self.waits: list[int] = []
        self.lost = 0
        self.repeated = 0
        self.gone = 0
        self.clients: list[Client] = []
        self.received = 0
        self._seen = b""
        self._found: tuple[list[int], bytes] = ([], b"")

    @property
    def newest(self) -> int:
        """The number of the newest event that anybody has, 0 for none."""
        return max(self.arrivals, default=0)

    def has(self, number: int) -> bool:
        """Whether all have event `number`, or it is too late for that: there is a newer one."""
        return len(self.arrivals.get(number, ())) == len(self.clients) or self.newest > number

    def delivering(self) -> bool:
        """Whether some have the newest event, and others not yet."""
        return 0 < len(self.arrivals.get(self.newest, ())) < len(self.clients)

    def join(self, count: int) -> None:
        """Connect `count` more, as fast as connect allows."""
        for _ in range(count):
            source = f"127.0.0.{1 + len(self.clients) // PORTS}"
            self.clients.append(Client(self, source))
            if len(self.clients) % BATCH == 0:
                self.loop.turn()

    def leave(self) -> None:
        """Hang up all."""
        for client in self.clients:
            self.loop.close(client.sock)
        self.clients.clear()

    def find(self, data: bytes) -> tuple[list[int], bytes]:
        """The numbers of the events in `data`, and what follows the last of them."""
        if data == self._seen:
            return self._found
        numbers: list[int] = []
        decoded = self.wire.decode(data)
        end = 0
        for match in self.wire.event.finditer(decoded or b""):
            number = int(match[2])
            self.computed[number] = int(match[1])
            self.arrivals.setdefault(number, [])
            numbers.append(number)
            end = match.end()
        rest = data if decoded is None else decoded[end:] if self.wire.decode is plain else b""
        self._seen, self._found = data, (numbers, rest)
        return self._found


class Client:
    """One stream's reader. It connects, asks, and reads for as long as there is something."""

    __slots__ = ("_audience", "_began", "_reached", "_rest", "sock")

    def __init__(self, audience: Audience, source: str) -> None:
        self._audience = audience
        self._reached = -1  # nothing yet
        self._rest = b""
        self.sock = socket.socket()
        self.sock.setblocking(False)
        # Without this, bind would choose a port that is free for all destinations: there are fewer.
        self.sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
        self.sock.bind((source, 0))
        self._began = time.monotonic_ns()
        with contextlib.suppress(BlockingIOError):
            self.sock.connect(audience.address)
        self._ask()

    def _ask(self) -> None:
        try:
            self.sock.send(self._audience.wire.request)  # a request fits into any socket's buffer
        except BlockingIOError:  # not connected yet
            self._audience.loop.watch(self.sock, select.EPOLLOUT, self._ask)
        except OSError:
            self._end()
        else:
            self._audience.loop.watch(self.sock, select.EPOLLIN, self._read)

    def _read(self) -> None:
        try:
            data = self.sock.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        now = time.monotonic_ns()
        if not data:
            self._end()
            return
        audience = self._audience
        audience.received += len(data)
        numbers, self._rest = audience.find(self._rest + data if self._rest else data)
        for number in numbers:
            audience.arrivals[number].append(now)
            if number != self._reached + 1:
                self._irregular(number, now)
            self._reached = max(number, self._reached)

    def _irregular(self, number: int, now: int) -> None:
        audience = self._audience
        if self._reached < 0:
            audience.waits.append(now - self._began)
        elif number <= self._reached:
            audience.repeated += 1
            audience.arrivals[number].pop()
        else:
            audience.lost += number - self._reached - 1

    def _end(self) -> None:
        self._audience.gone += 1
        self._audience.loop.close(self.sock)
