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
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pushdemo.client.errors import BadStream, TooLarge
from pushdemo.client.event import Event

# Larger than what anybody pushes on purpose, smaller than what hurts.
MAXIMUM = 16 * 1024 * 1024

LF = re.compile(rb"\n")
ANY_END = re.compile(rb"[\r\n]")


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

    def feed(self, data: bytes) -> list[Event]:
        """The events that these bytes complete. Raises BadStream, but not before the events that
        stood before the error were returned: then the next call does, and `error` says it now."""
        if self.error is not None:
            raise self.error
        events: list[Event] = []
        self._buffer.add(data)
        try:
            for event in self._parse():
                events.append(event)  # noqa: PERF402  # one by one: an error leaves those before it
        except BadStream as error:
            self.error = error
            self._buffer = Buffer()
            if not events:
                raise
        return events

    def close(self) -> list[Event]:
        """To be called when the response has ended: what is complete by that. An event of which
        something is missing is none."""
        return []

    def _parse(self) -> Iterator[Event]:
        """The events that are complete in the buffer."""
        raise NotImplementedError

    def _retry(self, value: str | None) -> int | None:
        """The milliseconds of a retry field; what is not digits alone is ignored."""
        if value is None or not (value.isascii() and value.isdigit()):
            return None
        self.retry = int(value[:9])  # 11 days; and int() refuses what is longer than 4300 digits
        return self.retry

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

    def holds(self, data: bytes) -> bool:
        """Whether this, and nothing else, has come."""
        return self._data == data

    def skip(self, prefix: bytes) -> bool | None:
        """Takes `prefix` away, if it is what comes; None where that cannot be said yet."""
        if self._data.startswith(prefix):
            del self._data[: len(prefix)]
            return True
        return None if prefix.startswith(self._data) else False
