"""`application/x-ndjson`, read: each line a JSON object (RFC 8259)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pushdemo.client.errors import BadStream
from pushdemo.client.event import Event, read_json, read_notice
from pushdemo.client.parser import LF, Parser


class NdJsonParser(Parser):
    """Spaces before an object are heartbeats, and so are empty lines; a last line without its end
    is dropped, since a number could go on."""

    def _parse(self) -> Iterator[Event]:
        while (line := self._buffer.line(LF, self._maximum)) is not None:
            if line.strip():
                yield self._event(read_json(line))

    def _event(self, record: Any) -> Event:
        if not isinstance(record, dict):
            raise BadStream(f"a line holds {type(record).__name__} where an object is due")
        event_id, feed, computed = (record.get(key) for key in ("id", "feed", "computed"))
        kind = record.get("event", "message")
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
