"""What an application does, and what its client gets, in a server in this process."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pushdemo.push.response import MakeHead
from pushdemo.servers import paste_http
from pushdemo.servers.listening import listen
from pushdemo.servers.paste_http import Server
from tests.servers import HANG, Reader, until

START = [("Content-Type", "text/plain")]


class Serving:
    """A server with two workers."""

    def __init__(self, application: Any) -> None:
        self.server = Server(listen(("127.0.0.1", 0), 128), workers=2)
        self.server.serve_application(application, collapse=True)
        self._thread = threading.Thread(target=self.server.serve_forever)
        self._thread.start()

    def connect(self, target: str = "/", method: str = "GET") -> Reader:
        request = f"{method} {target} HTTP/1.1\r\nHost: a\r\nCookie: secret\r\n\r\n"
        return Reader(self.server.address, request.encode())

    def get(self, target: str = "/", method: str = "GET") -> tuple[int, bytes]:
        with self.connect(target, method) as reader:
            return reader.head()[0], reader.rest()

    def close(self) -> None:
        self.server.stop()
        self._thread.join(HANG)


Start = Callable[[Any], Serving]


@pytest.fixture
def start() -> Iterator[Start]:
    with contextlib.ExitStack() as stack:

        def start(application: Any) -> Serving:
            serving = Serving(application)
            stack.callback(serving.close)
            return serving

        yield start


class Closing:
    """A body that raises where it is told to."""

    def __init__(self, error: BaseException | None, *pieces: bytes) -> None:
        self._error = error
        self._pieces = pieces
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces
        if self._error:
            raise self._error

    def close(self) -> None:
        self.closed += 1


def ok(_environ: Any, start_response: Any) -> Any:
    start_response("200 OK", [*START, ("Content-Length", "2")])
    return [b"ok"]


def raises(error: BaseException) -> Any:
    def application(_environ: Any, _start_response: Any) -> Any:
        raise error

    return application


def starts(*calls: tuple[Any, Any], body: Any = ()) -> Any:
    """An application that calls start_response so, and returns that body."""

    def application(_environ: Any, start_response: Any) -> Any:
        for call in calls:
            start_response(*call)
        return body

    return application


def starts_again(_environ: Any, start_response: Any) -> Any:
    start_response("200 OK", START)
    try:
        raise ValueError("on purpose")
    except ValueError:
        start_response("500 Internal Server Error", START, sys.exc_info())
    return [b""]


OK = ("200 OK", START)
FULL = ("200 OK", [*START, ("Content-Length", "2")])
FAULTS = {
    "call": raises(ValueError("on purpose")),
    "exit": raises(SystemExit("on purpose")),
    "interrupt": raises(KeyboardInterrupt()),
    "no start": starts(body=[b"x"]),
    "nothing": starts(body=None),
    "not bytes": starts(FULL, body=["text"]),
    "twice": starts(OK, OK, body=[b"x"]),
    "splitting": starts(("200 OK", [("A", "b\r\nC: d")])),
    "status": starts(("200 OK\r\nA: b", START)),
    "bytes": starts(("200 OK", [(b"A", b"b")])),
    "not latin-1": starts(("200 OK", [("A", "\u20ac")])),
    "no headers": starts(("200 OK", None)),
    "iteration": starts(FULL, body=Closing(ValueError("on purpose"))),
    "exit in iteration": starts(FULL, body=Closing(SystemExit("on purpose"))),
    "endless": starts(OK, body=Closing(OSError("on purpose"))),
    "exit in endless": starts(OK, body=Closing(SystemExit("on purpose"))),
}


@pytest.mark.parametrize("what", FAULTS)
def test_a_fault_of_the_application_is_500_and_ends_nothing(
    start: Start, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    def application(environ: Any, start_response: Any) -> Any:
        asked = FAULTS[what] if environ["PATH_INFO"] == "/fail" else ok
        return asked(environ, start_response)

    serving = start(application)
    for _ in range(4):  # more than there are workers
        status, body = serving.get("/fail")
        assert (status, b"server's log" in body) == (500, True)
    assert serving.get() == (200, b"ok")
    until(lambda: not serving.server.busy, "the workers")
    assert caplog.text.count("serving <GET /fail>") == 4
    assert "secret" not in caplog.text


def test_start_response_may_be_called_again_with_an_error(start: Start) -> None:
    assert start(starts_again).get()[0] == 500


@pytest.mark.parametrize("error", [None, ValueError("on purpose")])
@pytest.mark.parametrize("headers", [START, [*START, ("Content-Length", "9")]])
def test_a_body_is_closed_once(start: Start, error: Exception | None, headers: Any) -> None:
    body = Closing(error, b"begun")

    def application(_environ: Any, start_response: Any) -> Any:
        start_response("200 OK", headers)
        return body

    assert start(application).get() == (200, b"begun")
    until(lambda: body.closed, "the body to be closed")
    assert body.closed == 1


def test_an_error_in_closing_a_body_is_survived(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    class Odd(Closing):
        def close(self) -> None:
            raise SystemExit

    def application(_environ: Any, start_response: Any) -> Any:
        start_response("200 OK", START)
        return Odd(None, b"all")

    serving = start(application)
    for _ in range(4):
        assert serving.get() == (200, b"all")
    until(lambda: caplog.text.count("closing a response's body") == 4, "the log")


def test_whatever_can_do_without_its_server_is_given_the_connection(start: Start) -> None:
    class Elsewhere:
        """A response that another process sends."""

        def hand_off(self, sock: socket.socket, head: bytes, make_head: MakeHead) -> None:
            del make_head
            with sock:
                sock.sendall(head + b"from elsewhere")

        def close(self) -> None:
            pass

    def application(_environ: Any, start_response: Any) -> Any:
        start_response("200 OK", START)
        return Elsewhere()

    assert start(application).get() == (200, b"from elsewhere")


def test_the_head_is_as_it_was(start: Start) -> None:
    def application(_environ: Any, start_response: Any) -> Any:
        start_response("200 Fine", [("A", "b"), ("Connection", "keep-alive")])(b"written ")
        return [b"", b"returned"]

    with start(application).connect() as reader:
        lines = [reader.line() for _ in range(5)]
        assert reader.rest() == b"\r\nwritten returned"
    assert lines[0] == b"HTTP/1.0 200 Fine\r\n"
    assert [line.partition(b":")[0] for line in lines[1:3]] == [b"Server", b"Date"]
    assert lines[3:] == [b"A: b\r\n", b"Connection: close\r\n"]


def test_head_has_no_body_even_of_an_application_that_sends_one(start: Start) -> None:
    def application(_environ: Any, start_response: Any) -> Any:
        start_response("200 OK", START)
        return iter(lambda: b"for ever", b"")

    serving = start(application)
    assert serving.get(method="HEAD") == (200, b"")


def large(environ: Any, start_response: Any) -> Any:
    body = b"x" * (50_000_000 if environ["PATH_INFO"] == "/large" else 2)
    start_response("200 OK", [*START, ("Content-Length", str(len(body)))])
    return [body]


def test_clients_that_do_not_read_hold_no_worker(start: Start) -> None:
    serving = start(large)
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(serving.connect("/large")) for _ in range(6)]
        assert serving.get() == (200, b"xx")
        assert slow[0].head()[0] == 200
        assert len(slow[0].rest()) == 50_000_000


def test_a_slow_client_for_whom_there_is_no_thread_is_cut_off(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paste_http, "MAX_BODY_THREADS", 0)
    serving = start(large)
    with serving.connect("/large") as slow:
        until(lambda: not serving.server.busy, "the worker to be free")
        assert len(slow.rest()) < 50_000_000
    assert serving.get() == (200, b"xx")


def test_a_body_that_can_have_no_thread_is_503(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = Closing(None, b"x")

    def application(_environ: Any, start_response: Any) -> Any:
        start_response("200 OK", START)
        return body

    serving = start(application)
    real = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "pushdemo-body":
            raise RuntimeError("can't start new thread")
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    for _ in range(4):
        assert serving.get()[0] == 503
    monkeypatch.undo()
    assert serving.get() == (200, b"x")
    until(lambda: body.closed == 5, "the bodies to be closed")


def test_a_client_that_has_left_is_no_error(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    serving = start(large)
    for _ in range(50):
        reader = serving.connect("/large")
        reader.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        reader.close()
    until(lambda: not serving.server.busy, "the workers")
    assert serving.get() == (200, b"xx")
    assert "Traceback" not in caplog.text


def test_too_many_that_wait_are_told_to_come_again(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paste_http, "MOST", 5)
    go = threading.Event()

    def application(_environ: Any, start_response: Any) -> Any:
        go.wait(HANG)
        start_response("200 OK", START)
        return [b"x"]

    serving = start(application)
    with contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(serving.connect(f"/{number}")) for number in range(8)]
        until(lambda: len(serving.server._backlog) == 5, "five to wait")
        refused = [reader.head() for reader in crowd[5:]]
        assert [(status, fields["retry-after"]) for status, fields in refused] == [(503, "5")] * 3
        go.set()
        assert [reader.head()[0] for reader in crowd[:5]] == [200] * 5
    until(lambda: not serving.server.busy, "the workers")
