"""Runs many scripts at a time in one thread, each on its own non-blocking connection."""

from __future__ import annotations

import contextlib
import errno
import heapq
import itertools
import selectors
import socket
import struct
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.fuzz.answers import answered
from tests.fuzz.steps import Answer, Close, Flood, HalfClose, Read, Reset, Script, Send, Step, Wait

AT_ONCE = 64  # quick ones
SLOW_AT_ONCE = 40
CHUNK = 65536
MOST_KEPT = 256 * 1024  # bytes of an answer
MOST_FAULTS = 200
RST = struct.pack("ii", 1, 0)  # SO_LINGER
# Assigned at connect, so that an address's ports are shared by all that end elsewhere (Linux).
_IP_BIND_ADDRESS_NO_PORT = 24


@dataclass(frozen=True)
class Client:
    """One to run."""

    index: int
    kind: str
    script: Script
    slow: bool


@dataclass
class Tally:
    """What came of the clients of one kind.

    connections: that they opened.
    statuses: of the answers; 0 for none.
    """

    count: int = 0
    connections: int = 0
    statuses: Counter[int] = field(default_factory=Counter)

    def add(self, other: Tally) -> None:
        """Count those in, too."""
        self.count += other.count
        self.connections += other.connections
        self.statuses += other.statuses


@dataclass
class Outcome:
    """What came of some clients.

    faults: a line for each, with the kind and the index.
    refused: connections in a row that were refused: the server is gone.
    """

    kinds: dict[str, Tally] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    refused: int = 0

    def add(self, other: Outcome) -> None:
        """Count those in, too."""
        for kind, tally in other.kinds.items():
            self.kinds.setdefault(kind, Tally()).add(tally)
        self.faults += other.faults[: max(0, MOST_FAULTS - len(self.faults))]
        self.refused = other.refused

    @property
    def count(self) -> int:
        """How many clients have ended."""
        return sum(tally.count for tally in self.kinds.values())

    @property
    def connections(self) -> int:
        """How many connections they opened."""
        return sum(tally.connections for tally in self.kinds.values())


class _Running:
    """A client under way."""

    def __init__(self, client: Client, sock: socket.socket) -> None:
        self.client = client
        self.sock = sock
        self.step: Step | None = None
        self.unsent = memoryview(b"")
        self.mark = 0  # what was received before this step
        self.received = bytearray()
        self.dropped = 0  # bytes received and not kept
        self.ended = False  # by the server
        self.was_reset = False  # by the server, or the network
        self.body = True
        self.closed = False
        self.timer = 0  # the number of the timer that counts
        self.mask = 0
        self.others: list[socket.socket] = []

    @property
    def count(self) -> int:
        return len(self.received) + self.dropped


