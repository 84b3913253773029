"""A request, and the parser that makes it from the bytes of a connection. Sans-IO.

The parser is llhttp, by `httptools`: the one that Node.js uses, a state machine generated from a
grammar, and strict. It alone decides what a head says and where it ends. `h11` was the other
candidate: its pure Python costs four times as much for each request, and it takes folded lines,
lines that end with a bare LF and control characters in values, which a proxy in front may read
otherwise.

llhttp refuses, and the client is told 400:
- a line that ends with LF or CR alone, a folded line, a space before a colon;
- a character that may not be in a name, a value or a target (RFC 9110, section 5; RFC 9112,
  section 3.2), among them NUL and control characters;
- more than one Content-Length, one that is no whole number, and one beside a Transfer-Encoding
  (RFC 9112, section 6.3);
- a method that is not registered; a version that is not HTTP's.

`RequestParser` refuses on top what llhttp leaves to its user:
- any version but 1.0 and 1.1, HTTP/0.9 and the beginning of HTTP/2 among them: 400. (llhttp also
  knows the request lines of RTSP and ICE, and takes `GET / RTSP/1.0` for HTTP/1.0.)
- any Transfer-Encoding: 411. There are no chunks here, and so no trailers.
- CONNECT: 400. An Upgrade is not taken up (RFC 9110, section 7.8): the request is served as it is.
- more than MAX_HEAD bytes or MAX_FIELDS fields: 431; a body longer than allowed: 413.
- not exactly one Host in HTTP/1.1 (RFC 9112, section 3.2), or one that is no host; two of another
  field that can only have one value: 400. Which of the two counts is what servers disagree on.
- a target that is neither a path, nor an http URL, nor `*` with OPTIONS, or has a fragment: 400.

Time is linear in what is received, however it is cut into pieces. llhttp is given whole lines only:
httptools joins the pieces of a field by copying all that it has of it.
"""

from __future__ import annotations

import socket
from typing import NamedTuple

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from pushdemo.servers.refusal import Refused
from pushdemo.servers.target import check_host, check_target

MAX_HEAD = 64 * 1024  # bytes; browsers stay under 16 KiB, cookies and all
MAX_FIELDS = 100  # as many as other servers take; each is three objects in memory
OVERHEAD = 2048  # bytes of memory that a request takes beside what it said
FIELD_OVERHEAD = 150  # the same for each field

# Fields that have one value, of which two would be two requests; and Transfer-Encoding.
_KNOWN = frozenset(
    {
        b"authorization",
        b"content-length",
        b"content-type",
        b"expect",
        b"host",
        b"if-range",
        b"last-event-id",
        b"origin",
        b"proxy-authorization",
        b"range",
        b"transfer-encoding",
    }
)


class Request(NamedTuple):
    """A request as it was understood.

    version: 1.0 or 1.1.
    fields: names in lower case, and values without the white space around them, in the order in
        which they came.
    weight: bytes of memory that it takes, about.
    """

    method: str
    target: str
    version: str
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes
    weight: int

    def __repr__(self) -> str:
        # Fields and bodies hold secrets, and logs are read by others.
        return f"<{self.method} {self.target[:100]}>"


class Exchange(NamedTuple):
    """A connection on which a whole request has come, and no answer has gone yet.

    sock: non-blocking.
    """

    sock: socket.socket
    request: Request


