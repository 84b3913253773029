"""Many streams, watched by one thread, and what their clients saw."""

from __future__ import annotations

import selectors
import socket
import threading

from tests.history import Client
from tests.recording import Log, Recorder
from tests.servers import HANG

FORMATS = ("text/event-stream", "application/x-ndjson", "multipart/x-mixed-replace")


class Watching:
    """Streams of the feed `count` under `/live`, recorded by a thread.

    version: of HTTP, in the requests. A server that sends the streams itself may send them in
        chunks to 1.1, which tests/recording.py does not read.
    """

    def __init__(self, address: tuple[str, int], version: str = "1.1") -> None:
        self._address = address
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
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()

    def connect(self, number: int) -> None:
        """Ask for one stream more."""
        log = self._recorder.log(f"client {number}", ("count",))
        sock = socket.create_connection(self._address, timeout=HANG)
        accept = FORMATS[number % len(FORMATS)]
        log.connect()
        request = f"GET /live HTTP/{self._version}\r\nHost: test\r\nAccept: {accept}\r\n\r\n"
        sock.sendall(request.encode())
        sock.setblocking(False)
        self._logs.append(log)
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

    def all_have(self, events: int) -> bool:
        """Whether each client has seen so many."""
        return self.have(events) == len(self._logs)

    def have(self, events: int) -> int:
        """How many clients have seen so many."""
        return sum(len(client.seen) >= events for client in self.clients)

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
