"""Clients that mean harm, or die: `paster serve` and everybody else's streams go on."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import Paster, Reader, until

FEEDS = """
import itertools
counter = itertools.count(1)

def count():
    return next(counter)
"""
INI = """\
feed.count = hostilefeeds:count
feed.count.interval = 0.2
push.heartbeat = 1
"""
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Paster]:
    directory = tmp_path_factory.mktemp("hostile")
    (directory / "hostilefeeds.py").write_text(FEEDS)
    paster = Paster(directory, INI)
    yield paster
    paster.close()


@pytest.fixture
def watcher(server: Paster) -> Iterator[Reader]:
    """A stream that has begun, and must have gone on when the test is over."""
    with server.connect("/server/index/count?format=ndjson") as watcher:
        assert watcher.head()[0] == 200
        assert watcher.line()
        yield watcher
        for _ in range(5):
            assert watcher.line()
        assert server.process.poll() is None
        assert "Traceback" not in server.output
        assert server.get("/nowhere")[0] == 404


def send(server: Paster, said: bytes, *, reset: bool) -> None:
    sock = socket.create_connection(server.address)
    if reset:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with sock, contextlib.suppress(OSError):
        sock.sendall(said)


REQUESTS = {
    "get": b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n",
    "stream": b"GET /server/index/count HTTP/1.1\r\nHost: a\r\n\r\n",
    "post": b"POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody",
    "expect": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
    b"body",
    "refused": b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
}


@pytest.mark.parametrize("request_bytes", REQUESTS.values(), ids=REQUESTS)
@pytest.mark.parametrize("reset", [True, False])
@pytest.mark.usefixtures("watcher")
def test_clients_that_leave_in_the_middle_of_anything(
    server: Paster, request_bytes: bytes, reset: bool
) -> None:
    for _ in range(5):
        for length in range(len(request_bytes) + 1):
            send(server, request_bytes[:length], reset=reset)


@pytest.mark.usefixtures("watcher")
def test_a_thousand_that_wait_to_be_told_to_continue_and_leave(server: Paster) -> None:
    for _ in range(1000):
        send(server, REQUESTS["expect"][:-4], reset=True)


def test_a_length_that_took_the_square_of_the_time_holds_nobody_up(
    server: Paster, watcher: Reader
) -> None:
    watcher.sock.settimeout(5)
    said = b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x" + b" " * 64_000 + b"y\r\n\r\n"
    for _ in range(20):
        with Reader(server.address, said) as reader:
            assert reader.head()[0] == 400
        assert watcher.line()


@pytest.mark.usefixtures("watcher")
def test_a_byte_at_a_time(server: Paster) -> None:
    said = REQUESTS["post"].replace(b"Host", b"X: " + b"y" * 5000 + b"\r\nHost")
    with Reader(server.address) as reader:
        reader.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for index in range(len(said)):
            reader.sock.sendall(said[index : index + 1])
        assert reader.head()[0] == 404


def attack(server: Paster, stack: contextlib.ExitStack) -> None:
    """200 MiB of requests that do not end, and many fields."""
    fields = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"a: b\r\n" * 90 + b"c: " + b"d" * 60_000
    body = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 990_000
    for number in range(400):
        sock = stack.enter_context(socket.create_connection(server.address))
        with contextlib.suppress(OSError):  # it may be refused before it has said all
            sock.sendall(body if number % 2 else fields)


@pytest.mark.usefixtures("in_c")
def test_memory_is_bounded_and_comes_back(tmp_path: Path) -> None:
    with contextlib.closing(Paster(tmp_path)) as server:
        assert server.get("/nowhere")[0] == 404
        before = server.memory()
        for _ in range(3):
            with contextlib.ExitStack() as stack:
                attack(server, stack)
                during = server.memory() - before
                assert during < 120 * MIB, f"{during // MIB} MiB"
                # Who comes now is served all the same.
                assert server.get("/nowhere")[0] == 404
            # It is given back within a second or two.
            until(lambda: server.memory() - before < 30 * MIB, "memory to be given back")
        assert "Traceback" not in server.output
