"""The calls for many sockets at a time, in C and in Python: the same tests for both."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import threading
from array import array
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pushdemo.push import sockets
from pushdemo.push.sockets import accept, receive, send_to_all, tune
from tests.servers import HANG

pytestmark = pytest.mark.usefixtures("in_c")


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener


class Connected:
    """Clients of a listener, connected, and what each has said."""

    def __init__(self, listener: socket.socket, *said: bytes) -> None:
        self.socks = [socket.create_connection(listener.getsockname()) for _ in said]
        for sock, data in zip(self.socks, said, strict=True):
            sock.sendall(data)

    def __enter__(self) -> Connected:
        return self

    def __exit__(self, *_: object) -> None:
        for sock in self.socks:
            sock.close()


def close(arrivals: list[sockets.Arrival]) -> None:
    for sock, _ in arrivals:
        sock.close()


def test_nobody_waits(listener: socket.socket) -> None:
    assert accept(listener, most=10, size=100) == []


def test_each_connection_comes_with_what_it_has_said(listener: socket.socket) -> None:
    with Connected(listener, b"one", b"", b"three and more") as connected:
        arrivals = accept(listener, most=10, size=5)
        assert [said for _, said in arrivals] == [b"one", None, b"three"]
        for (sock, _), client in zip(arrivals, connected.socks, strict=True):
            assert sock.getpeername() == client.getsockname()
            assert sock.family == socket.AF_INET
            assert sock.gettimeout() == 0
            assert not os.get_blocking(sock.fileno())
            assert not sock.get_inheritable()
        third, _ = arrivals[2]
        assert receive(third, 100) == b" and more"
        close(arrivals)


def test_one_that_has_ended(listener: socket.socket) -> None:
    with Connected(listener, b"") as connected:
        connected.socks[0].shutdown(socket.SHUT_WR)
        arrivals = accept(listener, most=10, size=100)
        assert [said for _, said in arrivals] == [b""]
        close(arrivals)


def test_no_more_than_are_wanted(listener: socket.socket) -> None:
    with Connected(listener, *[b"x"] * 5):
        counts = []
        for _ in range(3):
            arrivals = accept(listener, most=2, size=100)
            counts.append(len(arrivals))
            close(arrivals)
        assert counts == [2, 2, 1]


def next_descriptor() -> int:
    """The lowest that is free: what the next connection gets."""
    descriptor = os.dup(0)
    os.close(descriptor)
    return descriptor


def test_none_after_one_with_a_high_descriptor(listener: socket.socket) -> None:
    with Connected(listener, *[b"x"] * 5):
        high = next_descriptor() + 1
        arrivals = accept(listener, most=5, size=100, highest=high)
        first, second = (sock.fileno() for sock, _ in arrivals)
        assert first < high <= second
        close(arrivals)


def test_no_descriptor_is_left(listener: socket.socket) -> None:
    with Connected(listener, b"x", b"y"):
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (next_descriptor() + 1, limits[1]))
        try:
            first = accept(listener, most=5, size=100)
            with pytest.raises(OSError, match="Too many open files") as raised:
                accept(listener, most=5, size=100)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert raised.value.errno in sockets.EXHAUSTED
        second = accept(listener, most=5, size=100)
        assert [said for _, said in first + second] == [b"x", b"y"]
        close(first + second)


def test_receive() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        ours.setblocking(False)
        assert receive(ours, 10) is None
        theirs.sendall(b"x" * 20)
        assert receive(ours, 10) == b"x" * 10
        theirs.close()
        assert receive(ours, 100) == b"x" * 10
        assert receive(ours, 100) == b""
    assert receive(ours, 100) == b""  # closed


class Pairs:
    """Connections, of which some read, some are full and some are gone."""

    def __init__(self, states: list[str]) -> None:
        pairs = [socket.socketpair() for _ in states]
        self.ours = [ours for ours, _ in pairs]
        self.theirs = [theirs for _, theirs in pairs]
        self.fds = array("i", [sock.fileno() for sock in self.ours])
        for sock, client, state in zip(self.ours, self.theirs, states, strict=True):
            sock.setblocking(False)
            client.settimeout(HANG)
            if state == "gone":
                client.close()
            elif state == "full":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
                with contextlib.suppress(BlockingIOError):
                    while True:
                        sock.send(b"-" * 4096)

    def __enter__(self) -> Pairs:
        return self

    def __exit__(self, *_: object) -> None:
        for sock in self.ours + self.theirs:
            sock.close()

    def send(
        self, data: bytes | memoryview, start: int = 0, stop: int | None = None, *,
        backwards: bool = False,
    ) -> list[tuple[int, int]]:  # fmt: skip
        stop = len(self.ours) if stop is None else stop
        return send_to_all(self.ours, self.fds, start, stop, data, backwards=backwards)


@given(
    st.lists(st.sampled_from(["reads", "full", "gone"]), max_size=12),
    st.booleans(),
    st.data(),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_each_gets_all_or_is_told_of(
    states: list[str], backwards: bool, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(states)))
    stop = data.draw(st.integers(start, len(states)))
    with Pairs(states) as pairs:
        short = pairs.send(b"event", start, stop, backwards=backwards)
        expected = {"full": 0, "gone": -1}
        wanted = [(n, expected[states[n]]) for n in range(start, stop) if states[n] in expected]
        assert short == (wanted[::-1] if backwards else wanted)
        for index, state in enumerate(states):
            if state == "reads":
                assert pairs.ours[index].send(b".") == 1
                got = b"event." if start <= index < stop else b"."
                assert pairs.theirs[index].recv(100) == got


def test_some_of_it_is_taken() -> None:
    with Pairs(["reads", "reads"]) as pairs:
        pairs.ours[1].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        data = bytes(range(256)) * 16384
        short = dict(pairs.send(memoryview(data)))
        assert 0 < short[1] < len(data)
        received = b""
        while len(received) < short[1]:
            received += pairs.theirs[1].recv(100_000)
        assert received == data[: short[1]]


def test_nothing_to_send_and_nobody_to_send_to() -> None:
    with Pairs(["reads", "full"]) as pairs:
        assert pairs.send(b"", 0, 1) == []
        assert pairs.send(b"event", 1, 1) == []
    assert send_to_all([], array("i"), 0, 0, b"event") == []


def test_a_range_beyond_the_end_is_an_error() -> None:
    with Pairs(["reads"]) as pairs, pytest.raises(IndexError):
        pairs.send(b"event", 0, 2)


def test_other_threads_run_while_one_sends() -> None:
    with Pairs(["full"]) as pairs:
        # What no caller does: this send waits until somebody reads, in another thread.
        pairs.ours[0].setblocking(True)
        received = b""

        def read() -> None:
            nonlocal received
            while not received.endswith(b"event"):
                received += pairs.theirs[0].recv(100_000)

        reader = threading.Thread(target=read)
        reader.start()
        assert pairs.send(b"event") == []
        reader.join(HANG)
        assert received.endswith(b"event")


def test_sockets_are_set_up_for_a_long_life() -> None:
    a, b = socket.socketpair(socket.AF_UNIX)
    tune(a, 30)  # no TCP, no complaint
    a.close()
    b.close()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
        tune(server, 30)
        assert server.getblocking() is False
        assert server.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert server.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            assert server.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
        client.close()
        server.close()
