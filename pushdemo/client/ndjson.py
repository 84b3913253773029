"""`application/x-ndjson`, read: each line a JSON object (RFC 8259).

Its other names are in `formats`. What is taken besides: a byte order mark, the record separators of
RFC 7464 (`application/json-seq`) where a record is one line, and several objects on one line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pushdemo.client.errors import EXCERPT, BadStream
from pushdemo.client.event import Event, read_json, read_notice
from pushdemo.client.parser import LF, Parser

_AROUND = b"\x1e \t\r"
_DECODER = json.JSONDecoder()


class NdJsonParser(Parser):
    """Spaces before an object are heartbeats, and so are empty lines; a last line without its end
    is dropped, since a number could go on."""

    def _parse(self) -> Iterator[Event]:
        if not self._skip_mark():
            return
        while (line := self._buffer.line(LF, self._maximum)) is not None:
            if text := line.strip(_AROUND):
                for record in _records(text):
                    if (event := self._event(record)) is not None:
                        yield event

    def complaint(self) -> BadStream | None:
        begun = self._buffer.peek(EXCERPT + 1).lstrip(_AROUND)
        if not self._marked or not begun or begun.startswith(b"{") or self._given:
            return None
        return self._unknown("a JSON object on a line", begun)

    def _event(self, record: Any) -> Event | None:
        if not isinstance(record, dict):
            raise BadStream(f"a line holds {type(record).__name__} where an object is due")
        event_id, feed, computed = (record.get(key) for key in ("id", "feed", "computed"))
        kind = record.get("event", "message")
        if kind == "retry":  # when to come back: there is nothing to see in it
            self._retry(str(record.get("retry")))
            return None
        if isinstance(event_id, str):
            self.last_event_id = event_id
        return Event(
            id=event_id if isinstance(event_id, str) else None,
            feed=feed if isinstance(feed, str) else None,
            type=str(kind),
            value=record.get("value") if kind == "message" else read_notice(record),
            content_type="application/json",
            computed=float(computed) if isinstance(computed, int | float) else None,
        )


def _records(line: bytes) -> list[Any]:
    """What a line holds: one JSON text, or several objects one after another."""
    try:
        return [read_json(line)]
    except BadStream:
        if (records := _objects(line)) is None:
            raise
        return records


def _objects(line: bytes) -> list[dict[str, Any]] | None:
    text, at = line.decode("utf-8", "replace"), 0
    records = []
    while at < len(text):
        try:
            record, at = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            return None
        if not isinstance(record, dict):
            return None
        records.append(record)
        while text[at : at + 1] in (" ", "\t"):
            at += 1
    return records
