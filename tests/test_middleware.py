"""The middleware, between applications that do unusual things and a server that is watched."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from webtest import lint

from pushdemo import Push
from pushdemo.wsgi.connections import Descriptor, connection_of
from pushdemo.wsgi.door import HEADER
from tests.servers import HANG, until

Application = Callable[[dict[str, Any], Any], Any]


class Server:
    """Serves one request on a connection, as gunicorn does: the socket is in environ, and the
    response is written to it."""

    def __init__(self, app: Application, *, gives: bool = True, **more: Any) -> None:
        self.client, self._sock = socket.socketpair()
        self.client.settimeout(HANG)
        self.environ: dict[str, Any] = {
            "REQUEST_METHOD": "GET",
            "SCRIPT_NAME": "",
            "PATH_INFO": "/",
            "QUERY_STRING": "",
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "HTTP_ACCEPT": "application/x-ndjson",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(),
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            **({"gunicorn.socket": self._sock} if gives else {}),
            **more,
        }
        self.status = ""
        self.headers: list[tuple[str, str]] = []
        try:
            self._serve(app, gives)
        except BaseException:
            self.client.close()
            raise
        finally:
            self._sock.close()

    def _serve(self, app: Application, gives: bool) -> None:
        body = app(self.environ, self._start_response)
        try:
            pieces = b"".join(body) if gives else next(iter(body))
            head = "".join(f"{name}: {value}\r\n" for name, value in self.headers)
            with contextlib.suppress(OSError):
                self._sock.sendall(f"HTTP/1.1 {self.status}\r\n{head}\r\n".encode() + pieces)
        finally:
            if hasattr(body, "close"):
                body.close()

    def _start_response(self, status: str, headers: Any, exc_info: Any = None) -> Any:
        if exc_info is None:
            assert not self.status, "start_response was called twice"
        self.status, self.headers = status, list(headers)
        return lambda _: None

    def response(self) -> tuple[str, list[str]]:
        """The status and the header lines that the client gets."""
        received = b""
        while b"\r\n\r\n" not in received:
            piece = self.client.recv(65536)
            assert piece, received
            received += piece
        self.rest = received.partition(b"\r\n\r\n")[2]
        first, *lines = received.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
        assert HEADER.lower() not in received.decode("latin-1").lower()
        return first.split(" ", 1)[1], lines


@pytest.fixture
def push() -> Iterator[Push]:
    push = Push()
    push.pushed_feed("orders")
    push.publish("orders", 42)
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    yield push
    until(lambda: push.engine.open_now == 0, "all places are free again")
    push.close()
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before


def view(push: Push, **changes: Any) -> Application:
    """An application whose response is a stream, with some changes to it."""

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        status, headers, body = push.respond(environ, "orders")
        start_response(changes.get("status", status), [*headers, *changes.get("headers", ())])
        return changes.get("body", body)

    return app


def serve(push: Push, app: Application, **more: Any) -> Server:
    """Through the middleware, with a checker of PEP 3333 on both sides of it."""
    environ = {"paste.testing_variables": {}, **more}
    return Server(lint.middleware(push.middleware(lint.middleware(app))), **environ)


def is_stream(server: Server) -> list[str]:
    """That the client gets the stream; returns the head's lines."""
    with server.client:
        status, lines = server.response()
        received = server.rest
        while b'"value"' not in received:
            piece = server.client.recv(65536)
            assert piece
            received += piece
    assert status == "200 OK"
    assert "Content-Type: application/x-ndjson" in lines
    assert b'"value":42' in received
    return lines


def is_answer(server: Server, status: str, body: bytes = b"") -> list[str]:
    """That it gets an ordinary response, whole."""
    with server.client:
        answered, lines = server.response()
        received = server.rest + b"".join(iter(lambda: server.client.recv(65536), b""))
    assert (answered, received) == (status, body)
    return lines


