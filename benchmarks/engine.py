"""A Redis server in a process of its own, and what it costs."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator

import psutil

HOST = "127.0.0.1"
START = 10.0  # seconds within which it must listen


class EngineProcess:
    """One server. Made by `engine`."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = psutil.Process(process.pid)

    def cpu(self) -> float:
        """Seconds of processor time used so far."""
        return time.clock_gettime(~self._process.pid << 3 | 2)

    def memory(self) -> int:
        """Its resident memory, in bytes."""
        return int(self._process.memory_info().rss)


@contextlib.contextmanager
def engine() -> Iterator[tuple[EngineProcess, int]]:
    """A server that keeps nothing, and its port."""
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        port = int(sock.getsockname()[1])
    with tempfile.TemporaryDirectory() as directory:
        words = ["redis-server", "--port", str(port), "--bind", HOST, "--save", ""]
        process = subprocess.Popen([*words, "--dir", directory], stdout=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + START
            while True:
                try:
                    socket.create_connection((HOST, port)).close()
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.02)
            yield EngineProcess(process), port
        finally:
            process.kill()
            process.wait()
