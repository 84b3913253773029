"""`text/event-stream` (WHATWG HTML, section 9.2): what EventSource reads.

An empty line ends an event and is sent nowhere else: httpx-sse, fetch-event-source and others make
an event of each. A comment is never the first line of an event: readers that split a stream at its
empty lines, such as IKEventSource, take an event that begins with a colon for a comment, and drop
it.
"""

from __future__ import annotations

from dataclasses import dataclass

from pushdemo.push.compute.payload import Blob, Data, Text
from pushdemo.push.encode.json import on_one_line
from pushdemo.push.encode.status import status_json, status_name
from pushdemo.push.event import CannotCarry, Event, FeedStatus


@dataclass(frozen=True)
class EventStream:
    """Text is sent as it is, and data as JSON. The format has only lines of text: it cannot carry
    bytes, and a CR in a text arrives as LF.

    retry: milliseconds after which a client should reconnect when the stream breaks.
    named: each event's type is its feed's name.
    """

    retry: int = 2000
    named: bool = False

    content_type = "text/event-stream"
    content_encoding = None
    reset = b'event: reset\ndata: {"event":"reset"}\n\n'

    @property
    def opening(self) -> bytes:
        return f"retry: {self.retry}\n".encode()

    @property
    def heartbeat(self) -> bytes:
        return self.opening  # every client knows the field, and repeating it changes nothing

    def encode(self, event: Event) -> bytes:
        match event.value.payload:
            case Text(text):
                # It ends at these and at no others, so not `splitlines`.
                text = text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
                data = text.replace("\n", "\ndata: ") if "\n" in text else text
            case Data(encoded):
                data = on_one_line(encoded)
            case Blob():
                raise CannotCarry
        # In a comment, because the format has no field for it, and data has the value only.
        when = f": computed={event.value.computed:.6f} took={event.value.took:.6f}"
        name = f"event: {event.feed}\n" if self.named else ""
        return f"id: {event.id}\n{when}\n{name}data: {data}\n\n".encode()

    def encode_status(self, status: FeedStatus) -> bytes:
        return f"event: {status_name(status)}\ndata: {status_json(status)}\n\n".encode()

    def come_back(self, milliseconds: int) -> bytes:
        # It counts as soon as the line is read (WHATWG HTML, section 9.2.6).
        return f"retry: {milliseconds}\n".encode()

    def last(self, frame: bytes) -> bytes:
        return frame
