"""The parser of requests: by value, by property, and beside other parsers."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from http.client import parse_headers
from typing import Any
from wsgiref import validate

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pushdemo.servers.environ import make_environ
from pushdemo.servers.refusal import Refused
from pushdemo.servers.request import (
    FIELD_OVERHEAD,
    MAX_FIELDS,
    MAX_HEAD,
    OVERHEAD,
    Request,
    RequestParser,
)

MAX_BODY = 1000
CHECK_ENVIRON: Any = vars(validate)["check_environ"]  # its stub does not have it
H = b"Host: a\r\n"


def outcome(*pieces: bytes) -> Request | str | None:
    """What a parser makes of some bytes: a request, the status of a refusal, or nothing yet."""
    parser = RequestParser(MAX_BODY)
    for piece in pieces:
        try:
            request = parser.feed(piece)
        except Refused as refusal:
            return refusal.status[:3]
        if request is not None:
            return request
    return None


def parsed(received: bytes) -> Request:
    request = outcome(received)
    assert isinstance(request, Request), request
    return request


def field(line: bytes) -> bytes:
    return b"GET / HTTP/1.1\r\n" + H + line + b"\r\n\r\n"


def post(lines: bytes, body: bytes = b"xy") -> bytes:
    return b"POST / HTTP/1.1\r\n" + H + lines + b"\r\n\r\n" + body


def line(line: bytes) -> bytes:
    return line + b"\r\n" + H + b"\r\n"


# What servers and proxies have read in different ways, and what is made of it here.
SHAPES: list[tuple[bytes, str]] = [
    # Lengths
    (post(b"Content-Length: 1\r\nContent-Length: 1"), "400"),
    (post(b"Content-Length: 1\r\nContent-Length: 2"), "400"),
    (post(b"Content-Length: 1, 1"), "400"),
    (post(b"Content-Length: 1,2"), "400"),
    (post(b"Content-Length: +1"), "400"),
    (post(b"Content-Length: -1"), "400"),
    (post(b"Content-Length: 1 2"), "400"),
    (post(b"Content-Length: 0x1"), "400"),
    (post(b"Content-Length: 1_0"), "400"),
    (post(b"Content-Length: \xb2"), "400"),
    (post(b"Content-Length: 1e0"), "400"),
    (post(b"Content-Length: 1.0"), "400"),
    (post(b"Content-Length:"), "400"),
    (post(b"Content-Length: x" + b" " * 64_000 + b"y"), "400"),
    (post(b"Content-Length: " + b"9" * 30), "400"),
    (post(b"Content-Length: 18446744073709551615"), "413"),
    (post(b"Content-Length: 1001"), "413"),
    (post(b"Content-Length : 1"), "400"),
    (post(b" Content-Length: 1"), "400"),
    # Codings
    (post(b"Transfer-Encoding: chunked", b"0\r\n\r\n"), "411"),
    (post(b"Transfer-Encoding: gzip"), "411"),
    (post(b"Transfer-Encoding: identity"), "411"),
    (post(b"Transfer-Encoding: x, chunked"), "411"),
    (post(b"Transfer-Encoding:"), "400"),
    (post(b"Transfer-Encoding: chunked\r\nContent-Length: 2"), "400"),
    (post(b"Content-Length: 2\r\nTransfer-Encoding: chunked"), "400"),
    (post(b"Transfer-Encoding : chunked"), "400"),
    (post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"), "400"),
    # Lines
    (field(b"A: b\r\n c"), "400"),
    (field(b"A:\r\n b"), "400"),
    (b"GET / HTTP/1.1\r\n A: b\r\n" + H + b"\r\n", "400"),
    (b"GET / HTTP/1.1\nHost: a\n\n", "400"),
    (b"GET / HTTP/1.1\r\nHost: a\n\r\n", "400"),
    (b"GET / HTTP/1.1\r\nHost: a\r\n\n", "400"),
    (field(b"A: b\nC: d"), "400"),
    (field(b"A: b\rC: d"), "400"),
    (field(b"A: b\r\r\nC: d"), "400"),
    (b"GET / HTTP/1.1\rHost: a\r\r\n", "400"),
    # Characters
    (field(b"A: b\0c"), "400"),
    (field(b"A: b\x01c"), "400"),
    (field(b"A: b\x7fc"), "400"),
    (field(b"A\0: b"), "400"),
    (field(b"A\x80: b"), "400"),
    (field(b"A : b"), "400"),
    (field(b"A B: c"), "400"),
    (field(b"A(b: c"), "400"),
    (field(b": c"), "400"),
    (field(b"no colon"), "400"),
    # Request lines
    (line(b"GET / HTTP/1.1 "), "400"),
    (line(b"GET\t/ HTTP/1.1"), "400"),
    (line(b" GET / HTTP/1.1"), "400"),
    (line(b"GET / HTTP/1.2"), "400"),
    (line(b"GET / HTTP/1.10"), "400"),
    (line(b"GET / HTTP/01.1"), "400"),
    (line(b"GET / HTTP/9.9.9"), "400"),
    (line(b"GET / http/1.1"), "400"),
    (line(b"GET / XTTP/1.1"), "400"),
    (line(b"GET /"), "400"),
    (b"GET /\r\n\r\n", "400"),
    (line(b"GET / HTTP/0.9"), "400"),
    (line(b"GET / HTTP/2.0"), "400"),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400"),
    (b"\x16\x03\x01\x02\0\x01\0\n", "400"),
    (line(b"get / HTTP/1.1"), "400"),
    (line(b"NO-SUCH / HTTP/1.1"), "400"),
    (line(b"A" * 10_000 + b" / HTTP/1.1"), "400"),
    (line(b"CONNECT b:80 HTTP/1.1"), "400"),
    # Targets
    (line(b"GET * HTTP/1.1"), "400"),
    (line(b"GET b:80 HTTP/1.1"), "400"),
    (line(b"GET b HTTP/1.1"), "400"),
    (line(b"GET ?b HTTP/1.1"), "400"),
    (line(b"GET [ HTTP/1.1"), "400"),
    (line(b"GET http://b[c/ HTTP/1.1"), "400"),
    (line(b"GET http:// HTTP/1.1"), "400"),
    (line(b"GET http:/b HTTP/1.1"), "400"),
    (line(b"GET http://u@b/ HTTP/1.1"), "400"),
    (line(b"GET ftp://b/ HTTP/1.1"), "400"),
    (line(b"GET /#b HTTP/1.1"), "400"),
    (line(b"GET /a\0b HTTP/1.1"), "400"),
    (line(b"GET /a\x7fb HTTP/1.1"), "400"),
    (line(b"GET /\xc3\xa9 HTTP/1.1"), "400"),
    (line(b"GET /?\xc3\xa9 HTTP/1.1"), "400"),
    # Hosts, and others of which there can be one
    (b"GET / HTTP/1.1\r\n\r\n", "400"),
    (field(b"Host: a"), "400"),
    (field(b"host: b"), "400"),
    (b"GET / HTTP/1.0\r\n" + H + b"Host: b\r\n\r\n", "400"),
    (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "400"),
    (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "400"),
    (b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", "400"),
    (b"GET / HTTP/1.1\r\nHost: a[b\r\n\r\n", "400"),
    (b"GET / HTTP/1.1\r\nHost: [\r\n\r\n", "400"),
    (b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", "400"),
    (b"GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n", "400"),
    (b"GET / HTTP/1.1\r\nHost: [1:::2]\r\n\r\n", "400"),
    (b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", "400"),
    (b"GET / HTTP/1.1\r\nHost: a:1:2\r\n\r\n", "400"),
    (b"GET / HTTP/1.1\r\nHost: :1\r\n\r\n", "400"),
    (b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", "400"),
    (field(b"Authorization: a\r\nAuthorization: b"), "400"),
    (field(b"Content-Type: a\r\nContent-Type: b"), "400"),
    (field(b"Last-Event-ID: a\r\nLast-Event-ID: b"), "400"),
    # Sizes
    (field(b"A: " + b"b" * MAX_HEAD), "431"),
    (b"GET /" + b"b" * MAX_HEAD, "431"),
    (b"\r\n" * MAX_HEAD, "431"),
    (field(b"\r\n".join([b"A: b"] * MAX_FIELDS)), "431"),
]


@pytest.mark.parametrize(("received", "status"), SHAPES)
@pytest.mark.parametrize("step", [1, 7, 1_000_000])
def test_what_is_refused(received: bytes, status: str, step: int) -> None:
    pieces = [received[index : index + step] for index in range(0, len(received), step)]
    assert outcome(*pieces) == status


def test_a_request() -> None:
    request = parsed(
        b"\r\n\r\nPOST /a%20b?c=d HTTP/1.1\r\nHOST: a\r\nContent-Length:\t3 \r\n"
        b"Empty:\r\nX_y: \xff\r\nEmpty: 2\r\n\r\nabcGET / HTTP/1.1\r\n"
    )
    assert request == Request(
        "POST",
        "/a%20b?c=d",
        "1.1",
        (
            (b"host", b"a"),
            (b"content-length", b"3"),
            (b"empty", b""),
            (b"x_y", b"\xff"),
            (b"empty", b"2"),
        ),
        b"abc",
        request.weight,
    )


@pytest.mark.parametrize(
    ("received", "body"),
    [
        (field(b"Upgrade: websocket\r\nConnection: Upgrade"), b""),
        (post(b"Upgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 2"), b"xy"),
        (post(b"Connection: close\r\nContent-Length: 1"), b"x"),
        (post(b"Content-Length: 0"), b""),
        (post(b"A: b"), b""),
        (post(b"Content-Length: " + b"0" * 30 + b"1"), b"x"),
        (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", b""),
        (b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", b""),
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1:\r\n\r\n", b""),
        (b"GET / HTTP/1.1\r\nHost: a_b.c%41\r\n\r\n", b""),
    ],
)
def test_where_a_request_ends(received: bytes, body: bytes) -> None:
    for cut in range(len(received)):
        request = outcome(received[:cut], received[cut:])
        assert isinstance(request, Request), request
        assert request.body == body
    # And nothing that follows is looked at.
    assert outcome(received, b"\0\0\0") == outcome(received + b"\0\0\0") == parsed(received)


def test_zeros_have_no_end() -> None:
    assert parsed(post(b"Content-Length: " + b"0" * 10_000 + b"1")).body == b"x"


def test_an_answer_is_not_waited_for_with_a_body_by_old_clients() -> None:
    for version, expects in ((b"1.0", False), (b"1.1", True)):
        parser = RequestParser(MAX_BODY)
        head = b"POST / HTTP/" + version + b"\r\n" + H + b"Content-Length: 4\r\n"
        assert parser.feed(head + b"Expect: 100-Continue\r\n\r\n") is None
        assert (parser.expects_continue, parser.length) == (expects, 4)


def test_secrets_are_not_shown() -> None:
    request = parsed(b"POST /" + b"x" * 1000 + b" HTTP/1.1\r\n" + H + b"Cookie: secret\r\n\r\n")
    assert repr(request) == f"<POST /{'x' * 99}>"
    assert "secret" not in f"{request} {request!r}"


TOKENS = st.sampled_from(
    [b"GET ", b"POST ", b"CONNECT ", b"/", b"*", b"http://a", b"//[", b"?", b"#", b" ", b"\t",
     b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b" HTTP/2.0\r\n", b"\r\n", b"\r\n\r\n", b"\n", b"\r",
     H, b"Content-Length: 3\r\n", b"Content-Length: ", b"3", b"Transfer-Encoding: chunked\r\n",
     b"Upgrade: x\r\nConnection: upgrade\r\n", b"A: b\r\n", b"A_b", b":", b",", b"\0", b"\xff",
     b"abc", b"Expect: 100-continue\r\n"]
)  # fmt: skip
HOSTILE = st.lists(TOKENS, max_size=16).map(b"".join)
HEADS = st.builds(
    lambda method, target, lines, rest: b"".join(
        (method, b" ", target, b" HTTP/1.1\r\n", H, *lines, b"\r\n", rest)
    ),
    st.sampled_from([b"GET", b"POST", b"HEAD", b"OPTIONS", b"DELETE"]),
    st.sampled_from([b"/", b"/a?b", b"http://b/c", b"//[", b"/%"]),
    st.lists(
        st.one_of(
            st.sampled_from([b"Content-Length: 3\r\n", b"Upgrade: x\r\nConnection: upgrade\r\n"]),
            st.tuples(
                st.sampled_from([b"A", b"x_y", b"Cookie", b"B-c"]),
                st.binary(max_size=8),
            ).map(lambda pair: pair[0] + b":" + pair[1] + b"\r\n"),
        ),
        max_size=5,
    ),
    st.binary(max_size=8),
)


@given(st.one_of(HOSTILE, HEADS), st.lists(st.integers(0, 200), max_size=6))
@example(b"GET / HTTP/1.1\r\n" + H + b"\r\n\r\n\r\n", [22, 23])
@example(b"\r\n\r\nGET /\r\n\r\n\r\n\r\n", [])
def test_it_does_not_matter_how_bytes_are_cut(received: bytes, cuts: list[int]) -> None:
    whole = outcome(received)
    places = [0, *sorted(cuts), len(received)]
    pieces = [received[begin:end] for begin, end in itertools.pairwise(places)]
    assert outcome(*pieces) == whole
    assert outcome(*(received[index : index + 1] for index in range(len(received)))) == whole


def understood_by_h11(received: bytes) -> tuple[str, str, str, list[tuple[bytes, bytes]], bytes]:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(received.lstrip(b"\r\n"))
    request = connection.next_event()
    assert isinstance(request, h11.Request), request
    body = b""
    while isinstance(event := connection.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    return (
        request.method.decode(),
        request.target.decode(),
        request.http_version.decode(),
        list(request.headers),
        body,
    )


@given(st.one_of(HOSTILE, HEADS))
def test_others_understand_the_same(received: bytes) -> None:
    request = outcome(received)
    if not isinstance(request, Request):
        return
    head = received.lstrip(b"\r\n").partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    start, _, lines = head.partition(b"\r\n")
    # Spaces in the request line: llhttp allows several where h11 allows one.
    method, target, version = start.split()
    assert (request.method, request.target) == (method.decode(), target.decode())
    start = b" ".join((method, target, version))
    theirs = understood_by_h11(start + received.lstrip(b"\r\n")[head.index(b"\r\n") :])
    assert request[:3] == theirs[:3]
    assert list(request.fields) == theirs[3]
    assert request.body == theirs[4]
    message = parse_headers(io.BytesIO(lines))
    assert [(n.lower(), v.strip(" \t")) for n, v in message.items()] == [
        (name.decode("latin-1"), value.decode("latin-1")) for name, value in request.fields
    ]


# What a parser may take the square of the time for, of about so many bytes.
GROWING: dict[str, Callable[[int], bytes]] = {
    "length": lambda n: post(b"Content-Length: x" + b" " * n + b"y"),
    "spaces": lambda n: field(b"A:" + b" " * n + b"b"),
    "trailing spaces": lambda n: field(b"A: b" + b" " * n),
    "value": lambda n: field(b"A: " + b"b" * n),
    "name": lambda n: field(b"A" * n + b": b"),
    "no colon": lambda n: field(b"A" * n),
    "fields": lambda n: field(b"\r\n".join([b"A: b"] * (n // 6))),
    "folds": lambda n: field(b"A: b\r\n" + b" \r\n" * (n // 3)),
    "empty lines": lambda n: b"\r\n" * (n // 2) + field(b"A: b"),
    "path": lambda n: line(b"GET /" + b"../" * (n // 3) + b" HTTP/1.1"),
    "slashes": lambda n: line(b"GET " + b"/" * n + b" HTTP/1.1"),
    "percents": lambda n: line(b"GET /" + b"%41" * (n // 3) + b" HTTP/1.1"),
    "query": lambda n: line(b"GET /?" + b"a&" * (n // 2) + b" HTTP/1.1"),
    "method": lambda n: line(b"A" * n + b" / HTTP/1.1"),
    "line": lambda n: line(b"GET" + b" " * n + b"/ HTTP/1.1"),
    "url": lambda n: line(b"GET http://" + b"a" * n + b" HTTP/1.1"),
    "host": lambda n: b"GET / HTTP/1.1\r\nHost: " + b"a" * n + b"\r\n\r\n",
    "no end": lambda n: b"GET /" + b"a" * n,
}


@pytest.mark.timeout(30)  # against a hang: it takes a second
@pytest.mark.parametrize("shape", GROWING)
def test_long_heads_are_no_hang(shape: str) -> None:
    for size in (16_000, 32_000, 64_000):
        received = GROWING[shape](size)
        whole = outcome(received)
        if isinstance(whole, Request):
            make_environ(whole, ("h", 1), "c")
        bytewise = outcome(*(received[index : index + 1] for index in range(len(received))))
        assert bytewise == whole


def test_what_is_kept_is_weighed() -> None:
    parser = RequestParser(MAX_BODY)
    assert parser.weight == OVERHEAD
    parser.feed(b"POST / HTTP/1.1\r\nHo")
    assert parser.weight == OVERHEAD + 19
    parser.feed(b"st: a\r\nContent-Length: 9\r\n\r\n1234")
    assert parser.weight == OVERHEAD + 2 * FIELD_OVERHEAD + 51


# The environment


def environ(received: bytes) -> dict[str, object]:
    made = make_environ(parsed(received), ("server", 80), "client")
    CHECK_ENVIRON(made)
    return made


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/", "/", ""),
        (b"/a/b/?c=/../d&e=%41?f", "/a/b/", "c=/../d&e=%41?f"),
        (b"/a//./b/../c", "/a/c", ""),
        (b"/../../etc", "/etc", ""),
        (b"/%2e%2e/%2E%2E/etc", "/etc", ""),
        (b"//[", "/[", ""),
        (b"//[?[", "/[", "["),
        (b"///", "/", ""),
        (b"/%", "/%", ""),
        (b"/%zz%e2%82%ac", "/%zz\xe2\x82\xac", ""),
        (b"/%00", "/\0", ""),
        (b"http://other:1/a?b", "/a", "b"),
        (b"http://other?b", "/", "b"),
        (b"HTTPS://other", "/", ""),
    ],
)
def test_path_and_query(target: bytes, path: str, query: str) -> None:
    made = environ(b"GET " + target + b" HTTP/1.1\r\n" + H + b"\r\n")
    assert (made["PATH_INFO"], made["QUERY_STRING"]) == (path, query)


def test_a_whole_server_has_no_path() -> None:
    assert environ(b"OPTIONS * HTTP/1.1\r\n" + H + b"\r\n")["PATH_INFO"] == ""


def test_a_whole_url_counts_in_place_of_the_host() -> None:
    assert environ(b"GET http://b:1/ HTTP/1.1\r\n" + H + b"\r\n")["HTTP_HOST"] == "b:1"
    assert environ(b"GET / HTTP/1.1\r\n" + H + b"\r\n")["HTTP_HOST"] == "a"


def test_fields() -> None:
    made = environ(
        b"POST / HTTP/1.1\r\n" + H + b"Content-Type: t\r\nContent-Length: 2\r\n"
        b"A-b: 1\r\nA_b: 2\r\nA_B: 3\r\na-B: 4\r\nCookie: c=1\r\nCookie: d=2\r\n"
        b"Content_Length: 9\r\nHost_: x\r\nExpect: 100-continue\r\nX: \xff\r\n\r\nxy"
    )
    mine = {name: value for name, value in made.items() if name.startswith(("HTTP_", "CONTENT_"))}
    assert mine == {
        "HTTP_HOST": "a",
        "CONTENT_TYPE": "t",
        "CONTENT_LENGTH": "2",
        "HTTP_A_B": "1, 4",
        "HTTP_COOKIE": "c=1; d=2",
        "HTTP_X": "\xff",
    }
    assert made["wsgi.input"].read() == b"xy"  # type: ignore[attr-defined]


@given(st.one_of(HOSTILE, HEADS))
def test_every_request_has_an_environment(received: bytes) -> None:
    request = outcome(received)
    if isinstance(request, Request):
        CHECK_ENVIRON(make_environ(request, ("server", 80), "client"))