def test_a_stream_leaves_the_server_whose_own_response_goes_nowhere(push: Push) -> None:
    server = serve(push, view(push))
    assert push.engine.open_now == 1
    assert (server.status, server.headers) == ("200 OK", [("Content-Length", "0")])
    is_stream(server)


def test_headers_of_the_application_stay_and_those_of_its_body_do_not(push: Push) -> None:
    headers = [
        ("Set-Cookie", "a=b"), ("Set-Cookie", "c=d"), ("Content-Security-Policy", "default-src"),
        ("Access-Control-Allow-Origin", "https://example.org"), ("Content-Length", "0"),
        ("Content-Encoding", "br"), ("ETag", '"empty"'), ("Last-Modified", "today"),
        ("Vary", "Cookie"),
    ]  # fmt: skip
    lines = is_stream(serve(push, view(push, headers=headers)))
    for kept in ("Set-Cookie: a=b", "Set-Cookie: c=d", "Content-Security-Policy: default-src",
                 "Access-Control-Allow-Origin: https://example.org", "Vary: Cookie",
                 "Cache-Control: no-store"):  # fmt: skip
        assert kept in lines
    for dropped in ("Content-Length", "Content-Encoding", "ETag", "Last-Modified"):
        assert not any(line.startswith(f"{dropped}:") for line in lines)


def test_a_body_that_some_middleware_has_made_is_closed_and_not_sent(push: Push) -> None:
    class Body:
        closed = 0

        def __iter__(self) -> Iterator[bytes]:
            yield b"compressed"

        def close(self) -> None:
            self.closed += 1

    body = Body()
    is_stream(serve(push, view(push, body=body)))
    assert body.closed == 1


def test_an_error_in_closing_it_does_not_end_the_stream(
    push: Push, caplog: pytest.LogCaptureFixture
) -> None:
    class Body(list):  # type: ignore[type-arg]
        def close(self) -> None:
            raise ValueError("the session cannot be saved")

    server = Server(push.middleware(view(push, body=Body())))
    is_stream(server)
    assert "the session cannot be saved" in caplog.text


def test_other_responses_pass_through_as_they_are(push: Push) -> None:
    body = [b"home"]
    seen = []

    def app(environ: dict[str, Any], start_response: Any) -> Any:  # noqa: ARG001
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "4")])
        return body

    wrapped = push.middleware(app)
    seen.append(wrapped({}, lambda *_: None))
    assert seen == [body]
    assert seen[0] is body  # so that a server knows a wsgi.file_wrapper's for what it is
    is_answer(serve(push, app), "200 OK", b"home")


@pytest.mark.parametrize("status", ["302 Found", "403 Forbidden", "500 Internal Server Error"])
def test_an_answer_of_another_status_that_kept_the_ticket_is_that_answer(
    push: Push, status: str
) -> None:
    lines = is_answer(serve(push, view(push, status=status, body=[b"no"])), status, b"no")
    assert not any("icket" in line for line in lines)


def test_a_view_that_opens_a_stream_and_returns_something_else(push: Push) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        push.respond(environ, "orders")
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"changed my mind"]

    is_answer(serve(push, app), "200 OK", b"changed my mind")


def test_of_two_streams_the_one_that_is_returned(push: Push) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        push.respond(environ, "orders")
        status, headers, body = push.respond(environ, "orders")
        start_response(status, headers)
        return body

    server = serve(push, app)
    assert push.engine.open_now == 1
    is_stream(server)


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_exception_of_the_view_is_the_server_s(push: Push, when: str) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        status, headers, _ = push.respond(environ, "orders")
        if when == "after":
            start_response(status, headers)
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        serve(push, app)
    assert push.engine.open_now == 0
    gc.collect()


def test_an_error_page_in_place_of_a_stream(push: Push) -> None:
    """As PEP 3333 has an application do that fails after start_response."""

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        status, headers, _ = push.respond(environ, "orders")
        start_response(status, headers)
        try:
            raise ValueError("a bug")
        except ValueError as error:
            info = (type(error), error, error.__traceback__)
            start_response("500 Oops", [("Content-Type", "text/plain")], info)
        return [b"oops"]

    is_answer(serve(push, app), "500 Oops", b"oops")


