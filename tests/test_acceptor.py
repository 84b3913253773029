"""The acceptor alone: what goes wrong with one connection stays with that one."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from pushdemo.push.deliver import descriptors, sockets
from pushdemo.servers import acceptor as module
from pushdemo.servers.acceptor import Acceptor
from pushdemo.servers.request import Exchange, RequestParser
from tests.servers import HANG, Reader, until

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
ANSWER = b"HTTP/1.0 200 OK\r\n\r\n"


class Accepting:
    """An acceptor in a thread, that answers what it delivers."""

    def __init__(self, timeout: float = 20, max_body: int = 1024 * 1024) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1000)
        self.address = self._listener.getsockname()
        self.acceptor = Acceptor(self._listener, self.deliver, timeout=timeout, max_body=max_body)
        self.fails = False
        self._thread = threading.Thread(target=self.acceptor.run)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.acceptor.stop()
        self._thread.join(HANG)
        assert not self._thread.is_alive()
        self.acceptor.close()
        self._listener.close()

    def deliver(self, exchanges: list[Exchange]) -> None:
        for sock, _ in exchanges:
            with sock, contextlib.suppress(OSError):
                sock.send(ANSWER)
        if self.fails:
            raise ValueError("on purpose")

    def connect(self, said: bytes = b"") -> Reader:
        return Reader(self.address, said)

    def serves(self) -> bool:
        with self.connect(GET) as reader:
            return reader.head()[0] == 200

    @property
    def waiting(self) -> int:
        return len(self.acceptor._connections)


@pytest.fixture
def accepting() -> Iterator[Accepting]:
    accepting = Accepting()
    accepting.start()
    yield accepting
    accepting.stop()


@pytest.fixture
def clients() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


def reset(reader: Reader) -> None:
    """Leave with a reset."""
    reader.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    reader.close()


def failing(error: BaseException, *, times: int = 1, then: Any = None) -> Any:
    """A function that raises so many times."""
    left = [times]

    def fail(*arguments: Any, **options: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise error
        return then(*arguments, **options)

    return fail


def test_nobody_is_there_to_be_told_to_continue(accepting: Accepting) -> None:
    head = POST.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n") % 9
    for _ in range(200):
        reset(accepting.connect(head))
    assert accepting.serves()


class Unsendable:
    """A socket that cannot be sent to, as one whose peer has sent a reset."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def send(self, _data: bytes) -> int:
        raise ConnectionResetError

    def __enter__(self) -> Unsendable:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


