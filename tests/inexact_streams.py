"""Streams of servers that are not exact, and what a client makes of them.

One table for both parsers, the client's and the page's: test_inexact_streams.py runs each case in
either, in every split. The names say where a case was seen, or what it stands for.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement


@dataclass(frozen=True)
class Case:
    """A response, and what comes of it.

    bodies: the values of its events, as bytes, in their order.
    complaint: what is said after them, where the stream is refused.
    """

    name: str
    content_type: str
    stream: bytes
    bodies: tuple[bytes, ...] = ()
    complaint: str | None = None

    def __str__(self) -> str:
        return self.name

    def cuts(self) -> list[list[int]]:
        """Where to cut the stream: nowhere, everywhere, at one place, and at two if it is short."""
        length = len(self.stream)
        places = range(length + 1)
        pairs = combinations_with_replacement(places, 2) if length <= 120 else ()
        return [[], [*places], *([place] for place in places), *map(list, pairs)]


def mixed(parameters: str) -> str:
    return f"multipart/x-mixed-replace{parameters}"


def counted(body: bytes, length: int | None = None, end: bytes = b"\r\n") -> bytes:
    """A part's head and body, which says that it has this length."""
    size = len(body) if length is None else length
    return b"Content-Type: image/x" + end + b"Content-Length: %d" % size + end + end + body


def plain(body: bytes, end: bytes = b"\r\n") -> bytes:
    """A part's head and body, without a length."""
    return b"Content-Type: image/x" + end + end + body


def stream(line: bytes, *parts: bytes, end: bytes = b"\r\n") -> bytes:
    """These parts, with this line before, between and behind them."""
    return line + end + b"".join(part + end + line + end for part in parts)


BOTH = (b"A", b"B")

DELIMITERS = [
    Case("hyphens in the boundary (Sony, Panasonic, webcamXP)", mixed("; boundary=--x"),
         stream(b"--x", counted(b"A"), counted(b"B")), BOTH),
    Case("the same without lengths", mixed(";boundary=--x"),
         stream(b"--x", plain(b"A"), plain(b"B")), BOTH),
    Case("the same in quotes", mixed('; boundary="--x"'),
         stream(b"--x", plain(b"A"), plain(b"B")), BOTH),
    Case("the same, exact", mixed("; boundary=--x"),
         stream(b"----x", plain(b"A\r\n--x\r\n--x--\r\n"), plain(b"B")),
         (b"A\r\n--x\r\n--x--\r\n", b"B")),
    Case("the same, closed", mixed("; boundary=--x"),
         stream(b"--x", plain(b"A"))[:-2] + b"--\r\n" + stream(b"--x", plain(b"B")), (b"A",)),
    Case("the first delimiter counts to the end", mixed("; boundary=--x"),
         stream(b"--x", plain(b"A\r\n----x\r\n"), plain(b"B")), (b"A\r\n----x\r\n", b"B")),
    Case("no hyphens in the stream", mixed("; boundary=x"),
         stream(b"x", plain(b"A"), plain(b"--x")), (b"A", b"--x")),
    Case("space in the boundary, hyphens behind it (D-Link)", mixed(";boundary=v b--"),
         stream(b"--v b--", plain(b"A"), plain(b"B")), BOTH),
    Case("single quotes", mixed("; boundary='x'"),
         stream(b"--x", plain(b"A"), plain(b"B")), BOTH),
    Case("single quotes, exact", mixed("; boundary='x'"),
         stream(b"--'x'", plain(b"A\r\n--x"), plain(b"B")), (b"A\r\n--x", b"B")),
    Case("a quote that does not end", mixed('; boundary="x'),
         stream(b"--x", plain(b"A"), plain(b"B")), BOTH),
    Case("semicolon behind it", mixed("; boundary=x;"), stream(b"--x", plain(b"A")), (b"A",)),
    Case("spaces around it", mixed(" ; boundary = x "), stream(b"--x", plain(b"A")), (b"A",)),
    Case("upper case", "Multipart/X-Mixed-Replace;BOUNDARY=x",
         stream(b"--x", plain(b"A")), (b"A",)),
    Case("another parameter without a semicolon", mixed("; boundary=x charset=utf-8"),
         stream(b"--x", plain(b"A")), (b"A",)),
    Case("two headers that became one", mixed("; boundary=x, ") + mixed("; boundary=x"),
         stream(b"--x", plain(b"A")), (b"A",)),
    Case("no boundary", mixed(""), stream(b"--y", plain(b"A"), plain(b"B")), BOTH),
    Case("an empty boundary", mixed(";boundary="), stream(b"--y", plain(b"A"), plain(b"B")), BOTH),
    Case("no boundary, no headers", mixed(""), b"\r\n" + stream(b"--y", b"\r\nA"), (b"A",)),
    Case("another boundary than the declared", mixed("; boundary=x"),
         stream(b"--y", plain(b"A"), plain(b"B")), BOTH),
    Case("a first line that only looks like it", mixed("; boundary=x"),
         b"--y\r\n" + stream(b"--x", plain(b"A"), plain(b"B")), BOTH),
    Case("spaces behind a delimiter", mixed("; boundary=--x"),
         stream(b"--x \t", plain(b"A"), plain(b"B")), BOTH),
    Case("LF alone", mixed("; boundary=--x"),
         stream(b"--x", counted(b"A", end=b"\n"), plain(b"B", b"\n"), end=b"\n"), BOTH),
    Case("text before the first delimiter", mixed("; boundary=--x"),
         b"HTTP/1.0 200 OK\r\nA: b\r\n\r\n" + stream(b"--x", plain(b"A")), (b"A",)),
    Case("the response's head twice", mixed(";boundary=--x"),
         b"Content-Type: multipart/x-mixed-replace;boundary=--x\r\n\r\n"
         + stream(b"--x", plain(b"A")), (b"A",)),
    Case("blank lines before the first delimiter", mixed("; boundary=x"),
         b"\r\n\n" + stream(b"--x", plain(b"A")), (b"A",)),
    Case("heartbeats and no event yet", mixed("; boundary=--x"), b"--x\r\n\r\n\r\n--x\r\n"),
    Case("blank lines and no event yet", mixed("; boundary=x"), b"\r\n\r\n\r\n"),
    Case("nothing at all", mixed("; boundary=x"), b""),
    Case("broken off in the first delimiter", mixed("; boundary=xyz"), b"--xy"),
    Case("broken off in the first header", mixed("; boundary=xyz"), b"content-ty"),
]  # fmt: skip

