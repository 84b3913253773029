"""`application/vnd.pushdemo.relay`, read: what one pushdemo sends another. See
pushdemo.push.encode.relay for the format."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any

from pushdemo.client.errors import BadStream
from pushdemo.client.event import Event
from pushdemo.client.ndjson import NdJsonParser

CONTENT_TYPE = "application/vnd.pushdemo.relay"


@dataclass(frozen=True)
class RelayedEvent(Event):
    """An event, and all that its server knows of it.

    after: the id of the event before it.
    took: seconds that its computation took.
    is_text: its value is text, and not data that is a string.
    """

    after: str = ""
    took: float = 0.0
    is_text: bool = False


class RelayParser(NdJsonParser):
    """Its messages are RelayedEvents."""

    def _event(self, record: Any) -> Event | None:
        event = super()._event(record)
        if event is None or event.type != "message":
            return event
        after, took, kind = record.get("after"), record.get("took"), record.get("type")
        if event.id is None or not isinstance(after, str) or event.computed is None:
            raise BadStream("an event has no id, after and computed")
        value = event.value
        if kind is not None:
            try:
                value = base64.b64decode(value, validate=True)
            except (binascii.Error, TypeError, ValueError):
                raise BadStream("the value of an event with a type is no base64") from None
        return RelayedEvent(
            id=event.id,
            feed=event.feed,
            value=value,
            content_type=str(kind) if kind is not None else "application/json",
            computed=event.computed,
            after=after,
            took=float(took) if isinstance(took, int | float) else 0.0,
            is_text=record.get("text") is True,
        )
