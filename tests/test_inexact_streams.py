"""Servers that are not exact, in both parsers; and that exact ones are read as before."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushdemo.client import BadStream, parser_for
from pushdemo.client.delimiter import Delimiter, Kind, boundary_of
from pushdemo.client.parser import MAXIMUM_UNKNOWN
from tests.browsers import Browser
from tests.inexact_streams import LINES, MULTIPART, Case, mixed, plain, stream
from tests.scripted_server import ScriptedServer

SSE = "text/event-stream"


def outcome(content_type: str, pieces: list[bytes]) -> tuple[tuple[bytes, ...], str | None]:
    """What the client's parser makes of a whole response: its values, and its complaint."""
    parser = parser_for(content_type)
    assert parser is not None
    values = []
    try:
        for piece in pieces:
            values += [event.value for event in parser.feed(piece)]
            if parser.error is not None:
                raise parser.error
        values += [event.value for event in parser.close()]
    except BadStream as error:
        return tuple(map(as_bytes, values)), str(error)
    return tuple(map(as_bytes, values)), None


def as_bytes(value: bytes | str) -> bytes:
    return value.encode() if isinstance(value, str) else value


def cut(data: bytes, places: list[int]) -> list[bytes]:
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


@pytest.fixture
def page(browser: Browser, scripted: ScriptedServer) -> Browser:
    browser.open(f"{scripted.url}/blank.html")
    return browser


@pytest.mark.parametrize("case", [*MULTIPART, *LINES], ids=str)
def test_the_client_reads_it_in_every_split(case: Case) -> None:
    for places in case.cuts():
        got = outcome(case.content_type, cut(case.stream, places))
        assert got == (case.bodies, case.complaint), places


@pytest.mark.parametrize("case", MULTIPART, ids=str)
def test_the_page_reads_it_in_every_split(page: Browser, case: Case) -> None:
    said = {
        "contentType": case.content_type,
        "stream": case.stream.decode("latin-1"),
        "bodies": [body.decode("latin-1") for body in case.bodies],
        "complaint": case.complaint,
    }
    result = page.evaluate(f"tryOutcomes({json.dumps(said)}, {case.cuts()})")
    assert result == {"tried": len(case.cuts()), "failures": []}


# Exact streams

BOUNDARIES = ["x", "--x", "x--", "'x'", "a b", "x, y", "-", "--"]
PIECES = ["\r\n", "\n", "\r", "--", "x", "a", "b", "'", " ", "-", "Content-Type: image/x"]


@st.composite
def exact(draw: st.DrawFn) -> tuple[str, bytes, tuple[bytes, ...]]:
    """A stream with the declared delimiter, and bodies that hold lines which are like it."""
    boundary = draw(st.sampled_from(BOUNDARIES))
    delimiter = f"--{boundary}"
    near = st.sampled_from(
        [*PIECES, boundary, delimiter, f"\r\n{boundary}\r\n", f"\n{boundary}--\n"]
    )
    bodies = []
    for _ in range(draw(st.integers(0, 4))):
        body = "".join(draw(st.lists(near, max_size=8)))
        lines = [line.rstrip(" \t\r") for line in body.split("\n")]
        if not {delimiter, f"{delimiter}--"} & set(lines) and not body.endswith("\r"):
            bodies.append(body.encode())
    sent = stream(delimiter.encode(), *map(plain, bodies))
    return mixed(f'; boundary="{boundary}"'), sent, tuple(bodies)


@given(exact(), st.lists(st.integers(0, 10_000), max_size=5))
def test_an_exact_stream_is_read_by_its_own_delimiter_alone(
    document: tuple[str, bytes, tuple[bytes, ...]], places: list[int]
) -> None:
    content_type, sent, bodies = document
    cuts = sorted(place % (len(sent) + 1) for place in places)
    assert outcome(content_type, cut(sent, cuts)) == (bodies, None)


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_the_page_reads_exact_streams_by_their_own_delimiter(page: Browser, boundary: str) -> None:
    near = [line for line in (boundary, f"{boundary}--", "--x", "--x--", "x", "--a", "--y")
            if line not in (f"--{boundary}", f"--{boundary}--")]  # fmt: skip
    bodies = [f"{line}\r\nA\r\n{line}\r\n" for line in near]
    sent = stream(f"--{boundary}".encode(), *(plain(body.encode()) for body in bodies))
    said = {
        "contentType": mixed(f'; boundary="{boundary}"'),
        "stream": sent.decode(),
        "bodies": bodies,
        "complaint": None,
    }
    cuts = [[], list(range(len(sent) + 1)), *([place] for place in range(len(sent) + 1))]
    assert page.evaluate(f"tryOutcomes({json.dumps(said)}, {cuts})")["failures"] == []