class RequestParser:
    """Makes one request from the bytes of a connection; what follows it is left aside, unread.

    max_body: bytes of a body. They are kept in memory.
    """

    __slots__ = ("_body", "_head", "_length", "_line", "_max_body", "_parser", "_size", "_start",
                 "expects_continue")  # fmt: skip

    def __init__(self, max_body: int) -> None:
        self._max_body = max_body
        self._head = _Head()
        self._parser = HttpRequestParser(self._head)
        self._line: bytes | bytearray = b""  # which has not ended yet
        self._size = 0  # of the head so far
        self._start = ("", "", "")  # method, target and version, once the head has ended
        self._length: int | None = None  # of the body, then
        self._body: bytes | bytearray = b""
        # Whether the client waits with the body until it is asked for it (RFC 9110, 10.1.1).
        self.expects_continue = False

    def feed(self, data: bytes) -> Request | None:
        """The request, when `data` completes it. Raises Refused; then, and when there was a
        request, the parser is at its end."""
        if self._length is None:
            data = self._feed_head(data)
        if self._length is None:
            return None
        if self._length:
            self._body += data[: self._length - len(self._body)]
            if len(self._body) < self._length:
                return None
        return Request(*self._start, tuple(self._head.fields), bytes(self._body), self.weight)

    @property
    def length(self) -> int:
        """Bytes of the body; 0 while the head has not ended."""
        return self._length or 0

    @property
    def weight(self) -> int:
        """Bytes of memory that are kept here, about."""
        kept = self._size + len(self._line) + len(self._body)
        return OVERHEAD + FIELD_OVERHEAD * len(self._head.fields) + kept

    def _feed_head(self, data: bytes) -> bytes:
        """Returns what is not of the head."""
        begin = 0
        if not self._size and not self._line and (end := data.find(b"\r\n\r\n") + 4) > 4:
            # Most heads come whole. No head ends before its first empty line.
            self._feed_lines(data[:end])
            begin = end
        while self._length is None and (end := data.find(b"\n", begin) + 1):
            line = data[begin:end]
            if self._line:
                line, self._line = bytes(self._line + line), b""
            self._feed_lines(line)
            begin = end
        rest = data[begin:]
        if self._length is None and rest:
            if not self._line:
                self._line = bytearray()
            self._line += rest
            self._check_size(self._size + len(self._line))
        return rest

    def _feed_lines(self, lines: bytes) -> None:
        """Only the last of them can end the head."""
        self._size += len(lines)
        self._check_size(self._size)
        head = self._head
        try:
            self._parser.feed_data(lines)
        except HttpParserUpgrade:
            pass
        except HttpParserError as error:
            if not head.has_ended:
                reason = str(error).removesuffix(".")  # llhttp's, and nothing of the request
                raise Refused("400 Bad Request", f"This is not HTTP/1.1: {reason}.") from None
        if len(head.fields) > MAX_FIELDS:
            raise Refused(
                "431 Request Header Fields Too Large", f"Send at most {MAX_FIELDS} header fields."
            )
        if head.has_ended:
            self._end_head(head)

    @staticmethod
    def _check_size(size: int) -> None:
        if size > MAX_HEAD:
            raise Refused(
                "431 Request Header Fields Too Large", f"Send at most {MAX_HEAD} bytes of headers."
            )

    def _end_head(self, head: _Head) -> None:
        method = self._parser.get_method().decode("ascii")
        version = self._parser.get_http_version()
        target = head.target.decode("ascii")
        if version not in ("1.0", "1.1"):
            raise Refused("400 Bad Request", "Send an HTTP/1.0 or HTTP/1.1 request.")
        if method == "CONNECT":
            raise Refused("400 Bad Request", "This is no proxy.")
        known = _known_fields(head.fields)
        check_host(known.get(b"host"), version)
        check_target(target, method)
        # llhttp has seen that it is a number, below 2 ** 64; but it may have thousands of zeros.
        length = int(known.get(b"content-length", b"").lstrip(b"0") or b"0")
        if length > self._max_body:
            raise Refused("413 Content Too Large", f"Send at most {self._max_body} bytes.")
        expects = known.get(b"expect", b"").lower() == b"100-continue"
        self.expects_continue = expects and version == "1.1"
        self._start = method, target, version
        self._length = length
        if length:
            self._body = bytearray()


class _Head:
    """What llhttp finds in a head: its callbacks."""

    __slots__ = ("fields", "has_ended", "target")

    def __init__(self) -> None:
        self.target = b""
        self.fields: list[tuple[bytes, bytes]] = []
        self.has_ended = False

    def on_url(self, target: bytes) -> None:
        self.target += target

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value.rstrip()))  # llhttp has stripped the left

    def on_headers_complete(self) -> None:
        self.has_ended = True


def _known_fields(fields: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Those that count here or can have one value only, by their names."""
    known: dict[bytes, bytes] = {}
    for name, value in fields:
        if name in _KNOWN:
            if name == b"transfer-encoding":
                raise Refused("411 Length Required", "Send the body whole, with a Content-Length.")
            if name in known:
                raise Refused("400 Bad Request", f"Send {name.decode().title()} once.")
            known[name] = value
    return known
