"""The calls for many sockets at a time, in C and in Python: the same tests for both."""

from __future__ import annotations

import contextlib
import errno
import gc
import importlib
import os
import resource
import socket
import struct
import sys
import threading
from array import array
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pushdemo.push.deliver import sockets
from pushdemo.push.deliver.sockets import accept, receive, send_to_all, tune
from tests.failing import while_failing
from tests.servers import HANG

pytestmark = pytest.mark.usefixtures("in_c")


# The ways that there are here; see the fixture in_c.
BOTH = (False, True) if hasattr(sockets, "_sockets") else (False,)


def compiled() -> Any:
    """The part in C itself, which its users reach through pushdemo.push.deliver.sockets."""
    return importlib.import_module("pushdemo.push.deliver._sockets")


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


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 3), (-1, 1), (2, 1), (0, -1), (-sys.maxsize, 0), (1, sys.maxsize)]
)
def test_a_range_that_is_none_of_theirs_is_an_error_before_anything_is_sent(
    start: int, stop: int
) -> None:
    with Pairs(["reads", "reads"]) as pairs:
        with pytest.raises(IndexError):
            pairs.send(b"event", start, stop)
        assert pairs.send(b".") == []
        assert [client.recv(100) for client in pairs.theirs] == [b".", b"."]


def test_what_is_sent_is_counted_in_bytes() -> None:
    with Pairs(["reads"]) as pairs:
        assert pairs.send(memoryview(array("i", [1, 2, 3]))) == []
        assert pairs.theirs[0].recv(100) == array("i", [1, 2, 3]).tobytes()


@pytest.mark.parametrize("lack", [errno.ENOBUFS, errno.ENOMEM])
def test_a_client_is_not_given_up_for_want_of_memory_here(lack: int) -> None:
    with Pairs(["reads", "reads"]) as pairs:
        event = partial(pairs.send, b"event")
        assert while_failing("send", lack, event) == [(0, 0), (1, 0)]
        assert while_failing("send", errno.EPIPE, event) == [(0, -1), (1, -1)]
        one = partial(receive, pairs.ours[0], 100)
        assert while_failing("recv", lack, one) is None
        assert while_failing("recv", errno.ECONNRESET, one) == b""


@pytest.mark.parametrize("lack", [errno.ENOBUFS, errno.ENOMEM])
def test_a_newcomer_is_not_given_up_for_want_of_memory_here(
    listener: socket.socket, lack: int
) -> None:
    for error, expected in [(lack, None), (errno.ECONNRESET, b"")]:
        with Connected(listener, b"x"):
            arrivals = while_failing("recv", error, partial(accept, listener, most=2, size=10))
            assert [said for _, said in arrivals] == [expected]
            close(arrivals)


@pytest.mark.parametrize("kind", [b"\0" * 8, array("b", [0] * 8), array("q", [0])])
def test_descriptors_of_another_size_are_refused(in_c: bool, kind: object) -> None:
    if in_c:  # in Python, they are only counted
        with pytest.raises(TypeError, match="an array of C ints"):
            compiled().send_to_all(kind, 0, 1, b"event", False, 1)


def test_descriptors_need_not_be_aligned(in_c: bool) -> None:
    if in_c:
        with Pairs(["reads", "gone"]) as pairs:
            odd = memoryview(bytearray(1) + pairs.fds.tobytes())[1:].cast("i")
            short = compiled().send_to_all(odd, 0, 2, b"event", False, 1)
            assert short == [(1, -1)]


@pytest.mark.parametrize(("most", "size"), [(0, 1), (-1, 1), (1, 0), (1, -1)])
def test_none_and_nothing_cannot_be_accepted(
    listener: socket.socket, in_c: bool, most: int, size: int
) -> None:
    with Connected(listener, b"x"):
        with pytest.raises(ValueError, match="at least 1"):
            accept(listener, most=most, size=size)
        if in_c:
            with pytest.raises(ValueError, match="at least 1"):
                compiled().accept(listener.fileno(), most, size, 2**31 - 1)
        arrivals = accept(listener, most=1, size=1)
        assert len(arrivals) == 1
        with pytest.raises(ValueError, match="at least 1"):
            receive(arrivals[0][0], size if size < 1 else 0)
        close(arrivals)


