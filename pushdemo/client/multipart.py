"""`multipart/x-mixed-replace`, read: RFC 2046, section 5.1, and the seed's dialect of it."""

from __future__ import annotations

from collections.abc import Iterator
from email.message import Message
from typing import TypeAlias
from urllib.parse import unquote

from pushdemo.client.errors import BadStream, TooLarge
from pushdemo.client.event import Event, read_date, read_value
from pushdemo.client.parser import LF, MAXIMUM, Buffer, Parser

# The headers of one part; http.client takes as much for one line of a response's.
MAXIMUM_HEAD = 64 * 1024

# What a state of the parser came to: an event, or whether to go on with the next.
Step: TypeAlias = Event | bool


class MultipartParser(Parser):
    """In the seed's dialect lines end in LF alone, no part tells its length, and each has a
    delimiter before it and another behind, so that between two parts stands

        --test LF --test LF

    A part that is a delimiter and nothing else is not delivered; nor is one without headers and
    without a body, which is a heartbeat. A part that tells its length is delivered when that has
    come, whatever it holds; any other, with the delimiter after it.
    """

    def __init__(self, boundary: str, *, maximum: int = MAXIMUM) -> None:
        super().__init__(maximum=maximum)
        self._delimiter = f"--{boundary}".encode("latin-1", "replace")
        self._last = self._delimiter + b"--"
        # What comes next.
        self._state = self._preamble
        self._head: list[str] = []
        self._head_size = 0
        self._length = 0
        self._body = bytearray()  # lines, each with its LF

    def _parse(self) -> Iterator[Event]:
        while not self.ended:
            step = self._state()
            if step is False:
                return
            if isinstance(step, Event):
                yield step
        self._buffer = Buffer()  # an epilogue is not for us

    def close(self) -> list[Event]:
        # The line end behind the last delimiter is left out by some.
        if self._state != self._in_length and self._buffer.holds(self._last):
            return self.feed(b"\n")
        return []

    # The states: each takes what it can from the buffer, and gives an event, or whether to go on.

    def _preamble(self) -> Step:
        line = self._buffer.line(LF, MAXIMUM_HEAD)
        if line is None:
            return False
        self._delimits(line)
        return True

    def _in_head(self) -> Step:
        line = self._buffer.line(LF, MAXIMUM_HEAD)
        if line is None:
            return False
        if self._delimits(line):
            return True
        text = line.decode("latin-1").rstrip("\r")
        if text:
            self._head_size += len(line) + 1
            if self._head_size > MAXIMUM_HEAD:
                raise TooLarge(f"the headers of a part are larger than {MAXIMUM_HEAD} bytes")
            if ":" not in text:
                raise BadStream(f"a part's head holds {text[:60]!r}, which is no header")
            self._head.append(text)
            return True
        self._headers = Message()
        for header in self._head:
            name, _, value = header.partition(":")
            self._headers[name.strip()] = value.strip()
        self._state = self._in_lines
        if (length := self._headers["Content-Length"]) is not None:
            if not (length.isascii() and length.isdigit() and len(length) < 19):
                raise BadStream(f"a part's Content-Length is {length[:60]!r}")
            self._length = int(length)
            self._check(self._length)
            self._state = self._in_length
        return True

    def _in_length(self) -> Step:
        body = self._buffer.take(self._length)
        if body is None:
            return False
        self._state = self._behind
        return self._event(body)

    def _behind(self) -> Step:
        line = self._buffer.line(LF, MAXIMUM_HEAD)
        if line is None:
            return False
        if not self._delimits(line) and line.strip():
            raise BadStream(
                f"a part goes on with {line[:60]!r} after the {self._length} bytes it said it has"
            )
        return True

    def _in_lines(self) -> Step:
        line = self._buffer.line(LF, self._maximum + MAXIMUM_HEAD)  # it may be a delimiter
        if line is None:
            return False
        if not self._delimits(line):
            self._body += line + b"\n"
            # The line end before a delimiter belongs to the delimiter; it is CRLF at most.
            self._check(len(self._body) - 2)
            return True
        body = bytes(self._body[:-1]).removesuffix(b"\r")
        self._body.clear()
        return self._event(body) if body or self._headers else True

    # What they share

    def _delimits(self, line: bytes) -> bool:
        """Whether the line is a delimiter. One begins a part, or it ends the stream."""
        line = line.rstrip(b" \t\r")
        if line == self._last:
            self.ended = True
        elif line != self._delimiter:
            return False
        self._state, self._head, self._head_size = self._in_head, [], 0
        return True

    def _event(self, body: bytes) -> Event:
        headers = self._headers
        kind, event_id, feed = headers["Event"], headers["Event-ID"], headers["Feed"]
        value = read_value(headers, body) if body or kind is None else None
        if event_id is not None:
            self.last_event_id = event_id
        return Event(
            id=event_id,
            feed=None if feed is None else unquote(feed),
            type=kind or "message",
            value=value,
            content_type=headers.get_content_type() if body or kind is None else None,
            computed=read_date(headers["Last-Modified"]),
            retry=self._retry(headers["Retry"]),
        )
