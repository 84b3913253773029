"""What the parsers of endless streams have in common: bytes in, events out. No sockets, no clock.

    parser = parser_for("text/event-stream")
    for data in response:
        for event in parser.feed(data):
            ...

Rules:
- Where the bytes are cut does not matter: any split gives the same events, each as soon as its
  last byte is there. A byte is looked at once or twice, however it comes.
- What comes from a server is bounded: a line, a head and an event hold at most `maximum` bytes.
- After an error nothing more is read; but the events before it are delivered first.
- A stream in which nothing is understood is an error, not silence: after MAXIMUM_UNKNOWN bytes, at
  its end, or when its user has waited long enough and asks for its `complaint`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pushdemo.client.errors import EXCERPT, BadStream, TooLarge, excerpt
from pushdemo.client.event import Event

# Larger than what anybody pushes on purpose, smaller than what hurts.
MAXIMUM = 16 * 1024 * 1024

# After so many bytes of which nothing is known, nothing is expected to come of the stream.
MAXIMUM_UNKNOWN = 64 * 1024

LF = re.compile(rb"\n")
ANY_END = re.compile(rb"[\r\n]")
_MARK = b"\xef\xbb\xbf"


class Parser:
    """What the parsers have in common.

    last_event_id: what the stream last gave as an id; None before it did.
    retry: milliseconds after which the server wants a client back; None before it said so.
    ended: whether the stream said that it ends here. Only multipart can.
    error: why nothing more is read; None while all is well.
    """

    def __init__(self, *, maximum: int = MAXIMUM) -> None:
        self.last_event_id: str | None = None
        self.retry: int | None = None
        self.ended = False
        self.error: BadStream | None = None
        self._maximum = maximum
        self._buffer = Buffer()
        self._marked = False  # a byte order mark has been looked for
        self._given = False  # an event was given out
        self._unknown_size = 0  # of the lines that were not understood
        self._unknown_begin = b""  # the first of those bytes

    def feed(self, data: bytes) -> list[Event]:
        """The events that these bytes complete. Raises BadStream, but not before the events that
        stood before the error were returned: then the next call does, and `error` says it now."""
        if self.error is not None:
            raise self.error
        events: list[Event] = []
        self._buffer.add(data)
        try:
            for event in self._parse():
                events.append(event)  # one by one: an error leaves those before it
                self._given = True
        except BadStream as error:
            self.error = error
            self._buffer = Buffer()
            if not events:
                raise
        return events

    def close(self) -> list[Event]:
        """To be called when the response has ended: what is complete by that. An event of which
        something is missing is none. Raises BadStream where nothing of it was understood."""
        if self.error is None and (complaint := self.complaint()) is not None:
            self.error = complaint
            raise complaint
        return []

    def complaint(self) -> BadStream | None:
        """What there is to say if no more comes: what was expected, and what came. None where the
        stream is understood so far, or nothing has come."""
        raise NotImplementedError

    def _parse(self) -> Iterator[Event]:
        """The events that are complete in the buffer."""
        raise NotImplementedError

    def _retry(self, value: str | None) -> int | None:
        """The milliseconds of a retry field; what is not digits alone is ignored."""
        if value is None or not (value.isascii() and value.isdigit()):
            return None
        self.retry = int(value[:9])  # 11 days; and int() refuses what is longer than 4300 digits
        return self.retry

    def _skip_mark(self) -> bool:
        """Whether a byte order mark has been skipped or is not there; False: not yet known."""
        if not self._marked:
            self._marked = self._buffer.skip(_MARK) is not None
        return self._marked

    def _line_of_unknown(self) -> bytes | None:
        """A line of a stream of which nothing is understood yet. Raises the complaint where that
        has become too much."""
        try:
            return self._buffer.line(LF, MAXIMUM_UNKNOWN - self._unknown_size)
        except TooLarge as error:
            raise self.complaint() or error from None

    def _note_unknown(self, line: bytes) -> None:
        self._unknown_size = min(MAXIMUM_UNKNOWN, self._unknown_size + len(line) + 1)
        self._unknown_begin = (self._unknown_begin + line + b"\n")[: EXCERPT + 1]

    def _unknown(self, expected: str, begun: bytes) -> BadStream:
        return BadStream(f"expected {expected}, got {excerpt(self._unknown_begin + begun)}")

    def _check(self, size: int) -> None:
        if size > self._maximum:
            raise TooLarge(f"an event is larger than {self._maximum} bytes")


class Buffer:
    """Bytes that have come and are not read yet."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._searched = 0  # so many of them hold no line end
        self._after_cr = False

    def add(self, data: bytes) -> None:
        self._data += data

    def line(self, end: re.Pattern[bytes], maximum: int) -> bytes | None:
        """Takes a line, and gives it without its end; None where that has not come yet.

        A CR, where it is an end, ends the line at once; an LF that follows it belongs to it.
        """
        if self._after_cr and self._data:
            self._after_cr = False
            self.skip(b"\n")
        found = end.search(self._data, self._searched)
        length = len(self._data) if found is None else found.start()
        if length > maximum:
            raise TooLarge(f"a line is longer than {maximum} bytes")
        if found is None:
            self._searched = length
            return None
        line = self.take(length)
        self._after_cr = self._data[0] == 0x0D
        del self._data[:1]
        return line

    def take(self, length: int) -> bytes | None:
        """Takes so many bytes; None where they have not all come yet."""
        if len(self._data) < length:
            return None
        with memoryview(self._data) as view:
            data = bytes(view[:length])
        # Cheap: a bytearray remembers where it begins, and does not move what is left.
        del self._data[:length]
        self._searched = 0
        return data

    def drop_blanks_after(self, prefix: bytes) -> None:
        """Forgets the spaces behind `prefix`, if that and those are all that has come."""
        if self._data.startswith(prefix) and self._data.rstrip(b" ") == prefix:
            del self._data[len(prefix) :]
            self._searched = len(prefix)

    def peek(self, length: int) -> bytes:
        """At most so many bytes of what comes next, without taking them."""
        return bytes(self._data[:length])

    def skip(self, prefix: bytes) -> bool | None:
        """Takes `prefix` away, if it is what comes; None where that cannot be said yet."""
        if self._data.startswith(prefix):
            del self._data[: len(prefix)]
            return True
        return None if prefix.startswith(self._data) else False
