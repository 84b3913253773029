"""The client's watch against a server that follows a script, byte by byte."""

from __future__ import annotations

import errno
import gzip
import logging
import socket
import ssl
import struct
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from pushdemo.client import BadStream, Disconnected, Event, Refused, TooLarge, WatchError, watch
from pushdemo.client.connection import USER_AGENT, _inflate, _one_kind_of_error, parse_url
from pushdemo.client.formats import ANY
from pushdemo.client.watcher import FIRST_DELAY, LONGEST_DELAY, SHORTEST_DELAY

HANG = 20.0  # seconds: so long only a bug takes

MULTIPART = {"Content-Type": "multipart/x-mixed-replace;boundary=test"}
SSE = {"Content-Type": "text/event-stream"}
NDJSON = {"Content-Type": "application/x-ndjson"}


class Exchange:
    """A connection on which a request has come."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        lines = self.receive_head().split("\r\n")
        self.method, self.target, _ = lines[0].split(" ")
        self.headers = {
            name.lower(): value for name, value in (line.split(": ", 1) for line in lines[1:])
        }

    def receive_head(self) -> str:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            data = self._sock.recv(1)
            assert data, "the client hung up before its request"
            head += data
        return head.decode("latin-1").removesuffix("\r\n\r\n")

    def start(self, headers: dict[str, str], status: str = "200 OK") -> None:
        lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers.items())]
        self.send("\r\n".join([*lines, "", ""]).encode())

    def send(self, data: bytes) -> None:
        self._sock.sendall(data)

    def reset(self) -> None:
        """Break it off, not end it."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()

    def wait_for_hangup(self) -> None:
        while self._sock.recv(4096):
            pass


Script = Callable[[Exchange], None]


class Server:
    """Answers one request after another with one script after another, and then no more. What a
    script asserts is checked when the server is left."""

    def __init__(self, *scripts: Script, tls: ssl.SSLContext | None = None) -> None:
        self.exchanges: list[Exchange] = []
        self._scripts = scripts
        self._tls = tls
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.settimeout(HANG)
        self.port = self._socket.getsockname()[1]
        self.url = f"http{'s' if tls else ''}://localhost:{self.port}/server/index"
        self._errors: list[BaseException] = []
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        self._thread.join(HANG)
        assert not self._thread.is_alive(), "the client asked less often than the script answers"
        if kind is None and self._errors:
            raise self._errors[0]

    @property
    def headers(self) -> list[dict[str, str]]:
        return [exchange.headers for exchange in self.exchanges]

    def _run(self) -> None:
        try:
            for number, script in enumerate(self._scripts, 1):
                sock, _ = self._socket.accept()
                if number == len(self._scripts):
                    self._socket.close()  # whoever asks more is refused
                with sock:
                    sock.settimeout(HANG)
                    if self._tls is not None:
                        sock = self._tls.wrap_socket(sock, server_side=True)
                    with sock:
                        self.exchanges.append(Exchange(sock))
                        script(self.exchanges[-1])
        except BaseException as error:
            self._errors.append(error)
        finally:
            self._socket.close()


def answer(
    body: bytes = b"", headers: dict[str, str] | None = None, status: str = "200 OK"
) -> Script:
    """A whole answer, ended by the end of the connection where it tells no length."""

    def script(exchange: Exchange) -> None:
        exchange.start(headers or SSE, status)
        exchange.send(body)

    return script


def document(body: bytes, event_id: str | None = None, **headers: str) -> Script:
    own = {} if event_id is None else {"ETag": f'"{event_id}"'}
    length = {"Content-Length": str(len(body))}
    kind = {"Content-Type": "application/json"}
    return answer(body, {**kind, **length, **own, **headers})


NOT_MODIFIED = answer(status="304 Not Modified")


def sse(*ids: int, retry: int | None = None) -> bytes:
    opening = "" if retry is None else f"retry: {retry}\n\n"
    return (opening + "".join(f"id: e-{n}\ndata: {n}\n\n" for n in ids)).encode()


def part(n: int, body: bytes = b"") -> bytes:
    body = body or f"<message>{n}</message>".encode()
    head = (
        f"Content-Type: application/xml\r\nContent-Length: {len(body)}\r\nEvent-ID: e-{n}\r\n\r\n"
    )
    return head.encode() + body + b"\r\n--test\r\n"


def multipart(*ids: int, end: bool = False) -> bytes:
    stream = b"--test\r\n" + b"".join(map(part, ids))
    return stream[:-2] + b"--\r\n" if end else stream


def values(events: Sequence[Event]) -> list[Any]:
    return [event.value for event in events]