@pytest.mark.parametrize("ticket", ["", "0" * 32, "stale"])
def test_a_ticket_for_no_stream_is_an_error(push: Push, ticket: str) -> None:
    """Made up, or that of another request, from a cache of responses."""
    kept: list[str] = []

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        _, headers, _ = push.respond(environ, "orders")
        kept.append(dict(headers)[HEADER])
        given = kept[0] if ticket == "stale" else ticket
        start_response("200 OK", [("Content-Type", "text/plain"), (HEADER, given)])
        return []

    if ticket == "stale":
        is_stream(serve(push, app))
    with pytest.raises(ValueError, match=f"a {HEADER} for no stream of its request"):
        serve(push, app)


def test_an_application_that_starts_its_response_with_its_first_piece(push: Push) -> None:
    def stream(environ: dict[str, Any], start_response: Any) -> Any:
        status, headers, _ = push.respond(environ, "orders")
        start_response(status, headers)
        yield b""

    def text(environ: dict[str, Any], start_response: Any) -> Any:  # noqa: ARG001
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"one "
        yield b"two"

    is_stream(serve(push, stream))
    is_answer(serve(push, text), "200 OK", b"one two")


def test_what_is_written_before_a_stream_is_not_sent(push: Push) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        status, headers, body = push.respond(environ, "orders")
        start_response(status, headers)(b"for nobody")
        return body

    is_stream(serve(push, app))


def test_head_gets_the_headers_of_the_stream_and_no_place(push: Push) -> None:
    server = serve(push, view(push), REQUEST_METHOD="HEAD")
    assert push.engine.open_now == 0
    lines = is_answer(server, "200 OK")
    assert "Content-Type: application/x-ndjson" in lines


def test_one_in_another_does_nothing(push: Push) -> None:
    is_stream(serve(push, push.middleware(view(push))))


def test_a_server_that_gives_nothing_iterates_the_stream(push: Push) -> None:
    server = serve(push, view(push), gives=False)
    assert server.status == "200 OK"
    assert ("Content-Type", "application/x-ndjson") in server.headers
    with server.client:
        status, _ = server.response()
    assert status == "200 OK"


class Closed:
    def fileno(self) -> int:
        return -1


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"SERVER_PROTOCOL": "HTTP/1.1"},
        {"SERVER_PROTOCOL": "HTTP/2.0", "gunicorn.socket": socket.socket},
        {"SERVER_PROTOCOL": "HTTP/1.1", "gunicorn.socket": type("", (), {"cipher": 1})()},
        {
            "SERVER_PROTOCOL": "HTTP/1.1",
            "werkzeug.socket": type("", (), {"fileno": lambda _: -1})(),
        },
    ],
)
def test_connections_that_cannot_be_taken(environ: dict[str, Any]) -> None:
    assert connection_of(environ) is None


def test_without_a_descriptor_left_the_answer_is_503(
    push: Push, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none_left(_: object) -> Any:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(Descriptor, "detach", none_left)
    with serve(push, view(push)).client as client:
        assert client.recv(65536).startswith(b"HTTP/1.1 503 ")
    assert "Too many open files" in caplog.text
    assert push.engine.open_now == 0


def test_a_forked_process_does_not_keep_a_stream_open(push: Push) -> None:
    server = serve(push, view(push, headers=[]))
    with server.client:
        server.response()
        reading, writing = os.pipe()
        child = os.fork()
        if not child:  # waits for its parent's end of the pipe
            try:
                os.close(writing)
                os.read(reading, 1)
            finally:
                os._exit(0)
        os.close(reading)
        try:
            push.close()
            while server.client.recv(65536):
                pass  # the end comes, though the child lives
        finally:
            os.close(writing)
            os.waitpid(child, 0)