FIRST_PARTS = [
    Case("no first delimiter (Tasmota, esp32cam)", mixed(";boundary=x"),
         counted(b"A") + b"\r\n" + stream(b"--x", counted(b"B")), BOTH),
    Case("the same without a length", mixed(";boundary=x"),
         plain(b"A") + b"\r\n" + stream(b"--x", plain(b"B")), BOTH),
    Case("the same with hyphens in the boundary", mixed(";boundary=--x"),
         b"\r\n" + counted(b"A") + b"\r\n" + stream(b"--x", plain(b"B")), BOTH),
    Case("no first delimiter, and no boundary", mixed(""),
         counted(b"A") + b"\r\n" + stream(b"--y", counted(b"B")), BOTH),
    Case("one header, then a delimiter", mixed(";boundary=x"),
         b"Content-Type: text/x\r\n" + stream(b"--x", plain(b"A")), (b"A",)),
]  # fmt: skip

HEADS_AND_LENGTHS = [
    Case("no line end before the delimiter", mixed("; boundary=x"),
         b"--x\r\n" + counted(b"A") + b"--x\r\n" + counted(b"B") + b"--x\r\n", BOTH),
    Case("the length counts the line end", mixed("; boundary=x"),
         b"--x\r\n" + counted(b"A\r\n") + stream(b"--x", counted(b"B")), (b"A\r\n", b"B")),
    Case("the length leaves a line end out", mixed("; boundary=x"),
         stream(b"--x", counted(b"A\r\n\r\n", 1), counted(b"B")), BOTH),
    Case("the length is too short", mixed("; boundary=x"),
         stream(b"--x", counted(b"ABC'\\\t\xff\0", 1), counted(b"B")), (b"A",),
         "expected the end of a part after the 1 bytes of its Content-Length,"
         r" got 'BC\'\\\t\xff\x00'"),
    Case("the length is none", mixed("; boundary=x"),
         stream(b"--x", counted(b"A", 0), counted(b"B")), (b"",),
         "expected the end of a part after the 0 bytes of its Content-Length, got 'A'"),
    Case("the length is too long", mixed("; boundary=x"),
         stream(b"--x", counted(b"A", 5), counted(b"B")), (b"A\r\n--",),
         "expected the end of a part after the 5 bytes of its Content-Length, got 'x'"),
    Case("the length is no number", mixed("; boundary=x"),
         stream(b"--x", b"Content-Type: image/x\r\nContent-Length: -1\r\n\r\nA"), (b"A",)),
    Case("there are two lengths", mixed("; boundary=x"),
         stream(b"--x", b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nABC"), (b"ABC",)),
    Case("odd case and spaces in a header", mixed("; boundary=x"),
         stream(b"--x", b"CONTENT-length :  8 \r\n\r\nA\r\n--x\r\n"), (b"A\r\n--x\r\n",)),
    Case("a folded header", mixed("; boundary=x"),
         stream(b"--x", b"Content-Type:\r\n image/x\r\n\r\nA"), (b"A",)),
    Case("a status line in a head", mixed("; boundary=x"),
         stream(b"--x", b"HTTP/1.0 200 OK\r\n" + plain(b"A")), (b"A",)),
    Case("no blank line, and so no body", mixed("; boundary=x"),
         stream(b"--x", b"Content-Type: image/x", plain(b"B")), (b"", b"B")),
    Case("a head that is none", mixed("; boundary=x"),
         stream(b"--x", b"hello\r\n\r\nA", plain(b"B")), (),
         "expected a header of a part, got 'hello'"),
]  # fmt: skip

NO_PARTS = [
    Case("a page", mixed("; boundary=x"), b"\r\n<!doctype html>\r\n<p>Who are you?\r\n", (),
         "expected the line '--x' before the first part,"
         r" got '<!doctype html>\r\n<p>Who are you?\r\n'"),
    Case("a word", mixed("; boundary=--x"), b"busy", (),
         "expected the line '----x' before the first part, got 'busy'"),
    Case("text, and no boundary", mixed(""), b"busy", (),
         "expected a line that begins with '--' before the first part, got 'busy'"),
    Case("text on the line of the delimiter (viseron)", mixed(";boundary=x"),
         b"--xContent-Type: image/x\r\n\r\nA\r\n--xContent-Type: image/x\r\n\r\nB\r\n", (),
         "expected the line '--x' before the first part,"
         r" got '--xContent-Type: image/x\r\nA\r\n--xContent-Type: image/x\r\nB\r\n'"),
    Case("CR alone", mixed("; boundary=x"), b"--x\rContent-Type: image/x\r\rA\r--x\r\n", (),
         "expected the line '--x' before the first part,"
         r" got '--x\rContent-Type: image/x\r\rA\r--x\r\n'"),
    Case("only a closing line that is not exact", mixed("; boundary=x"), b"x--\r\n", (),
         r"expected the line '--x' before the first part, got 'x--\r\n'"),
]  # fmt: skip

MULTIPART = [*DELIMITERS, *FIRST_PARTS, *HEADS_AND_LENGTHS, *NO_PARTS]

LINES = [
    Case("SSE: all line ends, a mark and a charset", "text/event-stream; charset=UTF-8",
         b"\xef\xbb\xbfdata:A\r\r\n\ndata: B\r\n\r\n", BOTH),
    Case("SSE: NUL in an id, and numbers that are none", "Text/Event-Stream;charset=utf-8",
         b"id: 1\0\nretry: 1.5\ndata: A\n\nretry: 1" + b"0" * 40 + b"\ndata:B\n\n", BOTH),
    Case("SSE: no blank line at the end", "text/event-stream", b"data: A\n\ndata: B\n", (b"A",)),
    Case("SSE: heartbeats and no event yet", "text/event-stream", b":\n\n:\n\n"),
    Case("SSE: unknown fields before a known one", "text/event-stream",
         b"Foo: a\n\ndata: A\n\n", (b"A",)),
    Case("SSE: nothing at all", "text/event-stream", b""),
    Case("SSE: broken off in the first field", "text/event-stream", b"dat"),
    Case("SSE: a page", "text/event-stream", b"<html>\r\n<p>Who", (),
         r"expected a field such as 'data: ...', got '<html>\n<p>Who'"),
    Case("SSE: lines of JSON", "text/event-stream", b'{"value": 1}\n', (),
         """expected a field such as 'data: ...', got '{"value": 1}\\n'"""),
    Case("NDJSON: a mark, blank lines and CRLF", "application/x-ndjson; charset=utf-8",
         b'\xef\xbb\xbf\r\n{"value":"A"}\r\n\n{"value":"B"}\n', BOTH),
    Case("NDJSON: several objects on a line", "application/x-ndjson",
         b'{"value":"A"}{"value":"B"} \n', BOTH),
    Case("NDJSON: record separators", "application/json-seq",
         b'\x1e{"value":"A"}\n\x1e\x1e{"value":"B"}\n', BOTH),
    *(Case(f"NDJSON: {name}", name, b'{"value":"A"}\n', (b"A",)) for name in
      ("application/jsonl", "application/x-jsonlines", "application/jsonlines",
       "application/stream+json")),
    Case("NDJSON: heartbeats and no event yet", "application/x-ndjson", b"\n\n"),
    Case("NDJSON: text without a line end", "application/x-ndjson", b"busy", (),
         "expected a JSON object on a line, got 'busy'"),
    Case("NDJSON: an object, and then none", "application/x-ndjson", b'{"value":"A"} 1\n', (),
         """this is not JSON: b'{"value":"A"} 1' (Extra data: line 1 column 15 (char 14))"""),
]  # fmt: skip