class Engine:
    """Runs clients against `address`; every one comes to an end."""

    def __init__(self, address: tuple[str, int], clients: Iterator[Client]) -> None:
        self._address = address
        self._clients = clients
        self._waiting: deque[Client] = deque()  # slow ones, for a place
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, _Running]] = []
        self._numbers = itertools.count(1)
        self._quick = self._slow = 0
        self._all: set[_Running] = set()
        self._sources = itertools.cycle(f"127.0.0.{n}" for n in range(2, 255))
        self._exhausted = False
        self.outcome = Outcome()

    def run(self, until: float) -> bool:
        """Run for a while; whether there is more to run. until: in monotonic seconds."""
        while True:
            self._start()
            if not self._all and self._exhausted and not self._waiting:
                return False
            now = time.monotonic()
            if now >= until:
                return True
            wait = max(0.0, min(until, self._timers[0][0] if self._timers else until) - now)
            if not self._all:  # all that were begun have ended at once
                wait = 0.0
            for key, mask in self._selector.select(wait):
                running: _Running = key.data
                if not running.closed:
                    self._wake(running, mask)
            self._pass_time()

    def close(self) -> None:
        """End all that run."""
        for running in list(self._all):
            self._end(running, reset=True)
        self._selector.close()

    # Beginning

    def _start(self) -> None:
        while self._waiting and self._slow < SLOW_AT_ONCE:
            self._begin(self._waiting.popleft())
        while not self._exhausted and self._quick < AT_ONCE and len(self._waiting) < 1000:
            client = next(self._clients, None)
            if client is None:
                self._exhausted = True
            elif client.slow and self._slow >= SLOW_AT_ONCE:
                self._waiting.append(client)
            else:
                self._begin(client)

    def _begin(self, client: Client) -> None:
        tally = self._tally(client)
        tally.count += 1
        try:
            sock = self._connect()
        except OSError as error:
            tally.statuses[0] += 1
            self._fault(client, f"could not connect: {error}")
            self.outcome.refused += 1
            client.script.close()
            return
        self.outcome.refused = 0
        tally.connections += 1
        running = _Running(client, sock)
        self._all.add(running)
        self._count(client, 1)
        self._advance(running)

    def _connect(self) -> socket.socket:
        sock = socket.socket()
        try:
            sock.setblocking(False)
            with contextlib.suppress(OSError):  # elsewhere there is no such option, or address
                sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
                sock.bind((next(self._sources), 0))
            error = sock.connect_ex(self._address)
            if error not in (0, errno.EINPROGRESS):
                raise OSError(error, errno.errorcode.get(error, "?"))
        except BaseException:
            sock.close()
            raise
        return sock

    def _count(self, client: Client, change: int) -> None:
        if client.slow:
            self._slow += change
        else:
            self._quick += change

    # Going on

    def _advance(self, running: _Running) -> None:
        """The next steps, as far as they can be done at once."""
        while not running.closed:
            result = bytes(running.received[running.mark :])
            try:
                step = (
                    next(running.client.script)
                    if running.step is None
                    else (running.client.script.send(result))
                )
            except StopIteration:
                self._end(running, reset=bool(running.client.index % 5))
                return
            running.step = step
            running.mark = len(running.received)
            if not self._take(running, step):
                return

    def _take(self, running: _Running, step: Step) -> bool:
        """Begin a step; whether it is done."""
        match step:
            case Send(data, pause):
                running.unsent = memoryview(data)
                if not self._send(running):
                    self._watch(running, selectors.EVENT_WRITE if not pause else 0)
                    self._after(running, pause or 5.0)
                    return False
            case Read(seconds) | Answer(seconds):
                if isinstance(step, Answer):
                    running.body = step.body
                self._receive(running)
                if not self._has_read(running, step):
                    self._watch(running, selectors.EVENT_READ)
                    self._after(running, seconds)
                    return False
            case Wait(seconds):
                self._watch(running, 0)
                self._after(running, seconds)
                return False
            case HalfClose():
                with contextlib.suppress(OSError):
                    running.sock.shutdown(socket.SHUT_WR)
            case Reset() | Close():
                self._end(running, reset=isinstance(step, Reset))
                return False
            case Flood():
                self._flood(running, step)
                self._after(running, step.seconds)
                return False
        return True

    def _wake(self, running: _Running, mask: int) -> None:
        """The socket is ready for what the step waits for."""
        step = running.step
        if isinstance(step, Send) and mask & selectors.EVENT_WRITE:
            done = self._send(running)
        elif isinstance(step, Read | Answer):
            self._receive(running)
            done = self._has_read(running, step)
        else:
            return
        if done:
            self._advance(running)

    def _pass_time(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            _, number, running = heapq.heappop(self._timers)
            if running.closed or running.timer != number:
                continue
            step = running.step
            if isinstance(step, Send) and step.pause and not self._send(running):
                self._after(running, step.pause)
                continue
            if isinstance(step, Send) and not step.pause:
                running.was_reset = True  # it takes no more: there is no use in going on
                self._end(running, reset=True)
                continue
            if isinstance(step, Answer) and step.due and not running.count:
                self._fault(running.client, f"no answer in {step.seconds} s")
            self._advance(running)

    def _send(self, running: _Running) -> bool:
        """Send what can be sent; whether there is nothing left, or nobody to send it to."""
        step = running.step
        slowly = isinstance(step, Send) and step.pause
        try:
            while running.unsent:
                sent = running.sock.send(running.unsent[:1] if slowly else running.unsent)
                running.unsent = running.unsent[sent:]
                if slowly and running.unsent:
                    return False
        except BlockingIOError:
            return False
        except OSError:
            running.was_reset = True
        return True

    def _receive(self, running: _Running) -> None:
        step = running.step
        most = step.most if isinstance(step, Read) else MOST_KEPT
        try:
            while not running.ended and running.count - running.mark < most:
                data = running.sock.recv(min(CHUNK, most))
                if not data:
                    running.ended = True
                room = max(0, MOST_KEPT - len(running.received))
                running.received += data[:room]
                running.dropped += len(data[room:])
                if len(data) < CHUNK:
                    break
        except BlockingIOError:
            return
        except OSError:
            running.ended = running.was_reset = True

    def _has_read(self, running: _Running, step: Read | Answer) -> bool:
        if isinstance(step, Read):
            return running.ended or running.count - running.mark >= step.most
        if running.ended:
            if step.due and not running.count:
                how = "reset" if running.was_reset else "hung up"
                self._fault(running.client, f"no answer: the server {how}")
            return True
        return answered(running.received, body=step.body).whole

    def _flood(self, running: _Running, flood: Flood) -> None:
        for _ in range(flood.count):
            try:
                sock = self._connect()
            except OSError:
                break
            running.others.append(sock)
            self._tally(running.client).connections += 1
            if flood.data:
                with contextlib.suppress(OSError):
                    sock.send(flood.data)

    def _watch(self, running: _Running, mask: int) -> None:
        if mask == running.mask:
            return
        if not mask:
            self._selector.unregister(running.sock)
        elif running.mask:
            self._selector.modify(running.sock, mask, running)
        else:
            self._selector.register(running.sock, mask, running)
        running.mask = mask

    def _after(self, running: _Running, seconds: float) -> None:
        running.timer = next(self._numbers)
        heapq.heappush(self._timers, (time.monotonic() + seconds, running.timer, running))

    # Ending

    def _end(self, running: _Running, *, reset: bool) -> None:
        self._watch(running, 0)
        running.client.script.close()
        for sock in (running.sock, *running.others):
            with contextlib.suppress(OSError):
                if reset:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
            sock.close()
        running.closed = True
        self._all.discard(running)
        self._count(running.client, -1)
        self._judge(running)

    def _judge(self, running: _Running) -> None:
        answer = answered(running.received, body=running.body)
        self._tally(running.client).statuses[answer.status] += 1
        if answer.fault:
            self._fault(running.client, answer.fault)
        elif running.received and running.ended and not running.was_reset:
            if not answer.status:
                self._fault(running.client, f"answered {bytes(running.received[:80])!r}, no more")
            elif answer.ends and not answer.whole and not running.dropped:
                self._fault(running.client, f"a part of an answer {answer.status}, and no more")

    def _tally(self, client: Client) -> Tally:
        return self.outcome.kinds.setdefault(client.kind, Tally())

    def _fault(self, client: Client, what: str) -> None:
        if len(self.outcome.faults) < MOST_FAULTS:
            self.outcome.faults.append(f"{client.kind} --index {client.index}: {what}")
