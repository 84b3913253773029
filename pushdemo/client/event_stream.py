"""`text/event-stream`, read as WHATWG HTML has it (section 9.2.6)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pushdemo.client.errors import BadStream
from pushdemo.client.event import Event, read_json, read_notice
from pushdemo.client.parser import ANY_END, MAXIMUM, Parser

_BOM = b"\xef\xbb\xbf"


class EventStreamParser(Parser):
    """On streams of several feeds the type of an event is its feed's name, so here "reset", "error"
    and "message" are types, and every other is a feed."""

    def __init__(self, *, maximum: int = MAXIMUM) -> None:
        super().__init__(maximum=maximum)
        self._begun = False
        self._id: str | None = None
        self._clear()

    def _clear(self) -> None:
        self._type = ""
        self._data: list[str] = []
        self._size = 0
        self._retry_of_event: int | None = None

    def _parse(self) -> Iterator[Event]:
        if not self._begun:
            if self._buffer.skip(_BOM) is None:
                return
            self._begun = True
        while (line := self._buffer.line(ANY_END, self._maximum)) is not None:
            if line:
                self._field(line)
                continue
            # Not before: to resume after an event that broke off would be to lose it.
            self.last_event_id = self._id
            if (event := self._dispatch()) is not None:
                yield event

    def _field(self, line: bytes) -> None:
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


def _record(data: str) -> dict[str, Any]:
    """The JSON object that tells more of an event; text of any other kind is its message."""
    try:
        record = read_json(data)
    except BadStream:
        record = None
    return record if isinstance(record, dict) else {"message": data}
