"""`text/event-stream`, read as WHATWG HTML has it (section 9.2.6).

One thing is refused that the standard ignores: a stream in which no line is a field or a comment is
something else, of another name.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pushdemo.client.errors import EXCERPT, BadStream
from pushdemo.client.event import Event, read_json, read_notice
from pushdemo.client.parser import ANY_END, MAXIMUM, MAXIMUM_UNKNOWN, Parser

_FIELDS = (b"data", b"event", b"id", b"retry")


class EventStreamParser(Parser):
    """On streams of several feeds the type of an event is its feed's name, so here "reset", "error"
    and "message" are types, and every other is a feed."""

    def __init__(self, *, maximum: int = MAXIMUM) -> None:
        super().__init__(maximum=maximum)
        self._understood = False  # a line was a field, or a comment
        self._id: str | None = None
        self._clear()

    def _clear(self) -> None:
        self._type = ""
        self._data: list[str] = []
        self._size = 0
        self._retry_of_event: int | None = None

    def _parse(self) -> Iterator[Event]:
        if not self._skip_mark():
            return
        while (line := self._buffer.line(ANY_END, self._maximum)) is not None:
            if line:
                self._field(line)
                continue
            # Not before: to resume after an event that broke off would be to lose it.
            self.last_event_id = self._id
            if (event := self._dispatch()) is not None:
                yield event

    def complaint(self) -> BadStream | None:
        begun = self._buffer.peek(EXCERPT + 1)
        if self._understood or not self._marked or not (self._unknown_size or begun):
            return None
        if not self._unknown_size and _may_be_field(begun):
            return None
        return self._unknown("a field such as 'data: ...'", begun)

    def _understand(self, line: bytes) -> None:
        self._understood = line.partition(b":")[0] in (b"", *_FIELDS)
        if not self._understood:
            self._note_unknown(line)
            if self._unknown_size == MAXIMUM_UNKNOWN and (complaint := self.complaint()):
                raise complaint

    def _field(self, line: bytes) -> None:
        if not self._understood:
            self._understand(line)
        name, _, value = line.decode("utf-8", "replace").partition(":")
        value = value.removeprefix(" ")
        match name:
            case "data":
                self._data.append(value)
                self._size += len(line)
                self._check(self._size)
            case "event":
                self._type = value
            case "id":
                if "\0" not in value:
                    self._id = value
            case "retry":
                self._retry_of_event = self._retry(value)
            # Any other is ignored, and so is "": a comment.

    def _dispatch(self) -> Event | None:
        kind, lines, retry = self._type or "message", self._data, self._retry_of_event
        self._clear()
        if not lines:
            return None
        data = "\n".join(lines)
        if kind in ("reset", "error"):
            record = _record(data)
            feed, notice = record.get("feed"), read_notice(record)
            return Event(self._id, feed, kind, notice, "application/json", retry=retry)
        feed = None if kind == "message" else kind
        return Event(self._id, feed, "message", data, "text/plain", retry=retry)


def _may_be_field(begun: bytes) -> bool:
    """Whether an unfinished line may yet become a field or a comment."""
    name = begun.partition(b":")[0]
    return name in (b"", *_FIELDS) or any(field.startswith(begun) for field in _FIELDS)


def _record(data: str) -> dict[str, Any]:
    """The JSON object that tells more of an event; text of any other kind is its message."""
    try:
        record = read_json(data)
    except BadStream:
        record = None
    return record if isinstance(record, dict) else {"message": data}
