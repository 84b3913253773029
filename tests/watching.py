"""Many streams, watched by one thread, and what their clients saw."""

from __future__ import annotations

import selectors
import socket
import threading

from tests.history import Client
from tests.recording import Log, Recorder
from tests.servers import HANG

FORMATS = ("text/event-stream", "application/x-ndjson", "multipart/x-mixed-replace")
HANDSHAKE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
LITTLE = 16 * 1024  # bytes that a slow client's system receives for it


class Watching:
    """Streams of the feed `count` under `/live`, recorded by a thread.

    every: each fourth client takes them compressed, and each fifth by a WebSocket.
    version: of HTTP, in the requests. A server that sends the streams itself may send them in
        chunks to 1.1, which tests/recording.py does not read.
    """

    def __init__(
        self, address: tuple[str, int], version: str = "1.1", *, every: bool = False
    ) -> None:
        self._address = address
        self._every = every
        self._paused: list[tuple[socket.socket, Log]] = []
        self._version = version
        self._recorder = Recorder()
        self._logs: list[Log] = []
        self._selector = selectors.DefaultSelector()
        self._running = True
        self._thread = threading.Thread(target=self._run, name="watching")

    def __enter__(self) -> Watching:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.resume()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()

    def connect(self, number: int) -> None:
        """Ask for one stream more."""
        headers = f"Accept: {FORMATS[number % len(FORMATS)]}\r\n"
        if self._every and number % 4 == 3:
            headers += "Accept-Encoding: gzip\r\n"
        if self._every and number % 5 == 4:
            headers = HANDSHAKE
        log = self._recorder.log(f"client {number}", ("count",))
        self._connect(log, socket.socket(), "/live", headers)

    def connect_slow(self, number: int, feed: str) -> None:
        """Ask for a stream of a feed, as a client that may stop reading."""
        log = self._recorder.log(f"slow client {number}", (feed,), slow=True)
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, LITTLE)
        accept = FORMATS[number % len(FORMATS)]
        self._connect(log, sock, f"/live?feed={feed}", f"Accept: {accept}\r\n")

    def _connect(self, log: Log, sock: socket.socket, target: str, headers: str) -> None:
        sock.settimeout(HANG)
        sock.connect(self._address)
        log.connect()
        request = f"GET {target} HTTP/{self._version}\r\nHost: test\r\n{headers}\r\n"
        sock.sendall(request.encode())
        sock.setblocking(False)
        self._logs.append(log)
        self._selector.register(sock, selectors.EVENT_READ, log)

    def pause(self) -> None:
        """Have all slow clients stop reading."""
        for key in list(self._selector.get_map().values()):
            if key.data.client.slow:
                assert isinstance(key.fileobj, socket.socket)
                self._selector.unregister(key.fileobj)
                self._paused.append((key.fileobj, key.data))

    def resume(self) -> None:
        """Have them read again."""
        while self._paused:
            sock, log = self._paused.pop()
            self._selector.register(sock, selectors.EVENT_READ, log)

    @property
    def clients(self) -> list[Client]:
        return self._recorder.clients

    @property
    def connected(self) -> int:
        return sum(log.connected for log in list(self._logs))

    @property
    def answered(self) -> int:
        """How many have been told whether there is a stream for them."""
        return sum(bool(log.client.entries) for log in list(self._logs))

    @property
    def seen(self) -> int:
        """How many events each reading client has seen, at least."""
        return min((log.events for log in self._reading), default=0)

    def all_have(self, events: int) -> bool:
        """Whether there are reading clients, and each has seen so many."""
        reading = self._reading
        return bool(reading) and all(log.events >= events for log in reading)

    @property
    def _reading(self) -> list[Log]:
        """Those of the clients that have a stream, and are not slow."""
        return [log for log in list(self._logs) if log.connected and not log.client.slow]

    def stop(self) -> None:
        if self._running:
            self._running = False
            self._thread.join(HANG)

    def _run(self) -> None:
        while self._running:
            for key, _ in self._selector.select(0.2):
                log: Log = key.data
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                if not log.read(sock):
                    self._selector.unregister(sock)
