"""The longest time in which streams say nothing, seen by a process that does nothing else.

Who records ten thousand clients in one thread of Python reads each of them late: what it sees is
its own silence.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import subprocess
import sys
import time

from tests.servers import CHECKOUT, HANG

STREAMS = 30


class Listener:
    """A process that reads streams of the feed `count` until it is asked what it heard."""

    def __init__(self, address: tuple[str, int]) -> None:
        host, port = address
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.silence", host, str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=CHECKOUT,
        )

    def __enter__(self) -> Listener:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"listening\n"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def longest(self) -> float:
        """The longest silence of any stream, in seconds."""
        said, _ = self._process.communicate(timeout=HANG)
        return float(said)


def listen(address: tuple[str, int]) -> float:
    """Read until standard input ends."""
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
        for _ in range(STREAMS):
            sock = stack.enter_context(socket.create_connection(address, timeout=HANG))
            sock.sendall(b"GET /live?format=ndjson HTTP/1.1\r\nHost: test\r\n\r\n")
            while b"{" not in sock.recv(65536):
                pass
            selector.register(sock, selectors.EVENT_READ)
        heard = dict.fromkeys(list(selector.get_map()), time.monotonic())
        selector.register(sys.stdin, selectors.EVENT_READ)
        print("listening", flush=True)
        longest = 0.0
        while True:
            for key, _ in selector.select():
                if key.fileobj is sys.stdin:
                    return max(longest, time.monotonic() - min(heard.values()))
                assert isinstance(key.fileobj, socket.socket)
                said = key.fileobj.recv(65536)
                if not said:
                    return float("inf")  # it has ended
                if b"{" in said:  # and not a heartbeat
                    now = time.monotonic()
                    longest = max(longest, now - heard[key.fd])
                    heard[key.fd] = now


if __name__ == "__main__":
    print(listen((sys.argv[1], int(sys.argv[2]))))