@pytest.mark.parametrize(
    "said",
    [
        POST.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n") % 9,
        b"nonsense\r\n\r\n",
        GET,
    ],
)
def test_a_reset_between_reading_and_sending(
    accepting: Accepting, monkeypatch: pytest.MonkeyPatch, said: bytes,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    real = sockets.accept

    def accept(*arguments: Any, **options: Any) -> Any:
        return [(Unsendable(sock), data) for sock, data in real(*arguments, **options)]

    monkeypatch.setattr(sockets, "accept", accept)
    for _ in range(10):
        accepting.connect(said).close()
    until(lambda: accepting.waiting == 0, "those to be gone")
    monkeypatch.undo()
    assert accepting.serves()
    assert "Traceback" not in caplog.text


def test_an_error_of_the_parser_ends_its_connection_alone(
    accepting: Accepting, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = RequestParser.feed

    def feed(parser: RequestParser, data: bytes) -> Any:
        if bytes(data) == GET:
            raise ValueError("on purpose")
        return real(parser, data)

    monkeypatch.setattr(RequestParser, "feed", feed)
    other = accepting.connect(GET[:10])
    with accepting.connect(GET) as reader:
        assert reader.head()[0] == 500
    other.sock.sendall(GET[10:])
    assert other.head()[0] == 200
    other.close()
    assert caplog.text.count("ValueError: on purpose") == 1


def test_what_the_deliverer_raises_is_survived(
    accepting: Accepting, caplog: pytest.LogCaptureFixture
) -> None:
    accepting.fails = True
    assert accepting.serves()
    until(lambda: "ValueError: on purpose" in caplog.text, "the log")
    accepting.fails = False
    assert accepting.serves()


@pytest.mark.parametrize("name", ["_give_up", "_look_at_arrived", "_accept", "_idle"])
def test_an_error_of_its_own_is_survived_and_nobody_is_lost(
    name: str, clients: contextlib.ExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    accepting = Accepting(timeout=HANG)
    accepting.start()
    clients.callback(accepting.stop)
    slow = [clients.enter_context(accepting.connect(GET[:9])) for _ in range(20)]
    until(lambda: accepting.waiting == len(slow), "all of them")
    owned = accepting.acceptor
    error = KeyError("on purpose")
    setattr(owned, name, failing(error, times=3, then=getattr(owned, name)))
    owned._look = 0.0
    assert accepting.serves()
    until(lambda: caplog.text.count("KeyError: 'on purpose'") == 3, "the errors")
    for reader in slow:
        reader.sock.sendall(GET[9:])
        assert reader.head()[0] == 200


def test_it_goes_on_without_its_selector(
    accepting: Accepting, clients: contextlib.ExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    slow = clients.enter_context(accepting.connect(GET[:9]))
    until(lambda: accepting.waiting == 1, "it")
    accepting.acceptor._selector.close()
    slow.sock.sendall(GET[9:])
    accepting.acceptor._waker.send(b"\0")
    assert accepting.serves()
    assert slow.head()[0] == 200
    assert "goes on" in caplog.text


def test_it_stops_while_every_turn_fails(caplog: pytest.LogCaptureFixture) -> None:
    accepting = Accepting()
    accepting.acceptor._idle = failing(KeyError(), times=10**9)  # type: ignore[method-assign]
    accepting.start()
    until(lambda: "goes on" in caplog.text, "an error")
    accepting.stop()


def test_a_connection_that_cannot_be_watched_is_turned_away(
    accepting: Accepting, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert accepting.serves()  # it runs
    selector = accepting.acceptor._selector
    monkeypatch.setattr(selector, "register", failing(OSError(28, "ENOSPC"), times=10**9))
    for _ in range(3):
        with accepting.connect(GET[:9]) as reader:
            assert reader.head()[0] == 503
    assert accepting.waiting == 0
    assert caplog.text.count("cannot be watched") == 1
    monkeypatch.undo()
    assert accepting.serves()


def test_a_descriptor_that_cannot_be_had_is_said(
    accepting: Accepting, monkeypatch: pytest.MonkeyPatch, clients: contextlib.ExitStack
) -> None:
    clients.enter_context(accepting.connect())
    until(lambda: accepting.waiting == 1, "it")

    class Full(Unsendable):
        def send(self, data: bytes) -> int:
            return self._sock.send(data)

        def dup(self) -> socket.socket:
            raise OSError(24, "EMFILE")

    real = sockets.accept

    def accept(*arguments: Any, **options: Any) -> Any:
        return [(Full(sock), data) for sock, data in real(*arguments, **options)]

    monkeypatch.setattr(sockets, "accept", accept)
    monkeypatch.setattr(descriptors, "limit", lambda: 0)
    with accepting.connect(GET) as reader:
        assert reader.head()[0] == 503
    monkeypatch.undo()
    assert accepting.serves()


def test_accepting_pauses_when_the_system_has_nothing_to_give(
    accepting: Accepting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        sockets, "accept", failing(OSError(23, "ENFILE"), times=2, then=sockets.accept)
    )
    assert accepting.serves()


def test_half_closed_clients(accepting: Accepting) -> None:
    with accepting.connect(GET) as whole:
        whole.sock.shutdown(socket.SHUT_WR)
        assert whole.head()[0] == 200
    with accepting.connect(GET[:9]) as half:
        half.sock.shutdown(socket.SHUT_WR)
        assert half.rest().startswith(b"HTTP/1.0 400 ")
    assert accepting.waiting == 0


def test_the_largest_incomplete_requests_make_room(
    monkeypatch: pytest.MonkeyPatch, clients: contextlib.ExitStack
) -> None:
    monkeypatch.setattr(module, "HELD", 1_000_000)
    monkeypatch.setattr(module, "SHED", 700_000)
    accepting = Accepting()
    accepting.start()
    clients.callback(accepting.stop)
    small = [clients.enter_context(accepting.connect(GET[:9])) for _ in range(10)]
    large = []
    for number in range(30):
        reader = clients.enter_context(accepting.connect(POST % 200_000))
        with contextlib.suppress(OSError):  # it may be refused before all is sent
            reader.sock.sendall(b"x" * (100_000 + number))
        large.append(reader)

    def answered() -> list[Reader]:
        ready, _, _ = select.select([reader.sock for reader in large], [], [], 0)
        return [reader for reader in large if reader.sock in ready]

    # Of 3 MB, which of them are refused is a matter of how their pieces come; at most nine are not.
    until(lambda: len(answered()) >= 20, "the answers to those that are refused")
    statuses = []
    for reader in answered():
        with contextlib.suppress(ConnectionError):
            status, headers = reader.head()
            statuses.append((status, headers["retry-after"]))
    assert set(statuses) == {(503, "5")}
    assert accepting.acceptor._held <= 1_000_000
    for reader in small:
        reader.sock.sendall(GET[9:])
        assert reader.head()[0] == 200
    for reader in large:
        reader.close()
    until(lambda: accepting.waiting == 0, "all to be gone")
    assert accepting.acceptor._held == 0


def test_a_crowd_that_says_much_at_once_is_looked_at_in_turn(
    monkeypatch: pytest.MonkeyPatch, clients: contextlib.ExitStack
) -> None:
    monkeypatch.setattr(module, "HELD", 10_000)
    accepting = Accepting()
    said = GET[:-2] + b"A: " + b"b" * 8000 + b"\r\n\r\n"
    crowd = [clients.enter_context(accepting.connect(said)) for _ in range(300)]
    accepting.start()
    clients.callback(accepting.stop)
    for reader in crowd:
        assert reader.head()[0] == 200
    assert accepting.acceptor._arrived_bytes == 0


def test_who_retires_serves_those_that_are_there_and_nobody_else(accepting: Accepting) -> None:
    with accepting.connect(GET[:5]) as half:
        until(lambda: accepting.waiting == 1, "half a request")
        accepting.acceptor.retire()
        with accepting.connect(GET) as late:
            half.sock.sendall(GET[5:])
            assert half.head()[0] == 200
            accepting._thread.join(HANG)  # it has ended by itself
            assert not accepting._thread.is_alive()
            late.sock.setblocking(False)
            with pytest.raises(BlockingIOError):
                late.sock.recv(1)


def test_who_retires_does_not_wait_for_ever() -> None:
    accepting = Accepting(timeout=0.2)
    accepting.start()
    with accepting.connect(GET[:5]):
        until(lambda: accepting.waiting == 1, "half a request")
        accepting.acceptor.retire()
        accepting._thread.join(HANG)
        assert not accepting._thread.is_alive()
    accepting.stop()
