"""`multipart/x-mixed-replace`, read: RFC 2046, section 5.1, the seed's dialect of it, and cameras'.

What is taken although it is not exact, because it can mean one thing only:

- another delimiter than the declared one: see `delimiter`;
- no delimiter before the first part, where the stream begins with a header of that part;
- no line end between a body that has a Content-Length and the delimiter;
- a Content-Length that counts that line end, or leaves it out twice;
- a Content-Length that is not one number: the part then ends at the delimiter;
- a status line in a part's head.

What is refused, with a line that says what was expected and what came: a stream that shows no
delimiter, a part that goes on after its Content-Length, and a line in a head that is no header.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from email.message import Message
from typing import TypeAlias
from urllib.parse import unquote

from pushdemo.client.delimiter import Delimiter, Kind
from pushdemo.client.errors import EXCERPT, BadStream, TooLarge, excerpt
from pushdemo.client.event import Event, read_date, read_value
from pushdemo.client.parser import LF, MAXIMUM, Buffer, Parser

# The headers of one part; http.client takes as much for one line of a response's.
MAXIMUM_HEAD = 64 * 1024
# A part's header. Some servers repeat the response's head in the body: that is none.
_HEADER_OF_PART = re.compile(rb"(?i)content-(?:length|type(?![ \t]*:[ \t]*multipart/))[ \t]*:")
_BLANK = b" \t\r"
# The header that our server begins each part with, and makes longer by a space for each heartbeat:
# in a silence of weeks, by more than a head may have.
_IDLE = b"Idle:"

# What a state of the parser came to: an event, or whether to go on with the next.
Step: TypeAlias = Event | bool


class MultipartParser(Parser):
    """In the seed's dialect lines end in LF alone, no part tells its length, and each has a
    delimiter before it and another behind, so that between two parts stands

        --test LF --test LF

    A part that is a delimiter and nothing else is not delivered; nor is one without headers and
    without a body. A part that tells its length is delivered when that has
    come, whatever it holds; any other, with the delimiter after it.

    boundary: as it is declared; "" where none is.
    """

    def __init__(self, boundary: str, *, maximum: int = MAXIMUM) -> None:
        super().__init__(maximum=maximum)
        self._delimiter = Delimiter(boundary)
        # What comes next.
        self._state = self._preamble
        self._first_line: bytes | None = None  # of the stream, without blank lines
        self._lines = 0  # of the preamble, without blank ones
        self._implied = False  # this head had no delimiter before it
        self._head: list[str] = []
        self._head_size = 0
        self._headers = Message()
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
        if self._state != self._in_length and self._closes(self._buffer.peek(MAXIMUM_HEAD)):
            return self.feed(b"\n")
        return super().close()

    def _closes(self, line: bytes) -> bool:
        return bool(line) and self._delimiter.kind(line) is Kind.CLOSING

    def complaint(self) -> BadStream | None:
        if self._state != self._preamble:
            return None
        begun = self._buffer.peek(EXCERPT + 1).lstrip(_BLANK)
        if not self._lines and (not begun or self._may_begin(begun)):
            return None
        return self._unknown(f"{self._delimiter.expected} before the first part", begun)

    def _may_begin(self, begun: bytes) -> bool:
        header = b"content-"
        return self._delimiter.may_begin(begun) or header.startswith(begun[: len(header)].lower())

    # The states: each takes what it can from the buffer, and gives an event, or whether to go on.

    def _preamble(self) -> Step:
        line = self._line_of_unknown()
        if line is None:
            return False
        if self._delimits(line) or not line.strip(_BLANK):
            return True
        self._lines += 1
        self._note_unknown(line)
        if self._lines == 1:
            self._first_line = line
            if self._delimiter.name(line, before_head=False):
                self._begin_part()
                return True
        if self._lines <= 2 and _HEADER_OF_PART.match(line):
            assert self._first_line is not None
            named = self._delimiter.name(self._first_line, before_head=True)
            if named or self._lines == 1:
                self._begin_part()
                self._implied = not named
                self._add_to_head(line)
        return True

    def _in_head(self) -> Step:
        if not self._head:
            self._buffer.drop_blanks_after(_IDLE)
        line = self._buffer.line(LF, MAXIMUM_HEAD)
        if line is None:
            return False
        head = [] if self._implied else self._head
        if self._delimits(line):
            # Without a blank line: headers, and no body.
            return self._event(_headers(head), b"") if head else True
        if line.rstrip(b"\r"):
            self._add_to_head(line)
            return True
        self._headers = _headers(self._head)
        self._state = self._in_lines
        lengths = self._headers.get_all("Content-Length", [])
        if len(lengths) == 1 and lengths[0].isascii() and lengths[0].isdigit():
            self._length = int(lengths[0][:19])  # int() refuses what is longer than 4300 digits
            self._check(self._length)
            self._state = self._in_length
        return True

    def _in_length(self) -> Step:
        body = self._buffer.take(self._length)
        if body is None:
            return False
        self._state = self._behind
        return self._event(self._headers, body)

    def _behind(self) -> Step:
        try:
            line = self._buffer.line(LF, MAXIMUM_HEAD)
        except TooLarge:
            raise self._goes_on(self._buffer.peek(EXCERPT + 1)) from None
        if line is None:
            return False
        if not self._delimits(line) and (text := line.rstrip(_BLANK)):
            if not self._delimiter.name(text, before_head=False):
                raise self._goes_on(text)
            self._begin_part()
        return True

    def _goes_on(self, text: bytes) -> BadStream:
        length = f"the {self._length} bytes of its Content-Length"
        return BadStream(f"expected the end of a part after {length}, got {excerpt(text)}")

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
        return self._event(self._headers, body) if body or self._headers else True

    # What they share

    def _delimits(self, line: bytes) -> bool:
        """Whether the line is a delimiter. One begins a part, or it ends the stream."""
        if not line.startswith(self._delimiter.possible):
            return False
        kind = self._delimiter.kind(line)
        if kind is Kind.TEXT:
            return False
        self.ended = kind is Kind.CLOSING
        self._begin_part()
        return True

    def _begin_part(self) -> None:
        self._state, self._head, self._head_size = self._in_head, [], 0
        self._implied = False

    def _add_to_head(self, line: bytes) -> None:
        self._head_size += len(line) + 1
        if self._head_size > MAXIMUM_HEAD:
            raise TooLarge(f"the headers of a part are larger than {MAXIMUM_HEAD} bytes")
        if not (b":" in line or line[:1] in b" \t" or line.startswith(b"HTTP/")):
            raise BadStream(f"expected a header of a part, got {excerpt(line.rstrip(_BLANK))}")
        self._head.append(line.decode("latin-1").rstrip("\r"))

    def _event(self, headers: Message, body: bytes) -> Step:
        kind, event_id, feed = headers["Event"], headers["Event-ID"], headers["Feed"]
        if kind == "retry":  # when to come back: there is nothing to see in it
            self._retry(headers["Retry"])
            return True
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


def _headers(lines: Iterable[str]) -> Message:
    """The headers of a part. A line that begins with a space or a tab continues the one before."""
    fields: list[list[str]] = []
    for line in lines:
        if line[0] in " \t" and fields:
            fields[-1].append(line)
        else:
            fields.append([line])
    headers = Message()
    for field in fields:
        name, colon, value = "".join(field).partition(":")
        if colon and not name.startswith("HTTP/"):
            headers[name.strip()] = value.strip()
    return headers
