"""A proxy for TCP that cuts connections in the middle of what comes back, or delays it."""

from __future__ import annotations

import contextlib
import socket
import threading
import time


class CuttingProxy:
    """Listens at `port`, and passes everything on to another port of this machine.

    target: that port.
    delay: seconds that each piece is held, either way.
    """

    def __init__(self, target: int, *, delay: float = 0.0) -> None:
        self.target = target
        self.delay = delay
        self._cut_after: int | None = None
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._socks: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def __enter__(self) -> CuttingProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def cut_next_reply(self, after: int) -> None:
        """Cut the next connection on which something comes back, after so many bytes of it."""
        with self._lock:
            self._cut_after = after

    def switch(self, target: int) -> None:
        """Pass everything on to another port, and cut all connections there are."""
        self.target = target
        self._cut(self._socks)

    def close(self) -> None:
        self._cut([self._listener])
        self._thread.join()  # it may have accepted one more
        self._cut(self._socks)

    @staticmethod
    def _cut(socks: list[socket.socket]) -> None:
        for sock in list(socks):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # it is closed
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                client.close()
                continue
            for sock in (client, server):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socks += [client, server]
            for source, sink, back in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._pass, args=(source, sink, back), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, back: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if self.delay:
                    time.sleep(self.delay)
                cut = self._take_cut() if back else None
                if cut is not None:
                    sink.sendall(data[:cut])
                    break
                sink.sendall(data)
        for sock in (source, sink):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _take_cut(self) -> int | None:
        with self._lock:
            cut, self._cut_after = self._cut_after, None
            return cut
