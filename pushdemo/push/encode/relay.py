"""What one pushdemo sends another: everything there is to say of an event.

Lines, each a JSON object, as in ndjson.py. An event's has also

    after     the id of the event before it; empty where there was none
    type      of bytes, their media type. Their value is base64 (RFC 4648, section 4)
    text      true where the value is text, and not data that is a string

No other client needs it, and so none is offered it. It is of one feed: the events of several have
ids of their own, which follow no others.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass

from pushdemo.push.compute.payload import Blob, Data, Text
from pushdemo.push.encode.json import on_one_line
from pushdemo.push.encode.ndjson import NdJson
from pushdemo.push.event import Event


@dataclass(frozen=True)
class Relay(NdJson):
    """See the module."""

    content_type = "application/vnd.pushdemo.relay"

    def encode(self, event: Event) -> bytes:
        head: dict[str, object] = {
            "id": event.id,
            "after": event.after,
            "feed": event.feed,
            "computed": event.value.computed,
            "took": event.value.took,
        }
        match event.value.payload:
            case Text(text):
                head["text"], value = True, json.dumps(text, ensure_ascii=False)
            case Data(encoded):
                value = encoded
            case Blob(data, content_type):
                head["type"], value = content_type, f'"{base64.b64encode(data).decode()}"'
        said = json.dumps(head, ensure_ascii=False, separators=(",", ":"))
        return on_one_line(f'{said[:-1]},"value":{value}}}').encode() + b"\n"
