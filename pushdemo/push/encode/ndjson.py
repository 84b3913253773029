"""`application/x-ndjson`: a line with a JSON object for each event.

There are no empty lines: readers that parse each line as JSON fail at one. They accept spaces
before an object (RFC 8259, section 2).
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from pushdemo.push.encode.json import json_of, on_one_line
from pushdemo.push.encode.status import status_json
from pushdemo.push.event import Event, FeedStatus


@dataclass(frozen=True)
class NdJson:
    """The object has the event's id, its feed's name, the time when the computation of its value
    began (seconds since the epoch), how long that took (seconds), and the value. The format cannot
    carry bytes.
    """

    content_type = "application/x-ndjson"
    content_encoding = None
    opening = b""
    heartbeat = b" "
    reset = b'{"event":"reset"}\n'

    def encode(self, event: Event) -> bytes:
        value = json_of(event)
        head = json.dumps(
            {
                "id": event.id,
                "feed": event.feed,
                "computed": round(event.value.computed, 6),
                "took": round(event.value.took, 6),
            },
            ensure_ascii=False,
            separators=(",", ":"),
        )
        return on_one_line(f'{head[:-1]},"value":{value}}}').encode() + b"\n"

    def encode_status(self, status: FeedStatus) -> bytes:
        return status_json(status).encode() + b"\n"

    def come_back(self, milliseconds: int) -> bytes:
        return f'{{"event":"retry","retry":{milliseconds}}}\n'.encode()

    def last(self, frame: bytes) -> bytes:
        return frame