# Boundaries and delimiters


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/x-mixed-replace;boundary=test", "test"),
        ("Multipart/X-Mixed-Replace ; charset=utf-8; BOUNDARY=test ; x=y", "test"),
        ('multipart/mixed; boundary="a b;c=\\"d"', 'a b;c="d'),
        ('multipart/mixed; x="; boundary=no"; boundary=yes', "yes"),
        ("multipart/x-mixed-replace;boundary=video boundary--", "video boundary--"),
        ("multipart/x-mixed-replace", ""),
        ("multipart/x-mixed-replace;boundary=", ""),
    ],
)
def test_the_boundary_of_a_content_type(content_type: str, boundary: str) -> None:
    assert boundary_of(content_type) == boundary


def test_a_delimiter_that_is_not_declared_has_a_largest_length() -> None:
    assert Delimiter("").name(b"--" + b"y" * 70 + b"  ", before_head=False)
    assert not Delimiter("").name(b"--" + b"y" * 71, before_head=False)
    assert not Delimiter("").name(b"--", before_head=False)


def test_once_a_delimiter_was_found_there_is_no_other() -> None:
    delimiter = Delimiter("--x")
    assert delimiter.kind(b"--x--") is Kind.TEXT
    assert delimiter.kind(b"--x") is Kind.DELIMITER
    assert delimiter.kind(b"----x") is Kind.TEXT
    assert delimiter.kind(b"--x-- \r") is Kind.CLOSING


# Bounds

UNKNOWN = [mixed("; boundary=x"), SSE]


@pytest.mark.parametrize("content_type", UNKNOWN)
@pytest.mark.parametrize("size", [1, 100, 1_000_000])
def test_so_much_of_which_nothing_is_understood_is_enough(content_type: str, size: int) -> None:
    parser = parser_for(content_type)
    assert parser is not None
    text = b"some text\r\n" * (2 * MAXIMUM_UNKNOWN // 11)
    taken = 0

    def feed_all() -> None:
        nonlocal taken
        for at in range(0, len(text), size):
            parser.feed(text[at : at + size])
            taken = at + size

    with pytest.raises(BadStream, match=r"^expected .*, got 'some text\\.*\.\.\.'$"):
        feed_all()
    # A line end of two bytes counts once where CR alone is one, too.
    assert taken <= MAXIMUM_UNKNOWN * 11 / 10 + 100


@pytest.mark.parametrize("content_type", UNKNOWN)
@pytest.mark.parametrize("piece", [b"x", b"some text\n", b"\n"])
def test_what_is_not_understood_takes_linear_time(content_type: str, piece: bytes) -> None:
    parser = parser_for(content_type)
    assert parser is not None
    began = time.process_time()
    try:
        for _ in range(200_000):
            parser.feed(piece)
    except BadStream:
        pass
    assert time.process_time() - began < 10


def test_several_objects_on_a_line_take_linear_time() -> None:
    parser = parser_for("application/x-ndjson")
    assert parser is not None
    began = time.process_time()
    assert len(parser.feed(b'{"value":1}' * 200_000 + b"\n")) == 200_000
    assert time.process_time() - began < 10


@pytest.mark.parametrize("size", [1, 1000, 1_000_000])
def test_the_page_has_the_same_bound(page: Browser, size: int) -> None:
    result = page.evaluate(
        f"""(() => {{
          const parser = new MultipartXMLHttpRequest.Parser('x', () => 0);
          const bytes = bytesOf('some text\\r\\n'.repeat(12_000));
          let pushed = 0;
          try {{
            for (; pushed < bytes.length; pushed += {size}) {{
              parser.push(bytes.subarray(pushed, pushed + {size}));
            }}
          }} catch (error) {{
            return [error.name, error.message, pushed];
          }}
        }})()"""
    )
    name, message, pushed = result
    assert name == "BadStream"
    assert message.startswith(r"expected the line '--x' before the first part, got 'some text\r\n")
    assert pushed <= MAXIMUM_UNKNOWN + 11