class Sleeps(list[float]):
    """A sleep that takes no time, but is written down, on a clock that stands still otherwise."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        assert len(self) < 100, "it asks again and again"
        self.append(seconds)
        self.now += seconds

    def clock(self) -> float:
        return self.now


def take(count: int, url: str, **options: Any) -> list[Event]:
    """The first events, without waiting between connections."""
    with watch(url, **{"sleep": Sleeps().sleep, "timeout": HANG, **options}) as events:
        return [next(events) for _ in range(count)]


# The request


def test_it_asks_as_a_client_that_reads_every_format() -> None:
    with Server(answer(sse(1))) as server:
        take(1, f"http://127.0.0.1:{server.port}")
    (exchange,) = server.exchanges
    assert (exchange.method, exchange.target) == ("GET", "/server/index")
    assert exchange.headers == {
        "host": f"127.0.0.1:{server.port}",
        "accept": ANY,
        "accept-encoding": "gzip",
        "connection": "close",
        "user-agent": USER_AGENT,
    }


@pytest.mark.parametrize(
    ("accept", "header"),
    [("sse", "text/event-stream"), ("multipart", "multipart/x-mixed-replace"),
     ("ndjson", "application/x-ndjson"), ("text/event-stream;q=0.1", "text/event-stream;q=0.1")],
)  # fmt: skip
def test_it_asks_for_the_format_that_is_wanted(accept: str, header: str) -> None:
    with Server(answer(sse(1))) as server:
        take(1, server.url, accept=accept)
    assert server.headers[0]["accept"] == header
    assert "prefer" not in server.headers[0]


@pytest.mark.parametrize(
    ("url", "host", "port", "path"),
    [
        ("http://h", "h", None, "/server/index"),
        ("h:81/", "h", 81, "/server/index"),
        ("https://[::1]:82?limit=3", "::1", 82, "/server/index"),
        ("http://h/server/index/a+b?x", "h", None, "/server/index/a+b"),
    ],
)
def test_an_address_without_a_path_means_the_first_feed(
    url: str, host: str, port: int | None, path: str
) -> None:
    parts = parse_url(url)
    assert (parts.hostname, parts.port, parts.path) == (host, port, path)


@pytest.mark.parametrize(
    "url",
    ["ftp://h", "http://", "http:///x", "h:port", "h:70000", "http://a b/", "http://a..b/",
     "http://[::1", "http://user:secret@h/", ""],
)  # fmt: skip
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the words are Python's for some
        watch(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "options", [{"limit": 0}, {"timeout": 0}, {"last_event_id": "a\r\nb"}, {"last_event_id": 'a"'}]
)
def test_options_that_cannot_be_right_are_refused(options: Any) -> None:
    with pytest.raises(ValueError, match=r"must be|cannot be"):
        watch("http://h", **options)


def test_what_a_request_line_cannot_hold_is_escaped() -> None:
    with Server(answer(sse(1))) as server:
        take(1, f"{server.url}/gr\xfcn tea%2Fx+b?limit=9&q=\xfc'")
    assert server.exchanges[0].target == "/server/index/gr%C3%BCn%20tea%2Fx+b?limit=9&q=%C3%BC'"


def test_ipv6_hosts_stand_in_brackets() -> None:
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no IPv6")
    server = Server(answer(sse(1)))
    server._socket.close()
    server._socket = listener
    port = listener.getsockname()[1]
    with server:
        assert values(take(1, f"http://[::1]:{port}")) == ["1"]
    assert server.headers[0]["host"] == f"[::1]:{port}"


def test_nothing_is_sent_before_the_first_event_is_wanted() -> None:
    watch("http://127.0.0.1:1").close()


# Streams


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (MULTIPART, multipart(1, 2)),
        (SSE, sse(1, 2)),
        (NDJSON, b'{"id":"e-1","value":"1"}\n{"id":"e-2","value":"2"}\n'),
    ],
)
def test_it_reads_what_the_answer_says_it_is(headers: dict[str, str], body: bytes) -> None:
    with Server(answer(body, headers)) as server:
        events = take(2, server.url)
    assert [(event.id, event.value) for event in events] == [("e-1", "1"), ("e-2", "2")]


def compressed(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(data) + compressor.flush(zlib.Z_FULL_FLUSH)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@pytest.mark.parametrize(
    ("headers", "opening", "encode"),
    [
        ({}, b"", bytes),
        ({"Transfer-Encoding": "chunked"}, b"", chunk),
        ({"Content-Encoding": "gzip"}, b"\x1f\x8b\x08\0\0\0\0\0\0\xff", compressed),
    ],
    ids=["plain", "chunked", "gzip"],
)
def test_an_event_is_given_out_before_the_next_is_sent(
    headers: dict[str, str], opening: bytes, encode: Callable[[bytes], bytes]
) -> None:
    taken: SimpleQueue[str] = SimpleQueue()

    def script(exchange: Exchange) -> None:
        exchange.start(MULTIPART | headers)
        exchange.send(opening + encode(b"--test\r\n"))
        for n in (1, 2, 3):
            exchange.send(encode(part(n)))
            assert taken.get(timeout=HANG) == str(n)

    with Server(script) as server, watch(server.url, timeout=HANG) as events:
        for _ in range(3):
            taken.put(next(events).value)


def test_what_a_few_compressed_bytes_stand_for_comes_whole_and_not_at_once() -> None:
    """A megabyte of text is two hundred times less on the wire; none of it may stay inside."""
    text = "x" * 1_000_003
    body = gzip.compress(f"data: {text}\n\n".encode())

    def script(exchange: Exchange) -> None:
        exchange.start({**SSE, "Content-Encoding": "gzip"})
        exchange.send(body)
        exchange.wait_for_hangup()

    with Server(script) as server:
        assert values(take(1, server.url)) == [text]


def test_all_that_has_come_is_decompressed_at_once_and_in_chunks() -> None:
    """Wherever the bytes are cut: the last of them may stand for more than fits in the chunk."""
    data = gzip.compress(b"x" * 300_000)
    for end in range(len(data) + 1):
        pieces = list(_inflate(zlib.decompressobj(31), data[:end]))
        assert b"".join(pieces) == zlib.decompressobj(31).decompress(data[:end])
        assert all(len(piece) <= 64 * 1024 for piece in pieces)


def test_a_stream_that_is_not_what_it_says_ends_the_watch() -> None:
    with Server(answer(b'{"value":1}\nnonsense\n', NDJSON)) as server:
        events = watch(server.url)
        assert next(events).value == 1
        with pytest.raises(BadStream, match="this is not JSON: b'nonsense'"):
            next(events)


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        (
            {"Content-Type": "text/html"},
            "answers with text/html, which is no event format, and begins with '<html>'$",
        ),
        ({"Content-Length": "6"}, "answers with no Content-Type, .*, and begins with '<html>'$"),
        ({**SSE, "Content-Encoding": "br"}, "Content-Encoding: br, which nobody asked for"),
        ({**SSE, "Content-Encoding": "gzip"}, "this is not gzip"),
        ({"Content-Type": "multipart/x-mixed-replace"}, "begins with '--' .*, got '<html>'$"),
        (MULTIPART, "expected the line '--test' before the first part, got '<html>'$"),
        (SSE, "expected a field such as 'data: ...', got '<html>'$"),
        (NDJSON, "expected a JSON object on a line, got '<html>'$"),
    ],
)
def test_an_answer_that_nobody_can_read_ends_the_watch(
    headers: dict[str, str], message: str
) -> None:
    with Server(answer(b"<html>", headers)) as server, pytest.raises(BadStream, match=message):
        take(1, server.url)


def test_an_event_that_is_too_large_ends_the_watch() -> None:
    with Server(answer(sse(1) + b"data: " + b"x" * 2000)) as server:
        events = watch(server.url, maximum=1000)
        assert next(events).value == "1"
        with pytest.raises(TooLarge, match="longer than 1000 bytes"):
            next(events)


# The end


def test_it_ends_after_as_many_values_as_wanted() -> None:
    reset = b'event: reset\ndata: {"event":"reset"}\n\n'
    with Server(answer(sse(1) + reset + sse(2, 3))) as server:
        events = list(watch(server.url, limit=2))
    assert [event.type for event in events] == ["message", "reset", "message"]


@pytest.mark.parametrize(("in_url", "limit"), [(1, 2), (2, 1)])
def test_of_two_limits_the_smaller_counts(in_url: int, limit: int) -> None:
    with Server(answer(sse(1, 2))) as server:
        assert values(list(watch(f"{server.url}?limit={in_url}", limit=limit))) == ["1"]


def test_a_limit_holds_over_connections() -> None:
    with Server(answer(sse(1, 2)), answer(sse(3, 4))) as server:
        events = list(watch(server.url, limit=3, sleep=Sleeps().sleep))
    assert values(events) == ["1", "2", "3"]


def test_a_stream_that_was_asked_to_end_ends_the_watch() -> None:
    with Server(answer(multipart(1, 2, end=True), MULTIPART)) as server:
        assert values(list(watch(f"{server.url}?limit=3"))) == ["1", "2"]


def test_a_stream_that_ended_is_not_waited_for() -> None:
    def script(exchange: Exchange) -> None:
        exchange.start(MULTIPART)
        exchange.send(multipart(1, end=True))
        exchange.wait_for_hangup()

    with Server(script) as server:
        assert values(list(watch(f"{server.url}?limit=3"))) == ["1"]


@pytest.mark.parametrize("last", [b"", b"\n\n"])
def test_a_stream_without_a_closing_delimiter_has_ended_after_the_limit(last: bytes) -> None:
    with Server(answer(sse(1)), answer(sse(2) + last)) as server:
        assert values(list(watch(f"{server.url}?limit=2", sleep=Sleeps().sleep))) == ["1", "2"]
    assert server.headers[1]["last-event-id"] == "e-1"


def test_a_stream_that_nobody_asked_to_end_goes_on() -> None:
    with Server(
        answer(multipart(1, end=True), MULTIPART), answer(multipart(2), MULTIPART)
    ) as server:
        assert values(take(2, server.url)) == ["1", "2"]


# Reconnecting


@pytest.mark.parametrize(
    "first",
    [
        answer(sse(1) + b"id: e-2\ndata: 2\n"),
        answer(multipart(1) + part(2)[:-30], MULTIPART),
        answer(chunk(sse(1)), {**SSE, "Transfer-Encoding": "chunked"}),
        answer(chunk(sse(1)) + b"9", {**SSE, "Transfer-Encoding": "chunked"}),
        answer(chunk(sse(1)) + b"9\r\nid", {**SSE, "Transfer-Encoding": "chunked"}),
        answer(chunk(sse(1)) + b"0\r\n\r\n", {**SSE, "Transfer-Encoding": "chunked"}),
        answer(sse(1), {**SSE, "Content-Length": str(len(sse(1)))}),
        answer(sse(1), {**SSE, "Content-Length": "999"}),
        answer(gzip.compress(sse(1)), {**SSE, "Content-Encoding": "gzip"}),
        answer(gzip.compress(sse(1))[:-9], {**SSE, "Content-Encoding": "gzip"}),
    ],
)
def test_a_stream_that_breaks_is_resumed_after_its_last_event(first: Script) -> None:
    with Server(first, answer(sse(2, 3))) as server:
        assert values(take(3, server.url)) == ["1", "2", "3"]
    assert "last-event-id" not in server.headers[0]
    assert server.headers[1]["last-event-id"] == "e-1"


def test_a_connection_that_is_reset_is_resumed() -> None:
    taken = threading.Event()

    def script(exchange: Exchange) -> None:
        exchange.start(SSE)
        exchange.send(sse(1))
        assert taken.wait(HANG)  # a reset overtakes what has not been read
        exchange.reset()

    with Server(script, answer(sse(2))) as server:
        events = watch(server.url, sleep=Sleeps().sleep)
        assert next(events).value == "1"
        taken.set()
        assert next(events).value == "2"
    assert server.headers[1]["last-event-id"] == "e-1"


def test_a_watch_goes_on_where_a_former_one_ended() -> None:
    with Server(answer(sse(4))) as server:
        events = watch(server.url, last_event_id="e-3")
        assert events.last_event_id == "e-3"
        next(events)
        assert events.last_event_id == "e-4"
    assert server.headers[0]["last-event-id"] == "e-3"


def test_the_last_id_is_that_of_the_last_event_that_was_given_out() -> None:
    with Server(answer(sse(1, 2) + b"id: e-3\n\n")) as server:
        events = watch(server.url, reconnect=False)
        next(events)
        assert events.last_event_id == "e-1"
        next(events)
        assert events.last_event_id == "e-2"
        with pytest.raises(Disconnected):
            next(events)
        assert events.last_event_id == "e-3"


def test_an_id_that_no_header_can_hold_is_not_sent() -> None:
    with Server(answer(b'{"id":"a\\nb","value":1}\n', NDJSON), answer(sse(2))) as server:
        take(2, server.url)
    assert "last-event-id" not in server.headers[1]


def test_an_id_beyond_ascii_is_sent_in_utf_8() -> None:
    with Server(answer("id: \u20ac\ndata: x\n\n".encode()), answer(sse(2))) as server:
        take(2, server.url)
    assert server.headers[1]["last-event-id"].encode("latin-1").decode() == "\u20ac"


def test_waiting_doubles_up_to_a_limit_and_begins_again_with_an_event() -> None:
    sleeps = Sleeps()
    scripts = [*[answer()] * 7, answer(sse(1)), *[answer()] * 2, answer(sse(2))]
    with Server(*scripts) as server:
        take(2, server.url, sleep=sleeps.sleep, clock=sleeps.clock, random=lambda: 1.0)
    assert sleeps == [2, 4, 8, 16, 32, 60, 60, 2, 4, 8]
    assert (FIRST_DELAY, LONGEST_DELAY) == (2, 60)


def test_waiting_is_a_random_part_of_that() -> None:
    sleeps = Sleeps()
    parts = iter([0.25, 0.0, 0.5])
    with Server(*[answer()] * 3, answer(sse(1))) as server:
        take(1, server.url, sleep=sleeps.sleep, random=lambda: next(parts))
    assert sleeps == [0.5, 4.0]  # and for none, it does not sleep


def test_waiting_for_ever_does_not_overflow() -> None:
    sleeps = Sleeps()
    events = watch("http://127.0.0.1:1", sleep=sleeps.sleep, random=lambda: 1.0)

    def close_in_time(seconds: float) -> None:
        sleeps.append(seconds)
        if len(sleeps) == 1500:
            events.close()

    events._sleep = close_in_time
    assert list(events) == []
    assert sleeps[-1] == LONGEST_DELAY


@pytest.mark.parametrize(("retry", "first"), [(500, 0.5), (0, SHORTEST_DELAY)])
def test_the_server_says_where_waiting_begins(retry: int, first: float) -> None:
    sleeps = Sleeps()
    scripts = [answer(sse(retry=retry)), answer(), answer(sse(1))]
    with Server(*scripts) as server:
        take(1, server.url, sleep=sleeps.sleep, random=lambda: 1.0)
    assert sleeps == [first, 2 * first]


def test_a_stream_that_was_silent_for_long_was_not_broken() -> None:
    sleeps = Sleeps()

    def long(exchange: Exchange) -> None:
        sleeps.now += LONGEST_DELAY
        exchange.start(SSE)

    with Server(answer(), long, answer(), answer(sse(1))) as server:
        take(1, server.url, sleep=sleeps.sleep, clock=sleeps.clock, random=lambda: 1.0)
    assert sleeps == [2, 2, 4]


@pytest.mark.parametrize(
    ("headers", "after"),
    [
        ({"Retry-After": "7"}, 7),
        ({"Retry-After": "Tue, 24 Nov 2026 10:00:09 GMT",
          "Date": "Tue, 24 Nov 2026 10:00:00 GMT"}, 9),
        ({"Retry-After": "Tue, 24 Nov 2026 10:00:00 GMT",
          "Date": "Tue, 24 Nov 2026 10:00:09 GMT"}, 0),
        ({"Retry-After": "soon"}, 0),
        ({"Retry-After": "-3"}, 0),
        ({}, 0),
    ],
)  # fmt: skip
@pytest.mark.parametrize("status", ["503 Service Unavailable", "429 Too Many Requests", "500 Oh"])
def test_a_server_that_cannot_answer_now_says_when(
    headers: dict[str, str], after: float, status: str
) -> None:
    sleeps = Sleeps()
    headers = {"Content-Length": "0", **headers}
    with Server(answer(b"", headers, status), answer(sse(1))) as server:
        take(1, server.url, sleep=sleeps.sleep, random=lambda: 0.5)
    assert sleeps == [after + 1]


def test_a_server_that_is_not_there_is_asked_again() -> None:
    sleeps = Sleeps()
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    listener.close()
    server = Server(answer(sse(1)))

    def sleep(seconds: float) -> None:
        sleeps.sleep(seconds)
        if len(sleeps) == 3:
            server._socket.close()
            server._socket = socket.create_server(("127.0.0.1", port))
            server.__enter__()

    assert values(take(1, f"http://127.0.0.1:{port}", sleep=sleep, random=lambda: 1.0)) == ["1"]
    server.__exit__(None)
    assert sleeps == [2, 4, 8]


def test_a_connection_on_which_nothing_comes_is_dead(caplog: pytest.LogCaptureFixture) -> None:
    def silent(exchange: Exchange) -> None:
        exchange.start(SSE)
        exchange.send(sse(1))
        exchange.wait_for_hangup()

    with Server(silent, answer(sse(2))) as server:
        assert values(take(2, server.url, timeout=0.2)) == ["1", "2"]
    assert "nothing came for 0.2 s" in caplog.text


@pytest.mark.parametrize(
    ("headers", "unknown"), [(MULTIPART, b"<p>\r\n"), (SSE, b"<p>\r\n"), (NDJSON, b"<p>")]
)
def test_bytes_that_nobody_understands_are_no_sign_of_life(
    headers: dict[str, str], unknown: bytes
) -> None:
    sleeps = Sleeps()
    later = threading.Event()

    def script(exchange: Exchange) -> None:
        exchange.start(headers)
        exchange.send(unknown)
        assert later.wait(HANG)
        exchange.send(unknown)
        exchange.wait_for_hangup()

    def clock() -> float:
        if server.exchanges:
            sleeps.now += HANG / 2  # of the time that a connection may be silent
            later.set()
        return sleeps.now

    with Server(script) as server, pytest.raises(BadStream, match=r"^expected .*, got '<p>"):
        take(1, server.url, clock=clock)


@pytest.mark.parametrize(
    ("headers", "understood", "event"),
    [(MULTIPART, b"--test\r\n\r\n\r\n--test\r\n", part(1)), (SSE, b":\n\n", sse(1)),
     (NDJSON, b"\n", b'{"value": "1"}\n')],
)  # fmt: skip
def test_a_stream_without_an_event_yet_is_waited_for(
    headers: dict[str, str], understood: bytes, event: bytes
) -> None:
    sleeps = Sleeps()

    def clock() -> float:
        sleeps.now += 10 * HANG
        return sleeps.now

    def script(exchange: Exchange) -> None:
        exchange.start(headers)
        exchange.send(understood)
        time.sleep(0.05)  # so that it comes alone
        exchange.send(event)

    with Server(script) as server:
        assert values(take(1, server.url, clock=clock)) == ["1"]


def test_where_the_system_gives_up_first_its_own_words_are_told() -> None:
    with pytest.raises(Disconnected, match="Connection timed out"), _one_kind_of_error(45):
        raise TimeoutError(errno.ETIMEDOUT, "Connection timed out")


def test_each_connection_is_a_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pushdemo.client")
    with Server(answer(sse(1)), answer(sse(2))) as server:
        take(2, server.url, random=lambda: 0.6)
    assert caplog.messages == [
        f"connected to {server.url}: text/event-stream",
        "reconnecting in 1.2 s: the stream ended",
        f"connected to {server.url}: text/event-stream",
    ]


# Errors


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        ("404 Not Found", b"404 Not Found\n\nThere is no feed 'x'.\n",
         "404 Not Found: There is no feed 'x'."),
        ("405 Method Not Allowed", b"", "405 Method Not Allowed"),
        ("406 Not Acceptable", b"no", "406 Not Acceptable: no"),
        ("400 Bad Request", b"limit=x:\r\n a number", "400 Bad Request: limit=x: a number"),
        ("204 No Content", b"", "204 No Content"),
        ("304 Not Modified", b"", "304 Not Modified"),
        ("404 ", b"x" * 1_000_000, "404: " + "x" * 4096),
    ],
)  # fmt: skip
def test_a_refusal_is_final(status: str, body: bytes, message: str) -> None:
    def script(exchange: Exchange) -> None:
        exchange.start({"Content-Length": str(len(body)), "Content-Type": "text/plain"}, status)
        try:
            exchange.send(body)
        except ConnectionError:
            assert len(body) > 4096  # who has read enough hangs up

    with Server(script) as server, pytest.raises(Refused) as caught:
        take(1, server.url, accept="sse")
    assert str(caught.value) == message
    assert caught.value.status == int(status[:3])
    assert caught.value.text == body.decode()[:4096]


def test_where_no_other_format_can_carry_it_multipart_is_asked_for() -> None:
    image = b"\x89PNG"
    part = b"--test\r\nContent-Type: image/png\r\nContent-Length: 4\r\n\r\n" + image
    refusal = answer(b"", {"Content-Length": "0"}, "406 Not Acceptable")
    with Server(refusal, answer(part, MULTIPART)) as server:
        assert values(take(1, server.url)) == [image]
    assert server.headers[1]["accept"] == "multipart/x-mixed-replace"

    with Server(refusal, refusal) as server, pytest.raises(Refused):
        take(1, server.url)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (answer(sse(1)), "the stream ended"),
        (answer(b"", {"Content-Length": "0"}, "503 Busy"), "503 Busy"),
        (
            answer(chunk(b":")[:-3], {**SSE, "Transfer-Encoding": "chunked"}),
            "^the answer broke off$",
        ),
        (lambda exchange: exchange.send(b"SSH-2.0-OpenSSH\r\n"), "SSH-2.0-OpenSSH"),
        (lambda _: None, "Remote end closed connection without response"),
    ],
)
def test_who_wants_one_connection_gets_its_end(script: Script, message: str) -> None:
    with Server(script) as server, pytest.raises(Disconnected, match=message):
        list(watch(server.url, reconnect=False))


def test_a_server_that_is_not_there_is_an_error_for_who_wants_one_connection() -> None:
    with pytest.raises(Disconnected, match="Connection refused"):
        next(watch("http://127.0.0.1:1", reconnect=False))


# Redirects


@pytest.mark.parametrize("status", ["301 x", "302 x", "303 x", "307 x", "308 x"])
def test_a_redirect_is_followed(status: str) -> None:
    location = {"Location": "../feeds/clock?limit=1", "Content-Length": "0"}
    with Server(answer(b"", location, status), answer(sse(1))) as server:
        assert values(take(1, server.url, last_event_id="e-0")) == ["1"]
    assert server.exchanges[1].target == "/feeds/clock?limit=1"
    assert server.headers[1]["last-event-id"] == "e-0"


def test_redirects_lead_to_other_servers() -> None:
    with Server(answer(sse(1))) as other:
        location = {"Location": other.url, "Content-Length": "0"}
        with Server(answer(b"", location, "302 Found")) as server:
            assert values(take(1, server.url)) == ["1"]


def test_redirects_end() -> None:
    again = answer(b"", {"Location": "/again", "Content-Length": "0"}, "302 Found")
    with Server(*[again] * 6) as server, pytest.raises(WatchError, match="more than 5 redirects"):
        take(1, server.url)


@pytest.mark.parametrize("location", ["ftp://h/", "http://[", "http://h:x/"])
def test_a_redirect_to_nowhere_is_an_error(location: str) -> None:
    script = answer(b"", {"Location": location, "Content-Length": "0"}, "302 Found")
    with Server(script) as server, pytest.raises(WatchError, match="leads nowhere"):
        take(1, server.url)


# Documents, by long polling


def test_a_document_is_asked_for_until_there_is_a_newer_one() -> None:
    sleeps = Sleeps()

    def held(exchange: Exchange) -> None:
        sleeps.now += 30
        NOT_MODIFIED(exchange)

    date = {"Last-Modified": "Tue, 14 Nov 2023 22:13:20 GMT"}
    scripts = [document(b'{"a":1}', "e-1", **date), held, held, document(b"[2]", "e-2")]
    with Server(*scripts) as server:
        events = take(
            2, server.url, accept="json", timeout=45, sleep=sleeps.sleep, clock=sleeps.clock
        )
    assert events == [
        Event("e-1", None, "message", {"a": 1}, "application/json", 1_700_000_000.0),
        Event("e-2", None, "message", [2], "application/json"),
    ]
    assert [headers.get("if-none-match") for headers in server.headers] == [
        None, '"e-1"', '"e-1"', '"e-1"'
    ]  # fmt: skip
    assert [headers["prefer"] for headers in server.headers] == ["wait=30"] * 4
    assert not any("last-event-id" in headers for headers in server.headers)
    assert sleeps == []


def test_a_document_may_be_xml() -> None:
    kind = {"Content-Type": "application/xml; charset=utf-8"}
    with Server(document(b"<message>x</message>", "e-1", **kind)) as server:
        (event,) = take(1, server.url, accept="xml")
    assert (event.value, event.content_type) == ("x", "application/xml")


def test_a_url_that_answers_with_a_document_is_polled_from_then_on() -> None:
    with Server(document(b"1", "e-1"), document(b"2", "e-2")) as server:
        assert values(take(2, f"{server.url}?format=json")) == [1, 2]
    assert "prefer" not in server.headers[0]
    assert server.headers[1]["if-none-match"] == '"e-1"'


def test_a_poll_begins_after_a_former_watch() -> None:
    with Server(document(b"2", "e-2")) as server:
        take(1, server.url, accept="json", last_event_id="e-1")
    assert server.headers[0]["if-none-match"] == '"e-1"'


def test_a_weak_etag_names_the_event_as_well() -> None:
    with Server(document(b"1", ETag='W/"e-1"'), document(b"2")) as server:
        assert take(2, server.url, accept="json")[0].id == "e-1"
    assert server.headers[1]["if-none-match"] == '"e-1"'


@pytest.mark.parametrize(
    ("scripts", "expected"),
    [
        ([document(b"1", "e-1"), NOT_MODIFIED, document(b"2", "e-2")], [1, 2]),
        ([document(b"1", "e-1"), document(b"1", "e-1"), document(b"2", "e-2")], [1, 2]),
        ([document(b"1"), document(b"1")], [1, 1]),
    ],
    ids=["304 at once", "the same again", "no ETag"],
)
def test_a_server_that_holds_nothing_is_not_asked_without_a_pause(
    scripts: list[Script], expected: list[int]
) -> None:
    sleeps = Sleeps()
    with Server(*scripts) as server:
        events = take(2, server.url, accept="json", sleep=sleeps.sleep, clock=sleeps.clock)
    assert values(events) == expected
    assert sleeps == [FIRST_DELAY]


def test_a_limit_ends_polls() -> None:
    with Server(document(b"1", "e-1"), document(b"2", "e-2")) as server:
        assert values(list(watch(server.url, accept="json", limit=2))) == [1, 2]
    with Server(document(b"1", "e-1")) as server:
        assert values(list(watch(f"{server.url}?limit=1", accept="json"))) == [1]


@pytest.mark.parametrize(
    "broken",
    [
        document(b"[1", "e-1", **{"Content-Length": "3"}),
        document(gzip.compress(b"[1]")[:-8], "e-1", **{"Content-Encoding": "gzip"}),
    ],
)
def test_a_document_that_broke_off_is_asked_for_again(broken: Script) -> None:
    with Server(broken, document(gzip.compress(b"2"), **{"Content-Encoding": "gzip"})) as server:
        assert values(take(1, server.url, accept="json")) == [2]
    assert "if-none-match" not in server.headers[1]


def test_a_document_that_is_too_large_ends_the_watch() -> None:
    script = document(gzip.compress(b"1" * 1001), **{"Content-Encoding": "gzip"})
    with Server(script) as server, pytest.raises(TooLarge, match="larger than 1000 bytes"):
        take(1, server.url, accept="json", maximum=1000)


def test_a_poll_that_becomes_a_stream_is_read_as_one() -> None:
    with Server(document(b"1", "e-1"), answer(sse(2)), answer(sse(3))) as server:
        assert values(take(3, server.url)) == [1, "2", "3"]
    assert server.headers[2]["last-event-id"] == "e-2"


# Closing


def test_leaving_it_hangs_up() -> None:
    def script(exchange: Exchange) -> None:
        exchange.start(SSE)
        exchange.send(sse(1))
        exchange.wait_for_hangup()

    with Server(script) as server:
        with watch(server.url) as events:
            next(events)
        assert events._sock is not None
        assert events._sock.fileno() == -1
        assert list(events) == []
        events.close()


@pytest.mark.parametrize("started", [True, False], ids=["in the stream", "before the answer"])
def test_another_thread_may_close_it_while_it_waits(started: bool) -> None:
    waiting = threading.Event()

    def script(exchange: Exchange) -> None:
        if started:
            exchange.start(SSE)
            exchange.send(sse(1))
        else:
            waiting.set()
        exchange.wait_for_hangup()

    with Server(script) as server:
        events = watch(server.url, timeout=HANG * 10)
        rest: SimpleQueue[list[Event]] = SimpleQueue()

        def iterate() -> None:
            if started:
                next(events)
                waiting.set()
            rest.put(list(events))

        thread = threading.Thread(target=iterate)
        thread.start()
        assert waiting.wait(HANG)
        events.close()
        assert rest.get(timeout=HANG) == []
        thread.join(HANG)


def test_a_connection_that_opens_while_it_is_closed_is_not_used() -> None:
    def clock() -> float:  # asked right before the connection is opened
        events.close()
        return 0.0

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(HANG)
        events = watch(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=1, clock=clock)
        assert list(events) == []
        sock, _ = listener.accept()
        with sock:
            assert sock.recv(1) == b""


def test_closing_it_ends_a_wait_between_connections() -> None:
    waiting = threading.Event()

    def random() -> float:
        waiting.set()
        return 1.0

    events = watch("http://127.0.0.1:1", random=random)
    events._delay = HANG * 10
    thread = threading.Thread(target=list, args=(events,))
    thread.start()
    assert waiting.wait(HANG)
    events.close()
    thread.join(HANG)
    assert not thread.is_alive()


# TLS


def test_https(tmp_path: Path) -> None:
    server_tls, client_tls = contexts(tmp_path)
    with Server(answer(sse(1)), tls=server_tls) as server:
        assert values(take(1, server.url, tls=client_tls)) == ["1"]


def test_a_certificate_that_is_not_trusted_is_final(tmp_path: Path) -> None:
    server_tls, _ = contexts(tmp_path)

    server = Server(answer(), tls=server_tls)
    with pytest.raises(ssl.SSLError), server, pytest.raises(WatchError, match="certificate"):
        take(1, server.url)


def contexts(directory: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """For a server that is localhost, and for a client that trusts it."""
    both = directory / "localhost.pem"
    both.write_text(CERTIFICATE)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(both)
    return server, ssl.create_default_context(cafile=both)


# openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 36500
#   -subj /CN=localhost -addext subjectAltName=DNS:localhost; a key to nothing.
CERTIFICATE = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgaflBIkGNieAxL8rZ
VB0VnRQlYNK6PEgCneODjJXC1auhRANCAASLANMR1t3Qi2ar193RBWTO5KN9h61Z
cdMaixH6D1AmTWxEib2D7Qz0AyoMLk3KuT9FcVi+a141+zy/8sELo7DH
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBlTCCATugAwIBAgIUEIltAdwHTKZiukXBFm0RMILdp1AwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyNDEwNTQxNVoYDzIxMjYxMDMx
MTA1NDE1WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAASLANMR1t3Qi2ar193RBWTO5KN9h61ZcdMaixH6D1AmTWxEib2D7Qz0
AyoMLk3KuT9FcVi+a141+zy/8sELo7DHo2kwZzAdBgNVHQ4EFgQUhUB0C1QKtvnc
POg2DOBfqTYzRVAwHwYDVR0jBBgwFoAUhUB0C1QKtvncPOg2DOBfqTYzRVAwDwYD
VR0TAQH/BAUwAwEB/zAUBgNVHREEDTALgglsb2NhbGhvc3QwCgYIKoZIzj0EAwID
SAAwRQIhAMEQLu/XY4RI35SZ9cvWhHx5pDp/Asm8f+24FXKx/7HPAiA3Y2DdRgbT
iYcjxhwP0soBNV0N+7o2GmYACGe++YkaZA==
-----END CERTIFICATE-----
"""