def test_more_than_memory_can_hold(in_c: bool, listener: socket.socket) -> None:
    if in_c:
        for most, size in [(1, sys.maxsize), (sys.maxsize, 1), (sys.maxsize // 24, 1)]:
            with pytest.raises(MemoryError):
                compiled().accept(listener.fileno(), most, size, 2**31 - 1)


def test_a_listener_that_is_none_is_an_error(listener: socket.socket) -> None:
    with socket.socket() as idle:
        idle.setblocking(False)
        with pytest.raises(OSError, match="Invalid argument") as raised:
            accept(idle, most=3, size=1)
        assert raised.value.errno in sockets.BROKEN
    listener.close()
    with pytest.raises(OSError, match="Bad file descriptor") as raised:
        accept(listener, most=3, size=1)
    assert raised.value.errno in sockets.BROKEN


def test_no_object_is_lost(listener: socket.socket) -> None:
    def turn() -> None:
        with Pairs(["full", "gone"] * 10) as pairs, Connected(listener, b"x", b""):
            pairs.send(b"event")
            close(accept(listener, most=10, size=10))
        with contextlib.suppress(IndexError):
            pairs.send(b"event", 0, 100)

    for _ in range(5):  # what is made once
        turn()
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(20):
        turn()
    gc.collect()
    assert sys.getallocatedblocks() - before < 20  # one for each turn would be lost


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
    tune(a)  # no TCP, no complaint
    a.close()
    b.close()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
        tune(server)
        assert server.getblocking() is False
        assert server.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert server.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
        client.close()
        server.close()


# The two ways do the same, whatever the sockets are like

STATES = ["reads", "full", "nearly full", "gone", "reset", "shut", "closed", "unconnected"]


@contextlib.contextmanager
def connection(listener: socket.socket, state: str) -> Iterator[tuple[socket.socket, int]]:
    """A connection of TCP as a server has it, in one of these states, and its descriptor."""
    with contextlib.ExitStack() as stack:
        if state == "unconnected":
            ours = stack.enter_context(socket.socket())
            ours.setblocking(False)
            yield ours, ours.fileno()
            return
        client = socket.socket()
        stack.callback(client.close)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(listener.getsockname())
        listener.setblocking(True)
        ours = stack.enter_context(listener.accept()[0])
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        ours.setblocking(False)
        if state == "full":
            with contextlib.suppress(BlockingIOError):
                while True:
                    ours.send(b"-" * 512)
        elif state == "nearly full":
            ours.send(b"-" * 512)
        elif state == "gone":
            client.close()
        elif state == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        elif state == "shut":
            ours.shutdown(socket.SHUT_WR)
        elif state == "closed":
            ours.close()
        yield ours, ours.fileno()


def short_of(
    in_c: bool, states: list[str], size: int, start: int, stop: int, backwards: bool
) -> list[tuple[int, int]]:
    """What `send_to_all` says, one of the two ways, of connections in these states."""
    with contextlib.ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sockets, "IN_C", in_c)
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        made = [stack.enter_context(connection(listener, state)) for state in states]
        fds = array("i", [fd for _, fd in made])
        socks = [sock for sock, _ in made]
        return send_to_all(socks, fds, start, stop, b"x" * size, backwards=backwards)


@given(
    st.lists(st.sampled_from(STATES), max_size=8),
    st.sampled_from([0, 1, 4000]),
    st.booleans(),
    st.data(),
)
@settings(max_examples=50)
def test_both_ways_tell_the_same_of_any_clients(
    states: list[str], size: int, backwards: bool, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(states)))
    stop = data.draw(st.integers(start, len(states)))
    told = [short_of(in_c, states, size, start, stop, backwards) for in_c in BOTH]
    assert told[0] == told[-1]
    gone = {"reset", "shut", "closed", "unconnected"}
    assert {n for n, sent in told[0] if sent < 0} == {
        n for n in range(start, stop) if states[n] in gone
    }


CLIENTS = ["silent", "says", "says much", "ends", "says and ends", "resets", "says and resets"]


def arrived(in_c: bool, clients: list[str], most: int) -> list[bytes | None]:
    """What `accept` says, one of the two ways, of clients that did this before."""
    with contextlib.ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sockets, "IN_C", in_c)
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        listener.setblocking(False)
        for done in clients:
            client = stack.enter_context(socket.create_connection(listener.getsockname()))
            if done.startswith("says"):
                client.sendall(b"x" * (100 if "much" in done else 10))
            if "ends" in done:
                client.shutdown(socket.SHUT_WR)
            if "resets" in done:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.close()
        arrivals = accept(listener, most=most, size=50)
        close(arrivals)
        return [said for _, said in arrivals]


@given(st.lists(st.sampled_from(CLIENTS), max_size=6), st.integers(1, 8))
@settings(max_examples=50)
def test_both_ways_tell_the_same_of_any_newcomers(clients: list[str], most: int) -> None:
    told = [arrived(in_c, clients, most) for in_c in BOTH]
    assert told[0] == told[-1]
    assert len(told[0]) == min(len(clients), most)
    for done, said in zip(clients, told[0], strict=False):
        assert said == {"silent": None, "says": b"x" * 10, "says much": b"x" * 50}.get(done, said)
